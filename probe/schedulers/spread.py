"""Hand out blocks of work and take the results, whatever happens to the workers.

A block whose worker dies is handed out again; so is one that takes much longer than all others, to
another worker, and whoever is first counts. A block that raises is tried twice more, after a pause,
before its error is believed: files may be out of reach for a moment. Results come in the order
in which they are ready.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field
from typing import Any

from probe.core.text import counted
from probe.errors import EngineError, ProbeError
from probe.schedulers.base import Scheduler
from probe.schedulers.worker import Result, Task, all_versions, do_block

log = logging.getLogger(__name__)

AHEAD = 2  # blocks a worker: one that it computes, and one that waits
PAUSES = (1.0, 10.0)  # seconds until a block that raised is tried again; then it is believed
TRIES = 3  # workers that may take too long for a block before all is started again
LOSSES = 10  # times that workers were lost, with no result between, before all is given up
SLOW = 10.0  # times the slowest block so far, after which another worker gets a block, too
LEAST_PATIENCE = 60.0  # seconds; no block is handed out again earlier
FIRST_PATIENCE = 900.0  # seconds, while no worker has returned one: each reads weights first
LOOKED_EVERY = 1.0  # seconds


@dataclass
class Rate:
    """How fast a worker is.

    Parameters
    ----------
    rows : int
        In the blocks that it returned.
    seconds : float
        What these took.
    """

    rows: int = 0
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Rows a second while it computed."""
        return self.rows / self.seconds if self.seconds else 0.0


@dataclass
class _Block:
    """A block that is not done yet, and the workers that have it."""

    number: int
    data: bytes
    rows: int
    errors: list[ProbeError] = field(default_factory=list)
    since: float = 0.0
    futures: list[Future[Result]] = field(default_factory=list)


def spread(
    scheduler: Scheduler,
    task: Task,
    blocks: Iterator[tuple[Any, int]],
    *,
    watch: Callable[[dict[str, Rate]], None] | None = None,
    patience: float | None = None,
) -> Iterator[tuple[int, Any, float]]:
    """Do the blocks of a task on a scheduler's workers.

    Parameters
    ----------
    blocks : iterator of (block, rows)
        What the task's function takes, and how many rows that is. It is asked for the next one
        when a worker has room, so that later blocks may depend on how long earlier ones took.
    watch : callable, optional
        Told the rate of each worker, ``host:pid``, whenever a block is done.
    patience : float, optional
        Seconds after which a block is handed to another worker, too. Default: ten times what the
        slowest block took, and at least a minute.

    Yields
    ------
    number : int
        Of the block, from 0, in the order of `blocks`; each once.
    value
        What the task's function returned.
    seconds : float
        How long it took.

    Raises
    ------
    ProbeError
        A block raised it three times.
    EngineError
        Workers cannot import what they need, have other versions of it, or die one after another.
    """
    loop = _Loop(scheduler, task, patience)
    numbered = enumerate(blocks)
    more = True
    while more or loop.open:
        while more and len(loop.open) < AHEAD * max(scheduler.workers, 1):
            try:
                number, (block, rows) = next(numbered)
            except StopIteration:
                more = False
                break
            loop.add(_Block(number, _pickled(block), rows))
        for block, result in loop.results():
            if watch is not None:
                watch(loop.rates)
            yield block.number, result.value, result.seconds


