"""Decode images ahead of the network on other threads, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.datasets.images.decode import OneImage

AHEAD = 3  # batches in memory beyond the one in the network


def load_batches(
    load: Callable[[int], NDArray[np.uint8]],
    batches: Iterable[NDArray[np.intp]],
    *,
    workers: int,
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]:
    """Yield each batch of rows with its images, in order.

    Threads suffice: Pillow decodes and resizes without holding the interpreter lock.

    Parameters
    ----------
    load : callable
        Row -> uint8, (S, S, 3).

    Yields
    ------
    rows : intp, (n,)
    images : uint8, (n, S, S, 3)
    """
    pool = ThreadPoolExecutor(max(workers, 1), thread_name_prefix="decode")
    waiting: deque[tuple[NDArray[np.intp], list[Future[Any]]]] = deque()
    parts = max(workers, 1)

    def load_one(row: int) -> NDArray[np.uint8]:
        with OneImage():  # a large one counts until it is resized
            return load(row)

    def load_all(rows: NDArray[np.intp]) -> list[NDArray[np.uint8]]:
        return [load_one(int(row)) for row in rows]

    def submit(rows: NDArray[np.intp]) -> None:
        chunks = [chunk for chunk in np.array_split(rows, parts) if len(chunk)]
        waiting.append((rows, [pool.submit(load_all, chunk) for chunk in chunks]))

    try:
        upcoming = iter(batches)
        for rows in upcoming:
            submit(rows)
            if len(waiting) >= AHEAD:
                break
        while waiting:
            rows, futures = waiting.popleft()
            images = [image for future in futures for image in future.result()]
            following = next(upcoming, None)
            if following is not None:
                submit(following)
            yield rows, np.stack(images)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
