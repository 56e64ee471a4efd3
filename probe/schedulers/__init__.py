"""Spread work over processes: of this machine, of a Dask cluster, or of a Ray cluster.

    Workers            what a person types, as ``loky:4`` or ``dask://host:8786``, opened on demand
    spread             blocks of work to workers, and again where a worker dies, hangs or fails
    fitting_on         within it joblib's loops, as those of heads, run on a scheduler's workers
    one_thread_each    the context of these loops where nobody named a scheduler

base           what a scheduler has to offer
named          the scheduler that a text means
worker         what runs in a worker
spread         the loop that hands out blocks and takes results
loky, dask, ray
               one scheduler each; only these import the packages they are named after
"""

from probe.schedulers.base import Scheduler
from probe.schedulers.named import (
    SCHEDULERS,
    Workers,
    check_scheduler,
    fitting_on,
    one_thread_each,
    workers_called,
)
from probe.schedulers.spread import Rate, spread
from probe.schedulers.worker import Task

__all__ = [
    "SCHEDULERS",
    "Rate",
    "Scheduler",
    "Task",
    "Workers",
    "check_scheduler",
    "fitting_on",
    "one_thread_each",
    "spread",
    "workers_called",
]
