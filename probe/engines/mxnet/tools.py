"""What other rooms use of MXNet itself, through `probe.engines.load_mxnet`: to train, to export."""

from probe.engines.mxnet.eager import apply_nodes, variables
from probe.engines.mxnet.mx import mx, threads
from probe.engines.mxnet.threads import limit_threads

__all__ = ["apply_nodes", "limit_threads", "mx", "threads", "variables"]
