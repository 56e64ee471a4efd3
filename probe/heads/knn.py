"""The nearest-neighbours head: the training rows most alike vote, the closer the more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.evaluation.streaming import StreamedRows, rows_at_once
from probe.heads.base import BaseHead, OnEpoch, RowsLike, Validation
from probe.heads.catalog import KNN
from probe.heads.checks import above_zero, whole
from probe.heads.normalize import (
    Features,
    Normalization,
    NormalizedRows,
    Rows32,
    blocks,
    check_finite,
    to_length_one,
)
from probe.heads.products import REFERENCE_ROWS, closest_rows

QUERY_BYTES = 16 << 20  # of rows that ask, or of their neighbours, at a time
SPARE = 8  # neighbours looked up beyond k: who comes k-th is told by exact cosines
NOISE = 1e-6  # what a float32 cosine may be off by, and more
GRID = 40  # shares of votes are whole multiples of 2^-40

Array32 = NDArray[np.float32]


class KNNHead(KNN, BaseHead):
    """Votes of the `k` training rows with the highest cosine, weighed by ``exp(cosine / T)``.

    A class's probability is its share of the weights, also where a row may have several labels. The
    head keeps the training rows.

    Ties, by one rule that knows no order of rows or classes: training rows that are as close as the
    k-th share the places that are left among the k. Of classes with equal shares, to 2^-40, the one
    with the closest neighbour is the answer, by 2^-39 more; of those the one with most training
    rows as close; where these are equal, too, nothing tells them apart. Classes without a
    neighbour stay tied, and a top-5 counts them so (`probe.evaluation.metrics`). Cosines are
    float64, each computed alone, so that identical queries get identical answers whatever is asked
    beside them.

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

    rows_: Rows32
    targets_: NDArray[np.int32]
    ties_ = True  # False in heads that were saved before ties had a rule

    def __init__(
        self, *, k: int = 20, temperature: float = 0.07, normalize: Normalization = "l2"
    ) -> None:
        self.k = k
        self.temperature = temperature
        self.normalize = normalize

    def check_params(self) -> None:
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
        rows, labels, _ = self._prepare(X, y, validation)
        self.targets_, self.ties_ = labels.astype(np.int32), True
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
        sample_weight: ArrayLike | None = None,
    ) -> list[Self | None]:
        """Return a fitted head for each candidate; they share the rows."""
        del jobs
        self.refuse_weights(sample_weight)
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

    @classmethod
    def predict_many(cls, heads: Sequence[Self], X: Features) -> NDArray[Any]:
        """Return probabilities, see `BaseHead.predict_many`; the neighbours are looked up once."""
        return vote_of_many(heads, X)

    def _logits(self, X: RowsLike) -> NDArray[np.float64]:
        return self.task_.scores_of(self.predict_proba(X))

    def arrays(self) -> dict[str, Any]:
        """Return the rows and their classes' numbers."""
        rule = {"ties": np.ones(1, np.float32)} if self.ties_ else {}
        return {"rows": self.rows_, "targets": self.targets_, **rule}

    def set_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take what `arrays` gave.

        Raises
        ------
        ValueError
            They contradict each other.
        """
        rows, targets = arrays["rows"], arrays["targets"]
        wanted = self.task_.shape(len(rows), len(self.classes_))
        if rows.shape != (len(rows), self.n_features_in_) or targets.shape != wanted:
            raise ValueError(f"rows have the shape {rows.shape}, targets {targets.shape}")
        if not ((targets >= 0) & (targets < len(self.classes_))).all():
            raise ValueError("targets are not numbers of classes")
        self.rows_, self.targets_ = rows, targets.astype(np.int32)
        self.ties_ = "ties" in arrays

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
    n_rows = len(first.targets_)
    most = min(max(int(head.k) for head in heads), n_rows)
    looked_up = min(most + SPARE, n_rows) if first.ties_ else most
    found = np.zeros((len(rows), len(heads), len(first.classes_)))
    wide = 1 if first.task_.exclusive else first.targets_[:1].size * looked_up  # labels of a query
    most_wide = max(1, rows.shape[1], 5 * looked_up, 2 * wide)  # 20 bytes a neighbour
    step = max(1, QUERY_BYTES // (4 * most_wide))
    for start in range(0, len(rows), step):
        queries = first._directions(rows[start : start + step])
        closest, neighbours = closest_rows(first.rows_, queries, looked_up)
        similarity = closest.astype(np.float64)
        if first.ties_:
            similarity, neighbours = _exactly(first.rows_, queries, similarity, neighbours)
        for number, head in enumerate(heads):
            k, into = min(int(head.k), most), found[start : start + len(queries), number]
            _vote(head, similarity[:, :k], neighbours[:, :k], into)
            if first.ties_ and k < n_rows:
                _share_the_last_places(head, k, queries, (similarity, neighbours), into)
    return found


def _vote(
    head: KNNHead,
    similarity: NDArray[np.float64],
    neighbours: NDArray[np.intp],
    into: NDArray[np.float64],
    *,
    part: float = 1.0,
    k: int | None = None,
) -> None:
    """Write each class's share of k + 1 votes, (q, C), for neighbours by falling cosine, (q, n).

    One of the votes is spread evenly. With more neighbours than k the last ones tie, and each has
    that part of a vote.
    """
    labels = head.targets_[neighbours]  # (q, n), or with the classes behind
    shares = np.exp((similarity - similarity[:, :1]) / head.temperature)
    if part < 1:
        shares[similarity == similarity[:, -1:]] *= part
    shares /= shares.sum(axis=1, keepdims=True)
    if head.task_.exclusive:
        into[:] = 0
        np.add.at(into, (np.arange(len(into))[:, None], labels), shares)
    else:
        into[:] = _shares_of_each(shares, labels)
    if head.ties_:  # sums in another order differ by rounding, and are the same shares
        into[:] = np.rint(np.ldexp(into, GRID)) * 2.0**-GRID
    _add_a_vote(into, k or shares.shape[1], head.task_.chance(into.shape[1]))
    if head.ties_ and head.task_.exclusive:
        _prefer_the_closest(similarity, labels, into)


def _prefer_the_closest(
    similarity: NDArray[np.float64], labels: NDArray[np.int32], into: NDArray[np.float64]
) -> None:
    """Give the first of several classes with the largest share a little more; see `KNNHead`."""
    tied = into == into.max(axis=1, keepdims=True)
    for row in np.flatnonzero(tied.sum(axis=1) > 1):
        keys = {}
        for one in np.intersect1d(np.flatnonzero(tied[row]), labels[row]).tolist():
            own = similarity[row, labels[row] == one]
            keys[one] = (own.max(), np.count_nonzero(own == own.max()))
        first = [one for one, key in keys.items() if key == max(keys.values())]
        if len(first) == 1:
            into[row] *= 1 - 2.0 ** (1 - GRID)
            into[row, first[0]] += 2.0 ** (1 - GRID)


def _share_the_last_places(
    head: KNNHead,
    k: int,
    queries: Array32,
    found: tuple[NDArray[np.float64], NDArray[np.intp]],
    into: NDArray[np.float64],
) -> None:
    """Vote again where more training rows are as close as the k-th than there are places."""
    similarity, neighbours = found
    edge, last = similarity[:, k - 1], similarity[:, -1]
    whole = similarity.shape[1] == len(head.targets_)
    unsure = np.zeros(len(queries), bool) if whole else last >= edge - NOISE
    asked = np.flatnonzero((similarity[:, k] == edge) | unsure)
    if not len(asked):
        return
    _, place, which = np.unique(queries[asked], axis=0, return_index=True, return_inverse=True)
    for number, row in enumerate(asked[place].tolist()):  # identical queries are asked once
        near, rows = similarity[row], neighbours[row]
        if unsure[row]:
            near, rows = _all_near(head.rows_, queries[row], edge[row] - NOISE)
        here = int(np.count_nonzero(near >= near[k - 1]))
        tied = int(np.count_nonzero(near[:here] == near[k - 1]))
        part = (k - (here - tied)) / tied
        one = np.empty((1, into.shape[1]))
        _vote(head, near[None, :here], rows[None, :here], one, part=part, k=k)
        into[asked[which.ravel() == number]] = one


def _all_near(
    reference: Rows32, query: Array32, least: float
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return cosines of all rows from `least` on, the closest first, and the rows' numbers."""
    cosines, numbers = [], []
    for start, block in _some_rows(reference):
        rows = np.flatnonzero(block @ query >= least - NOISE)
        cosines.append(_pairwise(query[None], block[rows]))
        numbers.append(rows + start)
    near, rows = np.concatenate(cosines), np.concatenate(numbers)
    order = np.argsort(-near, kind="stable")
    return near[order], rows[order]


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


