"""All cosines between two sets of rows, a tile at a time: no memory holds them all."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from probe.core.machine import usable_cores
from probe.evaluation.streaming import rows_at_once
from probe.heads.blas import matmul
from probe.heads.normalize import Rows32
from probe.heads.products import one_thread_a_product

QUERY_BYTES = 64 << 20  # of rows that ask, for one pass over the others
REFERENCE_ROWS = 4096  # that are compared with them, at a time
QUERY_ROWS = 512  # a core compares at a time: its cosines are 8 MB

Array32 = NDArray[np.float32]
Visit = Callable[[int, int, Array32], None]


def each_tile(queries: Rows32, reference: Rows32, visit: Visit, *, upper: bool = False) -> None:
    """Call a function on the products of every query with every reference row.

    Both sides may be rows that stay in their file: the reference is read once for QUERY_BYTES of
    queries.

    Parameters
    ----------
    queries, reference : float32, (m, d) and (n, d)
        Rows of length 1, for cosines.
    visit : callable
        Takes the tile's first query, its first reference row, and the cosines, float32, (queries,
        reference rows). Called from several threads, for one query from one at a time.
    upper : bool
        Leave out tiles where no reference row comes after a query: both are the same rows.
    """
    most = max(1, QUERY_BYTES // (4 * max(1, queries.shape[1])))
    step = rows_at_once(reference, REFERENCE_ROWS)

    def compare(at: int, asked: Array32, start: int, block: Array32) -> None:
        visit(at, start, matmul(asked, block.T))

    with one_thread_a_product(), ThreadPoolExecutor(usable_cores()) as pool:
        for first in range(0, len(queries), most):
            asking = queries[first : first + most]
            for start in range(first // step * step if upper else 0, len(reference), step):
                block = reference[start : start + step]
                waiting = [
                    pool.submit(compare, first + i, asking[i : i + QUERY_ROWS], start, block)
                    for i in range(0, len(asking), QUERY_ROWS)
                    if not upper or start + len(block) > first + i + 1
                ]
                for one in waiting:
                    one.result()
