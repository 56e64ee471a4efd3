"""The workers of a Dask cluster."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager
from functools import partial
from importlib.util import find_spec
from typing import Any

from probe.errors import EngineError
from probe.schedulers.base import connect_again

PATIENCE = 30.0  # seconds for a scheduler to answer and for a first worker to be there
MISSING = "{} has no probe; install the same one, and the packages beside it, wherever workers run"
ANSWER = 10.0  # seconds for a worker to answer, which hangs else
SLOWEST = 1e6  # bytes a second at which shared bytes should arrive at least
# of a cluster that is started here: by default each process spends 50 ms of CPU a second on these
QUIET = {
    "distributed.worker.profile.enabled": False,  # every 10 ms
    "distributed.admin.tick.interval": "1s",  # 20 ms
    "distributed.worker.memory.monitor-interval": "500ms",  # 100 ms
}


class DaskScheduler:
    """A Dask cluster; see `probe.schedulers.base.Scheduler`.

    Parameters
    ----------
    place : str or None
        ``HOST:PORT`` of its scheduler. None for the one that Dask's own settings name
        (``DASK_SCHEDULER_ADDRESS``), or a cluster of processes of this machine.

    Raises
    ------
    EngineError
        Dask is not installed, or nobody answers there.
    """

    def __init__(self, name: str, place: str | None) -> None:
        try:
            import dask
            import distributed
        except ImportError as error:
            raise EngineError(
                f"--scheduler {name}: Dask is not installed; `pip install 'frozen-probe[dask]'`"
            ) from error
        for talkative in ("distributed", "distributed.client", "tornado"):  # what matters is told
            logging.getLogger(talkative).setLevel(logging.CRITICAL)
        self._dask, self._distributed, self.name, self._place = dask, distributed, name, place
        self._client: Any = None
        self._broken = False
        self._of: dict[Future[Any], Any] = {}
        self._connect(PATIENCE)

    def _connect(self, patience: float) -> None:
        address = None if self._place is None else f"tcp://{self._place}"
        self._broken = False
        try:
            with self._dask.config.set(QUIET):
                self._client = self._distributed.Client(
                    address, timeout=patience, set_as_default=False
                )
            self._client.wait_for_workers(1, timeout=patience)
        except (OSError, ValueError, TimeoutError) as error:
            self.close()
            there = "" if self._place is None else f" at {self._place}"
            raise EngineError(
                f"--scheduler {self.name}: no Dask cluster with a worker answers{there} "
                f"({' '.join(str(error).split())[:160]}); start `dask scheduler` and `dask worker`"
            ) from error

    @property
    def workers(self) -> int:
        """The number of threads of all workers."""
        with contextlib.suppress(Exception):  # it is away: seen by is_alive
            return max(int(sum(self._client.nthreads().values())), 1)
        return 1

    def share(self, payload: bytes) -> Any:
        """Send the bytes to all workers that answer; others have them from these, when needed."""
        client, patience = self._client, PATIENCE + len(payload) / SLOWEST
        try:
            there = client.sync(self._answering)
            scatter = partial(
                client.scatter, payload, there, broadcast=True, hash=False, asynchronous=True
            )
            return client.sync(scatter, callback_timeout=patience)
        except EngineError:
            raise
        except Exception:  # the scheduler, or one of these workers, is gone
            self._broken = True
            return None

    async def _answering(self) -> list[str]:
        """Return the workers that do not hang; raise EngineError where probe is missing."""
        if not await self._client.run_on_scheduler(find_spec, "probe"):  # which unpickles, too
            raise EngineError(f"{self.name}: {MISSING.format('its scheduler')}")
        there = list(await self._client.nthreads())
        asked = [
            asyncio.wait_for(
                self._client.run(find_spec, "probe", workers=[worker], asynchronous=True), ANSWER
            )
            for worker in there
        ]
        said = await asyncio.gather(*asked, return_exceptions=True)
        answers = {
            worker: one[worker] for worker, one in zip(there, said, strict=True)
            if not isinstance(one, BaseException)
        }  # fmt: skip
        for worker, found in answers.items():
            if not found:
                raise EngineError(f"{self.name}: {MISSING.format(f'worker {worker}')}")
        return list(answers)

    def submit(
        self, work: Callable[..., Any], payload: Any, *arguments: Any, avoid: Any = None
    ) -> Future[Any]:
        """Have a worker call the function; see `Scheduler.submit`."""
        made: Future[Any] = Future()
        others = [] if avoid is None else self._others(self._of.get(avoid))
        elsewhere = {"workers": others, "allow_other_workers": True} if others else {}
        try:
            sent = self._client.submit(
                _with_threads, work, payload, *arguments, pure=False, **elsewhere
            )
        except Exception as error:  # the scheduler is away
            self._broken = True
            made.set_exception(error)
            return made
        self._of[made] = sent

        def ended(_: Any) -> None:
            try:
                if sent.cancelled():
                    raise CancelledError("its scheduler, or what was shared, is gone")
                value = sent.result(timeout=PATIENCE)
            except (Exception, CancelledError) as error:
                self._broken |= sent.cancelled() and not made.cancelled()
                _finish(made, error=error)
            else:
                _finish(made, value=value)

        def forget(_: Any) -> None:
            self._of.pop(made, None)
            sent.release()

        sent.add_done_callback(ended)
        made.add_done_callback(forget)
        return made

    def _others(self, slow: Any) -> list[str]:
        """Return the workers that do not have a block, so that one of them may take it."""
        try:
            having = [
                worker for worker, keys in self._client.processing().items()
                if slow is not None and slow.key in map(str, keys)
            ]  # fmt: skip
            return [worker for worker in self._client.nthreads() if worker not in having]
        except Exception:  # the scheduler is away: seen by is_alive
            return []

    def is_alive(self) -> bool:
        """Whether the scheduler answers and what was shared is still held by a worker."""
        return not self._broken and self._client.status == "running"

    def restart(self) -> None:
        """Connect again, to a scheduler that may need minutes to come back."""
        self.close()
        connect_again(partial(self._connect, PATIENCE))

    def fits(self) -> AbstractContextManager[Any]:
        """Run joblib's loops on the cluster."""
        from joblib import parallel_config

        context: AbstractContextManager[Any] = parallel_config(
            "dask", client=self._client, n_jobs=-1
        )
        return context

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                client.close(timeout=5)
        self._of.clear()


def _with_threads(work: Callable[..., Any], payload: bytes, *arguments: Any) -> Any:
    """Call the function in a worker, with the number of its threads."""
    from distributed import get_worker

    return work(payload, get_worker().state.nthreads, *arguments)


def _finish(made: Future[Any], *, value: Any = None, error: BaseException | None = None) -> None:
    if made.cancelled() or not made.set_running_or_notify_cancel():
        return
    if error is None:
        made.set_result(value)
    else:
        made.set_exception(error)
