"""The nearest-neighbours head: the training rows most alike vote, the closer the more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.heads.base import BaseHead, OnEpoch, RowsLike, Validation
from probe.heads.checks import above_zero, whole
from probe.heads.fitted import scores_of
from probe.heads.normalize import (
    Features,
    Normalization,
    NormalizedRows,
    Rows32,
    blocks,
    check_finite,
    to_length_one,
)
from probe.heads.tiles import each_tile
from probe.streaming import StreamedRows

QUERY_BYTES = 16 << 20  # of rows that ask, or of their neighbours, at a time

Array32 = NDArray[np.float32]


class KNNHead(BaseHead):
    """Votes of the `k` training rows with the highest cosine, weighed by ``exp(cosine / T)``.

    A class's probability is its share of the weights, also where a row may have several labels. The
    head keeps the training rows.

    Parameters
    ----------
    k : int, default=20
        Neighbours; all rows where there are fewer.
    temperature : float, default=0.07
        T: the lower, the more the very closest decide.
    normalize : {"l2", "standard", "none"}, default="l2"
        Done before the cosine is taken, which itself ignores lengths: ``l2`` and ``none`` are
        alike, ``standard`` compares directions from the mean row.

    Attributes
    ----------
    rows_ : float32, (n_rows, n_features)
        The training rows, normalised, each of length 1.
    targets_ : int32, (n_rows,)
        Indices into `classes_`; where a row may have several, (n_rows, n_classes) of 0 and 1.
    classes_, normalizer_, history_ :
        See BaseHead; `history_` is empty.

    References
    ----------
    Wu et al., "Unsupervised feature learning via non-parametric instance discrimination",
    arXiv:1805.01978, 3.4: the vote and its temperature. Caron et al., "Emerging properties in
    self-supervised vision transformers", arXiv:2104.14294: k of 10, 20, 100 and 200.
    """

    keeps_rows = True

    rows_: Rows32
    targets_: NDArray[np.int32]

    def __init__(
        self, *, k: int = 20, temperature: float = 0.07, normalize: Normalization = "l2"
    ) -> None:
        self.k = k
        self.temperature = temperature
        self.normalize = normalize

    def check_params(self) -> None:
        """Raise HeadError where a parameter makes no sense; see `BaseHead.check_params`."""
        super().check_params()
        whole("k", self.k)
        above_zero("temperature", self.temperature)

    def fit(
        self,
        X: RowsLike,
        y: ArrayLike,
        *,
        validation: Validation | None = None,
        on_epoch: OnEpoch | None = None,  # noqa: ARG002  # the heads' common signature
    ) -> Self:
        """Keep the rows; `validation` is checked, but with no epochs nothing is measured."""
        rows, labels = self._prepare(X, y, validation)
        self.targets_ = labels.astype(np.int32)
        if isinstance(rows, StreamedRows):
            check_finite(rows)
            self.rows_ = NormalizedRows(rows=rows, normalizer=self.normalizer_, unit=True)
        else:
            self.rows_ = self._directions(rows)
        return self

    def fit_candidates(
        self,
        X: RowsLike,
        y: ArrayLike,
        candidates: Sequence[Mapping[str, Any]],
        *,
        validation: Validation | None = None,
        jobs: int = 1,
    ) -> list[Self | None]:
        """Return a fitted head for each candidate; they share the rows."""
        del jobs
        first = type(self)(normalize=self.normalize).fit(X, y, validation=validation)
        heads: list[Self | None] = []
        for candidate in candidates:
            head = type(self)(**{**self.get_params(), **candidate})
            head.check_params()
            head.__dict__.update({n: v for n, v in vars(first).items() if n.endswith("_")})
            heads.append(head)
        return heads

    def predict_proba(self, X: RowsLike) -> NDArray[np.float64]:
        """Return each class's share of k + 1 votes, one of them spread evenly over the classes.

        Returns
        -------
        float64, (n_rows, n_classes)
        """
        p: NDArray[np.float64] = vote_of_many([self], X)[:, 0]
        return p

    def _logits(self, X: RowsLike) -> NDArray[np.float64]:
        return scores_of(self.predict_proba(X), self.multilabel_)

    def arrays(self) -> dict[str, Any]:
        """Return the rows and their classes' numbers."""
        return {"rows": self.rows_, "targets": self.targets_}

    def set_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take what `arrays` gave.

        Raises
        ------
        ValueError
            They contradict each other.
        """
        rows, targets = arrays["rows"], arrays["targets"]
        wanted = (len(rows), len(self.classes_)) if self.multilabel_ else (len(rows),)
        if rows.shape != (len(rows), self.n_features_in_) or targets.shape != wanted:
            raise ValueError(f"rows have the shape {rows.shape}, targets {targets.shape}")
        if not ((targets >= 0) & (targets < len(self.classes_))).all():
            raise ValueError("targets are not numbers of classes")
        self.rows_, self.targets_ = rows, targets.astype(np.int32)

    def _directions(self, X: Features) -> Array32:
        """Return normalised rows of length 1, float32; a row of zeros stays as it is."""
        rows = np.empty(X.shape, np.float32)
        for start, block in blocks(X):
            rows[start : start + len(block)] = to_length_one(self.normalizer_.apply(block))
        return rows


def vote_of_many(heads: Sequence[KNNHead], X: RowsLike) -> NDArray[np.float64]:
    """Return the probabilities of heads that share their rows, (n_rows, n_heads, n_classes).

    The neighbours are looked up once.
    """
    first, rows = heads[0], heads[0]._checked(X)
    most = min(max(int(head.k) for head in heads), len(first.targets_))
    found = np.zeros((len(rows), len(heads), len(first.classes_)))
    wide = first.targets_[:1].size * most if first.multilabel_ else 1  # labels a query looks up
    most_wide = max(1, rows.shape[1], 5 * most, 2 * wide)  # 20 bytes a neighbour: cosines, number
    step = max(1, QUERY_BYTES // (4 * most_wide))
    for start in range(0, len(rows), step):
        queries = first._directions(rows[start : start + step])
        similarity, neighbours = nearest(first.rows_, queries, most)
        labels = first.targets_[neighbours]  # (queries, k), or with the classes behind
        for number, head in enumerate(heads):
            own = slice(0, min(int(head.k), most))
            shares = np.exp((similarity[:, own] - similarity[:, :1]) / head.temperature)
            shares /= shares.sum(axis=1, keepdims=True)
            into = found[start : start + len(queries), number]
            if first.multilabel_:
                into[:] = _shares_of_each(shares, labels[:, own])
            else:
                np.add.at(into, (np.arange(len(queries))[:, None], labels[:, own]), shares)
            _add_a_vote(into, shares.shape[1], 0.5 if first.multilabel_ else 1 / into.shape[1])
    return found


def _add_a_vote(shares: NDArray[np.float64], k: int, even: float) -> None:
    """Let one more vote than `k` be spread evenly: no neighbour of a class is no proof against it.

    A probability of 0 would make every log loss, and with it every temperature, infinite.
    """
    shares *= k / (k + 1)
    shares += even / (k + 1)


def _shares_of_each(shares: NDArray[np.float64], labels: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the votes for each class, (q, C), of neighbours with labels (q, k, C) of 0 and 1."""
    found: NDArray[np.float64] = (shares[:, None, :] @ labels)[:, 0]
    return np.minimum(found, 1.0)  # a sum of shares may round to above one


