"""MLflow hears of runs: parameters, figures by epoch and at the end, and tags.

Where to is MLflow's own business: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, MLFLOW_RUN_ID and
the like, or what a program set by its functions. Within a run that is active, ours is a part of it.
Files stay where they are; the tag ``folder`` says where.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any

from probe.core.files import write_text
from probe.heads.history import Epoch
from probe.runs.listeners import Listener as Interface
from probe.runs.listeners import RunEnd, RunStart, Value, figures_of_epoch

RUN_ID = "mlflow.txt"  # in the folder of a fine-tuning, which may be resumed
STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
RETRIES = (
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
    "3",
)  # of MLflow's own 7 the last would take 2 minutes
REFUSED = re.compile(r"[^/\w.\- ]")  # in names of metrics and parameters, on every system
LONGEST = 5000  # characters of a tag or a parameter, which MLflow limits


class Listener(Interface):
    """Makes an MLflow run of each run; those of a bench's rows are within that of the bench."""

    def __init__(self) -> None:
        self._told: list[dict[str, str]] = []  # parameters of each run that has not ended
        self._epoch = 0

    def started(self, run: RunStart) -> None:
        """See `probe.Listener`."""
        with self._calling() as mlflow:
            mark = None if run.kind != "promote" or run.folder is None else run.folder / RUN_ID
            known = mark.read_text("utf-8").strip() if mark is not None and mark.is_file() else None
            active = mlflow.start_run(run_id=known, run_name=run.name, nested=True)
            self._told.append({})
            self._epoch = 0
            if mark is not None and known is None:
                write_text(mark, f"{active.info.run_id}\n")
            self._params(mlflow, run.params)
            place = {} if run.folder is None else {"folder": str(run.folder.resolve())}
            mlflow.set_tags({name: text[:LONGEST] for name, text in {**run.tags, **place}.items()})

    def epoch(self, epoch: Epoch, steps: Sequence[Mapping[str, float]]) -> None:
        """See `probe.Listener`; batches are left out."""
        del steps
        with self._calling() as mlflow:
            self._epoch = epoch.epoch
            own = figures_of_epoch(epoch)
            mlflow.log_metrics(
                {_named(f"epoch/{name}"): own[name] for name in own}, step=epoch.epoch
            )

    def ended(self, end: RunEnd) -> None:
        """See `probe.Listener`."""
        with self._calling() as mlflow:
            if end.figures:
                own = {_named(name): value for name, value in end.figures.items()}
                mlflow.log_metrics(own, step=self._epoch)
            self._params(mlflow, end.params)
            if end.folder is not None:
                mlflow.set_tag("folder", str(end.folder.resolve()))
            if end.note:
                mlflow.set_tag("mlflow.note.content", end.note[:LONGEST])
            self._told.pop()
            mlflow.end_run(STATUS[end.status])

    def _params(self, mlflow: Any, params: Mapping[str, Value]) -> None:
        """Log those that are new: MLflow takes a parameter once."""
        new = {
            name: str(value)[:LONGEST]
            for name, value in ((_named(name), value) for name, value in params.items())
            if value is not None and name not in self._told[-1]
        }
        self._told[-1] |= new
        if new:
            mlflow.log_params(new)

    @contextmanager
    def _calling(self) -> Iterator[Any]:
        """Yield MLflow, which waits less for a server that is gone, and prints on stderr.

        Where a call fails, our runs are taken off MLflow's stack, so that no other is within them.
        """
        name, few = RETRIES
        before = os.environ.get(name)
        os.environ.setdefault(name, few)
        try:
            with redirect_stdout(sys.stderr):
                import mlflow

                try:
                    yield mlflow
                except Exception:
                    while self._told:
                        self._told.pop()
                        with suppress(Exception):
                            mlflow.end_run("FAILED")
                    raise
        finally:
            if before is None:
                os.environ.pop(name, None)


def _named(name: str) -> str:
    """Return a name that MLflow takes, as of a dataset called ``cats & dogs``."""
    return REFUSED.sub("_", name)
