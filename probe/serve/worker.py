"""Run the network in one thread, since MXNet's compiled networks are not thread-safe."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass

from probe.bundle import Bundle
from probe.core.short_repr import short_repr
from probe.datasets.images.decode import WithinMemory, decode
from probe.datasets.images.notes import Notes
from probe.predict import Prediction, Predictor
from probe.predict.explain import nearest_remembered
from probe.predict.explanation import Neighbour
from probe.predict.stream import prediction_of
from probe.serve.limits import STOPPING, Limits, RefusedError, check_pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """The prediction for one image, and how it was made.

    Parameters
    ----------
    notes : tuple of str
        Unusual properties of the image, a sentence each.
    seconds : float
        Time of decoding and of the network, without waiting.
    """

    __repr__ = short_repr

    prediction: Prediction
    neighbours: tuple[Neighbour, ...]
    notes: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True, eq=False)
class _Task:
    __repr__ = short_repr

    data: bytes
    top_k: int
    neighbours: int
    answer: Future[Answer]


class Worker:
    """Answers images one after another; images wait encoded, and one at a time is decoded.

    Parameters
    ----------
    bundle : Bundle
        Only this thread may use it from now on.
    """

    def __init__(self, bundle: Bundle, limits: Limits) -> None:
        self._bundle, self._limits, self._predictor = bundle, limits, Predictor([bundle])
        self._tasks: queue.Queue[_Task | None] = queue.Queue(maxsize=limits.queue)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="network", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Return the number of images in the queue."""
        return self._tasks.qsize()

    @property
    def alive(self) -> bool:
        """Return whether the thread is running."""
        return self._thread.is_alive()

    def submit(self, data: bytes, *, top_k: int, neighbours: int) -> Future[Answer]:
        """Queue an encoded image.

        Raises
        ------
        RefusedError
            Too many are waiting, or the server is being stopped.
        """
        task = _Task(data=data, top_k=top_k, neighbours=neighbours, answer=Future())
        if self._stopping:
            raise STOPPING
        try:
            self._tasks.put_nowait(task)
        except queue.Full:
            raise RefusedError(503, "busy", "too many images are waiting; try again", 1) from None
        return task.answer

    def stop(self) -> None:
        """Refuse waiting and new images; finish the current one."""
        self._stopping = True
        while True:
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                return
            if task is not None and task.answer.set_running_or_notify_cancel():
                task.answer.set_exception(STOPPING)

    def close(self) -> None:
        """Finish the current image and stop the thread."""
        self.stop()
        self._tasks.put(None)
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            if not task.answer.set_running_or_notify_cancel():
                continue  # the client has gone
            try:
                task.answer.set_result(self._answer(task))
            except BaseException as error:
                task.answer.set_exception(error)

    def _answer(self, task: _Task) -> Answer:
        started = time.perf_counter()
        check_pixels(task.data, self._limits)
        with WithinMemory("image"):
            packed = self._predictor.pack(decode(task.data, "image", notes := Notes()))[None]
        features = self._predictor.features(packed, [None])
        prediction = prediction_of(
            "image", self._predictor.answer(features), 0, self._predictor.classes, task.top_k
        )
        near: tuple[Neighbour, ...] = ()
        if task.neighbours:
            near = nearest_remembered(self._bundle, features[0][:, 0], task.neighbours)
        return Answer(
            prediction=prediction, neighbours=near, notes=notes.sentences(),
            seconds=time.perf_counter() - started,
        )  # fmt: skip