class _Loop:
    def __init__(self, scheduler: Scheduler, task: Task, patience: float | None) -> None:
        self._scheduler = scheduler
        self._bytes = _pickled(task)
        self._key = hashlib.blake2b(self._bytes, digest_size=16).hexdigest()
        self._patience, self._slowest, self._lost = patience, 0.0, 0
        self._handle = self._shared()
        self._here = all_versions(task)
        self._of: dict[Future[Result], _Block] = {}
        self._again: list[tuple[float, _Block]] = []  # to be handed out then
        self.open: dict[int, _Block] = {}
        self.rates: dict[str, Rate] = {}

    def add(self, block: _Block) -> None:
        """Hand out a new block."""
        self.open[block.number] = block
        self._hand(block)

    def _hand(self, block: _Block, avoid: Future[Result] | None = None) -> None:
        block.since = time.monotonic()
        future = self._scheduler.submit(do_block, self._handle, self._key, block.data, avoid=avoid)
        block.futures.append(future)
        self._of[future] = block

    def results(self) -> Iterator[tuple[_Block, Result]]:
        """Wait a moment; yield blocks that are done, and hand out again those that are lost."""
        if not self._of:
            time.sleep(LOOKED_EVERY)
        ready, _ = wait(self._of, timeout=LOOKED_EVERY, return_when=FIRST_COMPLETED)
        now = time.monotonic()
        lost: list[BaseException] = []
        for future in ready:
            block = self._of.pop(future)
            block.futures.remove(future)
            if block.number not in self.open:
                continue  # another worker was first
            try:
                result = future.result()
            except ImportError as error:
                raise EngineError(
                    f"a worker of {self._scheduler.name} cannot import {error.name}: install the "
                    "same probe, and the packages beside it, wherever workers run"
                ) from error
            except ProbeError as error:  # the task could not be opened there
                self._try_again(block, error, now)
                continue
            except (Exception, CancelledError) as error:
                lost.append(error)
                self._again += [] if block.futures else [(now, block)]
                continue
            self._check_versions(result)
            if result.error is not None:
                self._try_again(block, result.error, now)
                continue
            self._done(block, result)
            yield block, result
        alive = self._scheduler.is_alive()
        if lost or not alive:
            self._note(lost[0] if lost else ConnectionError("no connection"))
        if not alive:
            self._start_again()
            return
        due = [one for one in self._again if one[0] <= now]
        self._again = [one for one in self._again if one[0] > now]
        for _, block in due:
            if block.number in self.open:
                self._hand(block)
        self._hurry()

    def _try_again(self, block: _Block, error: ProbeError, now: float) -> None:
        """Have a block tried once more, after a pause; raise its error where it was enough."""
        block.errors.append(error)
        log.info("tried again: %s", error)
        if len(block.errors) > len(PAUSES):
            raise error
        self._again.append((now + PAUSES[len(block.errors) - 1], block))

    def _done(self, block: _Block, result: Result) -> None:
        del self.open[block.number]
        for late in block.futures:
            late.cancel()
        self._lost, self._slowest = 0, max(self._slowest, result.seconds)
        rate = self.rates.setdefault(result.worker, Rate())
        rate.rows, rate.seconds = rate.rows + block.rows, rate.seconds + result.seconds

    def _note(
        self,
        error: BaseException,
        what: str = "a worker was lost (%s); its images are handed to another",
    ) -> None:
        """Count a loss; raise where there are only losses."""
        self._lost += 1
        said = " ".join([type(error).__name__, *str(error).split()])[:200]
        log.warning(what, said)
        if self._lost >= LOSSES:
            raise EngineError(
                f"workers of {self._scheduler.name} were lost {self._lost} times one after another "
                f"and returned nothing between, last with {said}; they may lack memory"
            ) from error

    def _check_versions(self, result: Result) -> None:
        if result.versions != self._here:
            name = next(
                one for one in (*self._here, *result.versions)
                if self._here.get(one) != result.versions.get(one)
            )  # fmt: skip
            there, here = (each.get(name, "not at all") for each in (result.versions, self._here))
            raise EngineError(
                f"worker {result.worker} has {name} {there}, this process {here}: rows could "
                "differ; install the same versions"
            )

    def _start_again(self) -> None:
        """Start or connect again, and hand out all blocks that are not done."""
        log.warning("%s is gone; starting again, with what was finished kept", self._scheduler.name)
        for future in self._of:
            future.cancel()
        self._of.clear()
        self._again.clear()
        self._scheduler.restart()
        self._handle = self._shared()
        for block in self.open.values():
            block.futures.clear()
            self._hand(block)

    def _shared(self) -> Any:
        """Send the task to the workers, again where they are lost meanwhile."""
        while True:
            try:
                return self._scheduler.share(self._bytes)
            except Exception as error:
                of_files = isinstance(error, OSError) and not isinstance(error, ConnectionError)
                if of_files or isinstance(error, ProbeError):
                    raise
                self._note(error, "the task could not be sent (%s); it is sent again")
                self._scheduler.restart()

    def _hurry(self) -> None:
        """Hand blocks that take too long to another worker, too."""
        patience = self._patience
        if patience is None:
            slow = max(SLOW * self._slowest, LEAST_PATIENCE)
            patience = slow if self.rates else FIRST_PATIENCE
        now = time.monotonic()
        late = [
            block for block in self.open.values()
            if block.futures and now - block.since > patience
        ]  # fmt: skip
        if any(len(block.futures) >= TRIES for block in late):
            self._note(TimeoutError(f"no answer in {patience:.0f} s from {TRIES} workers"))
            self._start_again()
            return
        for block in late:
            log.warning(
                "%s take much longer than others; another worker gets them, too",
                counted(block.rows, "image"),
            )
            self._hand(block, avoid=block.futures[-1])


def _pickled(value: Any) -> bytes:
    """Return bytes that another process can read, of functions of a script or notebook, too."""
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, TypeError, ValueError, AttributeError) as error:
        raise EngineError(
            f"cannot be sent to workers: {error}; a backbone that is a function of Python has to "
            "be one that pickle can copy, or leave the scheduler out"
        ) from error
    return data