def nearest(
    reference: Rows32, queries: Array32, k: int
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return cosine and row number of the `k` reference rows closest to each query.

    Both sides go through memory a block at a time, whatever their number.

    Parameters
    ----------
    reference : float32, (n, d)
        Rows of length 1.
    queries : float32, (m, d)
        Rows of length 1.
    k : int
        At most n.

    Returns
    -------
    similarity : float64, (m, k); numbers : intp, (m, k)
        The closest first.
    """
    best = np.full((len(queries), k), -np.inf, np.float32)
    which = np.zeros((len(queries), k), np.intp)

    def compare(first: int, start: int, cosines: Array32) -> None:
        part = slice(first, first + len(cosines))
        if cosines.shape[1] > k:
            near = np.argpartition(cosines, -k, axis=1)[:, -k:]
        else:
            near = np.broadcast_to(np.arange(cosines.shape[1]), cosines.shape)
        both = np.concatenate([best[part], np.take_along_axis(cosines, near, axis=1)], axis=1)
        numbers = np.concatenate([which[part], near + start], axis=1)
        kept = np.argsort(-both, axis=1, kind="stable")[:, :k]
        best[part] = np.take_along_axis(both, kept, axis=1)
        which[part] = np.take_along_axis(numbers, kept, axis=1)

    each_tile(queries, reference, compare)
    return best.astype(np.float64), which
