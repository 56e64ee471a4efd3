"""Several fitted heads as one: their probabilities averaged, or a vote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.errors import HeadError
from probe.heads.base import BaseHead, OnEpoch, RowsLike, Validation
from probe.heads.checks import one_of

How = Literal["average", "vote"]
HOWS: tuple[How, ...] = get_args(How)


class EnsembleHead(BaseHead):
    """Heads that were fitted on other rows, as the folds of a cross-validation leave them.

    Parameters
    ----------
    how : {"average", "vote"}, default="average"
        ``average`` takes the mean of the members' probabilities; with ``vote`` each member has one
        vote, and the probability of a class is its share of them: a count, which no temperature
        calibrates.

    Attributes
    ----------
    members_ : list of BaseHead
    classes_ : (n_classes,)
        All labels that any member saw, sorted.

    References
    ----------
    Breiman, "Bagging predictors", Mach. Learn. 24, 1996: averaging and voting.
    """

    members_: list[BaseHead]

    def __init__(self, *, how: How = "average") -> None:
        self.how = how

    @classmethod
    def of(cls, members: Sequence[BaseHead], *, how: How = "average") -> Self:
        """Return an ensemble of heads that are fitted already.

        Raises
        ------
        HeadError
            There are none, or they take other numbers of features.
        """
        one_of("how", how, HOWS)
        if len({member.n_features_in_ for member in members}) != 1:
            raise HeadError("an ensemble needs one or more heads on the same features")
        head = cls(how=how)
        head.members_ = list(members)
        head.classes_ = np.unique(np.concatenate([member.classes_ for member in members]))
        head.task_ = members[0].task_
        head.n_features_in_ = members[0].n_features_in_
        head.normalizer_ = members[0].normalizer_
        head.history_ = []
        return head

    def fit(
        self,
        X: RowsLike,
        y: ArrayLike,
        *,
        validation: Validation | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> Self:
        """Refuse: members are fitted on their own, see `of`."""
        del X, y, validation, on_epoch
        raise HeadError("fit the members and join them with EnsembleHead.of")

    def predict_proba(self, X: RowsLike) -> NDArray[np.float64]:
        """Return mean probabilities or shares of votes, float64, (n_rows, n_classes)."""
        rows = self._checked(X)
        found = np.zeros((len(rows), len(self.classes_)))
        for member in self.members_:
            p = member.predict_proba(rows)
            if self.how == "vote":
                p = self.task_.votes(p)
            found[:, np.searchsorted(self.classes_, member.classes_)] += p
        found /= len(self.members_)
        return found

    def predict_logits(self, X: RowsLike) -> NDArray[np.float64]:
        """Return logits of the mean probabilities, minus infinity for those that are 0."""
        if self.how == "vote":
            return self.task_.logits_of(self.predict_proba(X))
        rows = self._checked(X)
        found = np.full((len(self.members_), len(rows), len(self.classes_)), -np.inf)
        for into, member in zip(found, self.members_, strict=True):
            places = np.searchsorted(self.classes_, member.classes_)
            into[:, places] = member.predict_logits(rows)
        return self.task_.mean_logits(found)

    def predict(self, X: RowsLike) -> NDArray[Any]:
        """Return the most probable class of each row; see `BaseHead.predict`.

        Of several labels those above 0.5, or that at least half of the members vote for.
        """
        p = self.predict_proba(X)
        if not self.task_.exclusive:
            return (p >= 0.5 if self.how == "vote" else p > 0.5).astype(np.intp)
        labels: NDArray[Any] = self.classes_[p.argmax(axis=1)]
        return labels

    def _logits(self, X: RowsLike) -> NDArray[np.float64]:
        return self.task_.scores_of(self.predict_proba(X))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Refuse: the members have them."""
        raise HeadError("an ensemble's arrays are its members'")

    def set_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Refuse: the members have them."""
        del arrays
        raise HeadError("an ensemble's arrays are its members'")
