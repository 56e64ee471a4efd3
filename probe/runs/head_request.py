"""What `probe head` was asked for, and the search that follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, cast

from probe.core.machine import usable_cores
from probe.core.options import Counts, plain, read_bytes, read_curve
from probe.errors import HeadError, UsageError
from probe.evaluation.mistakes import check_costs, read_costs
from probe.evaluation.parts import Part
from probe.evaluation.splitting import fold_split
from probe.evaluation.units import Groups
from probe.heads.catalog import HEADS, choose_head, default_grid, names_that, read_options, refuse
from probe.runs.draws import CurvePlan
from probe.runs.memory import Fitting

if TYPE_CHECKING:
    from probe.heads import BaseHead
    from probe.heads.ensemble import How
    from probe.heads.grid import Search

FEW_SHOT = 20  # images a class, on average: with fewer, validation rows would be other shots


@dataclass(frozen=True, kw_only=True)
class HeadRequest:
    """What `probe head` was asked for; `probe.fit` says what options of the same names mean.

    Parameters
    ----------
    solver : str
        A name in the catalog of heads.
    params : mapping
        Of the estimator, those that were named.
    grid : bool
        Choose the solver's first parameter that has a grid, on validation rows or by folds.
    grids : mapping of str to sequence of float
        Parameters to choose and their values; every combination is a candidate.
    groups : sequence of Groups
        Rows of one group stay on one side, as rows of one picture always do.
    per_class : sequence of int
        Images a class at each point of a learning curve.
    why : str
        Why this head, where none was named; shown.
    """

    solver: str = "dense"
    params: Mapping[str, Any] = field(default_factory=dict)
    val_size: float | None = None
    grid: bool = False
    grids: Mapping[str, Sequence[float]] = field(default_factory=dict)
    seeds: int = 1
    folds: int = 0
    repeats: int = 1
    groups: Sequence[Groups] = ()
    refit: bool | None = None
    ensemble: How | None = None
    jobs: int = 1
    per_class: Sequence[int] = ()
    draws: int = 5
    max_memory: int | None = None
    metric: str = "top1"
    positive: str | None = None
    recall: float | None = None
    cost: tuple[float, float] | None = None
    sample_weight: str | None = None
    seed: int = 42
    command: str = ""
    why: str = ""

    @classmethod
    def of(
        cls,
        *,
        head: str | None,
        options: Mapping[str, Any],
        seeds: int | None = None,
        ensemble: str | None = None,
        cost: str | tuple[float, float] | None = None,
        learning_curve: Counts = None,
        draws: int | None = None,
        jobs: int | None = None,
        max_memory: str | int | None = None,
        **same: Any,
    ) -> HeadRequest:
        """Return what the options of `probe head` ask for, as their text or Python's values.

        Parameters
        ----------
        head : str, optional
            Default: see `choose_head`.
        options : mapping
            Those of the head; see `read_options`.
        **same
            The other fields.

        Raises
        ------
        UsageError
            An option belongs to another head or to nothing that was asked for, or cannot be read.
        """
        if draws and not learning_curve:
            raise UsageError("--draws is about a learning curve: add --learning-curve 5,10,20")
        if seeds is not None and seeds < 2:
            raise UsageError(
                f"--seeds {seeds}: from 2 on they show how much a fit varies; leave it out, and "
                "--seed N alone is fitted with"
            )
        options, why = {name: plain(one) for name, one in options.items()}, ""
        if head is None:
            held_out = same.get("val_size") != 0 or same.get("folds", 0) > 0
            head, options, why = choose_head(options, seeds=seeds is not None, held_out=held_out)
        params, grids = read_options(head, options)
        if empty := [name for name, values in grids.items() if not values]:
            raise UsageError(f"--{empty[0]}: give a number, several, or `grid`")
        if ensemble not in {None, "average", "vote"}:
            raise UsageError(f"--ensemble {ensemble}: it is average or vote")
        return cls(
            solver=head,
            params=params,
            grids=grids,
            seeds=seeds or 1,
            ensemble=cast("How | None", ensemble),
            cost=read_costs(cost) if isinstance(cost, str) and cost else cost or None,
            per_class=read_curve(learning_curve),
            draws=draws or 5,
            jobs=jobs or usable_cores(),
            max_memory=read_bytes(max_memory),
            why=why,
            **same,
        )

    def estimator(self) -> BaseHead:
        """Return the unfitted head.

        Raises
        ------
        UnknownNameError
            There is no such solver; the message lists those that there are.
        """
        spec = HEADS[self.solver]
        head: BaseHead = spec.load()(**self.params)
        return head.set_params(random_state=self.seed) if spec.seeded else head

    def check(self) -> None:
        """Refuse what can be refused without a row: before anything is read, fitted or printed.

        Raises
        ------
        UsageError
            An option is about folds, and there are none; or the solver has no grid.
        HeadError
            A parameter makes no sense.
        """
        if self.sample_weight is not None:
            require_weights(self.solver)
        if self.seeds > 1 and not HEADS[self.solver].seeded:
            refuse("--seeds", [one.name for one in HEADS.values() if one.seeded], self.solver)
        if self.ensemble is not None and not self.folds:
            raise UsageError("--ensemble is about folds: add --folds 5")
        if self.repeats > 1 and not self.folds:
            raise UsageError(f"--repeats {self.repeats} is about folds: add --folds 5")
        self._check_metric()
        if self.recall is not None and not 0 < self.recall < 1:
            raise UsageError(f"--recall {self.recall:g}: it is a share between 0 and 1, as 0.95")
        if self.recall is not None and self.cost is not None:
            raise UsageError(
                "--recall and --cost each choose a threshold, and a run has one: give one of them"
            )
        if self.cost is not None:
            check_costs(self.cost)
        if self.threshold_option is not None and self.ensemble == "vote":
            raise UsageError(
                f"{self.threshold_option} needs probabilities to put a threshold on, and shares of "
                "votes are none; use --ensemble average"
            )
        for candidate in self._candidates():
            self.estimator().set_params(**candidate).check_params()

    @property
    def threshold_option(self) -> str | None:
        """The option that asks for a threshold of two classes; None without one."""
        return "--recall" if self.recall is not None else "--cost" if self.cost else None

    def _check_metric(self) -> None:
        if self.metric == "top1":
            return
        from probe.heads.grid import CHOICE_METRICS

        if self.metric not in CHOICE_METRICS:
            raise UsageError(f"--metric {self.metric}: it is one of {', '.join(CHOICE_METRICS)}")
        if not (self.searched() or self.folds or self.seeds > 1):
            raise UsageError(
                f"--metric {self.metric} is about choosing, and nothing is chosen: give a "
                "parameter several values, as --C grid with --head path"
            )

    def searched(self) -> dict[str, tuple[float, ...]]:
        """Return the parameters to choose and their values; empty where nothing is chosen.

        Raises
        ------
        UsageError
            The solver has no grid.
        """
        if self.grids or not self.grid:
            return {name: tuple(values) for name, values in self.grids.items()}
        return default_grid(self.solver)

    def greatest(self) -> dict[str, float]:
        """Return the greatest value of each number that was asked for."""
        numbers = {n: v for n, v in self.params.items() if isinstance(v, int | float)}
        return numbers | {name: max(values) for name, values in self.searched().items()}

    def search(self, train: Part, classes: Sequence[str] | None = None) -> Search | None:
        """Return what is to be chosen and how, for these training rows.

        Parameters
        ----------
        classes : sequence of str, optional
            Names of the classes, for messages.

        Raises
        ------
        UsageError
            There are too few rows for the folds.
        """
        if not (self.searched() or self.folds or self.seeds > 1):
            return None
        from probe.heads.grid import Search

        seeds = range(self.seed, self.seed + self.seeds) if self.seeds > 1 else ()
        folds = None
        if self.folds:
            folds = fold_split(
                train.y, self.folds, self.seed, repeats=self.repeats,
                units=train.units, classes=classes,
            )  # fmt: skip
        return Search(
            candidates=self._candidates(), folds=folds, seeds=tuple(seeds), jobs=self.jobs,
            metric=self.metric,
        )  # fmt: skip

    def curve_plan(self) -> CurvePlan | None:
        """Return what the learning curve is made of; None where none is wanted."""
        if not self.per_class:
            return None
        return CurvePlan(
            counts=self.per_class,
            draws=self.draws,
            candidates=self._candidates(),
            seed=self.seed,
            jobs=self.jobs,
            metric=self.metric,
        )

    def fitting(self) -> Fitting:
        """Return what is fitted, as far as it takes memory."""
        heads = len(self._candidates()) * self.seeds * max(1, self.folds * self.repeats)
        return Fitting(solver=self.solver, heads=heads, hidden=self.estimator().units())

    def _candidates(self) -> list[dict[str, float]]:
        grids = self.searched()
        return [dict(zip(grids, values, strict=True)) for values in product(*grids.values())]

    def refits(self, train: Part) -> bool:
        """Return whether to fit once more on training and validation rows."""
        if self.ensemble is not None:
            return False
        if self.refit is not None:
            return self.refit
        return bool(self.searched()) and not is_few_shot(train)


def require_weights(solver: str) -> None:
    """Raise UsageError where a head counts all rows alike."""
    if not HEADS[solver].takes_weights:
        raise UsageError(
            f"--sample-weight: the {solver} head counts all rows alike; those that take weights "
            f"are {names_that('takes_weights')}"
        )


def is_few_shot(train: Part) -> bool:
    """Return whether there are so few images a class that their number is what is studied."""
    return len(train) < FEW_SHOT * train.task.n_learnt(train.y)


def require_two_classes(train: Part, classes: Sequence[str]) -> None:
    """Raise HeadError unless training rows are of two classes or more, or differ in a label."""
    if (alike := train.task.alike(train.y, classes)) is not None:
        raise HeadError(
            f"all {len(train):,} training images {alike}; a head needs {train.task.needs}"
        )
