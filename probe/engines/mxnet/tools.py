"""The parts of MXNet that fine-tuning and export get from `probe.engines.load_mxnet`."""

from probe.engines.mxnet.eager import apply_nodes, variables
from probe.engines.mxnet.mx import mx, threads
from probe.engines.mxnet.threads import limit_threads

__all__ = ["apply_nodes", "limit_threads", "mx", "threads", "variables"]
