"""Labels as one-hot rows, which do not fit in memory where there are thousands of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.evaluation.many import MANY


def one_hot(labels: NDArray[np.intp], n_classes: int) -> Any:
    """Return a 1 in each row's class, float64, (n_rows, n_classes).

    A dense array, or of many classes a sparse one of SciPy's, which has the same products and sums.
    """
    if n_classes <= MANY:
        return np.eye(n_classes)[labels]
    from scipy.sparse import csr_array

    n_rows = len(labels)
    places = labels.astype(np.int32), np.arange(n_rows + 1)
    return csr_array((np.ones(n_rows), *places), shape=(n_rows, n_classes))