def _exactly(
    reference: Rows32,
    queries: Array32,
    similarity: NDArray[np.float64],
    neighbours: NDArray[np.intp],
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the neighbours by float64 cosines, each computed alone, the closest first.

    A product of matrices gives the same pair of rows other last bits in another place.
    """
    found = np.empty(similarity.shape)
    if isinstance(reference, np.ndarray):
        step = max(1, QUERY_BYTES // (8 * neighbours.shape[1] * queries.shape[1]))
        for start in range(0, len(queries), step):
            own = neighbours[start : start + step]
            asked = np.repeat(queries[start : start + step], own.shape[1], axis=0)
            found[start : start + step] = _pairwise(asked, reference[own.ravel()]).reshape(
                own.shape
            )
    else:  # rows in a file: read once more, in order
        for start, block in _some_rows(reference):
            rows, places = np.nonzero((neighbours >= start) & (neighbours < start + len(block)))
            which = neighbours[rows, places] - start
            found[rows, places] = _pairwise(queries[rows], block[which])
    order = np.lexsort((neighbours, -found), axis=1)
    return np.take_along_axis(found, order, axis=1), np.take_along_axis(neighbours, order, axis=1)


def _pairwise(a: Array32, b: Array32) -> NDArray[np.float64]:
    """Return the product of each row with the other's, (n, d) and (n, d), in float64."""
    product: NDArray[np.float64] = np.einsum(
        "nd,nd->n", np.broadcast_to(a, b.shape).astype(np.float64), b.astype(np.float64)
    )
    return product


def _some_rows(reference: Rows32) -> Iterator[tuple[int, Array32]]:
    step = rows_at_once(reference, REFERENCE_ROWS)
    for start in range(0, len(reference), step):
        yield start, reference[start : start + step]
