"""The workers of a Ray cluster."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from probe.errors import EngineError
from probe.schedulers.base import connect_again

PATIENCE = 120.0  # seconds for a head that starts; its server for a client starts late


class RayScheduler:
    """A Ray cluster; see `probe.schedulers.base.Scheduler`.

    Each block takes one of the cluster's CPUs, as Ray counts them.

    Parameters
    ----------
    place : str or None
        ``HOST:PORT`` of its client server. None for the cluster that ``RAY_ADDRESS`` names, or one
        that is started on this machine.

    Raises
    ------
    EngineError
        Ray is not installed, or nobody answers there.
    """

    def __init__(self, name: str, place: str | None) -> None:
        try:
            import ray
        except ImportError as error:
            raise EngineError(
                f"--scheduler {name}: Ray is not installed; `pip install 'frozen-probe[ray]'`"
            ) from error
        self._ray, self.name, self._place = ray, name, place
        self._found = ray.is_initialized()
        if not self._found:
            connect_again(self._connect, PATIENCE)
        self._remote = ray.remote(max_retries=0, num_cpus=1)(_with_threads)

    def _connect(self) -> None:
        address = None if self._place is None else f"ray://{self._place}"
        with contextlib.suppress(Exception):  # what is left of an attempt, or of a connection
            self._ray.shutdown()
        try:
            with warnings.catch_warnings():  # of what the error says, too
                warnings.simplefilter("ignore")
                self._ray.init(
                    address, log_to_driver=False, logging_level=logging.ERROR,
                    include_dashboard=False if address is None else None,
                )  # fmt: skip
        except Exception as error:
            there = "" if self._place is None else f" at {self._place}"
            said = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            known = isinstance(error, OSError | ValueError | RuntimeError)
            lost = error if known else ConnectionError(said)  # gRPC has exceptions of its own
            raise EngineError(
                f"--scheduler {self.name}: no Ray cluster answers{there} ({said[:160]}); start "
                "`ray start --head`; where it asks for a token, give it in RAY_AUTH_TOKEN"
            ) from lost

    @property
    def workers(self) -> int:
        """The number of the cluster's CPUs."""
        with contextlib.suppress(Exception):  # it is away: seen by is_alive
            return max(int(self._ray.cluster_resources().get("CPU", 1)), 1)
        return 1

    def share(self, payload: bytes) -> Any:
        """Put the bytes into the cluster's object store, from which each machine gets them once."""
        return self._ray.put(payload)

    def submit(
        self, work: Callable[..., Any], payload: Any, *arguments: Any, avoid: Any = None
    ) -> Future[Any]:
        """Have a worker call the function; see `Scheduler.submit`."""
        del avoid  # a worker that hangs keeps the CPU that it was given, and gets nothing else
        try:
            future: Future[Any] = self._remote.remote(work, payload, *arguments).future()
        except Exception as error:  # the cluster is away: seen by is_alive
            future = Future()
            future.set_exception(error)
        return future

    def is_alive(self) -> bool:
        """Whether the cluster answers."""
        try:
            return bool(self._ray.is_initialized() and self._ray.cluster_resources())
        except Exception:
            return False

    def restart(self) -> None:
        """Connect again, to a cluster that may need minutes to come back."""
        connect_again(self._connect)
        self._remote = self._ray.remote(max_retries=0, num_cpus=1)(_with_threads)

    @contextmanager
    def _fits(self) -> Any:
        from joblib import parallel_config
        from ray.util.joblib import register_ray

        register_ray()
        with parallel_config("ray", n_jobs=-1):
            yield

    def fits(self) -> AbstractContextManager[Any]:
        """Run joblib's loops on the cluster."""
        return self._fits()

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if not self._found:
            with contextlib.suppress(Exception):
                self._ray.shutdown()


def _with_threads(work: Callable[..., Any], payload: bytes, *arguments: Any) -> Any:
    """Call the function in a worker, on the one CPU that it was given."""
    return work(payload, 1, *arguments)
