"""What the rest of probe must know of a head, and what can be set: no scikit-learn, no MXNet.

`HeadSpec` is the base of every head's class. What a head declares there is all that the command
line, the search of a grid, the memory estimate and the checks ask of it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar

from probe.errors import UsageError

GRID = ("grid", "auto")  # what an option with a grid takes besides numbers


@dataclass(frozen=True, kw_only=True)
class PowersOfTen:
    """A grid: `count` values from ``10**low`` to ``10**high``, evenly spaced in the logarithm."""

    low: float
    high: float
    count: int

    def __len__(self) -> int:
        return self.count

    def values(self) -> tuple[float, ...]:
        """Return the values, ascending, rounded correctly.

        NumPy's powers differ in the last bit between processors, and a bench would not find the
        runs that another machine made with the same grid.
        """
        step = (self.high - self.low) / (self.count - 1)
        exponents = (self.low + step * i for i in range(self.count))
        return tuple(float(Decimal(10) ** Decimal(one)) for one in exponents)


@dataclass(frozen=True, kw_only=True)
class Option:
    """A parameter of a head that can be set from outside.

    Parameters
    ----------
    name : str
        The estimator's parameter. The option is spelled alike: ``--batch-size``.
    help : str
        A sentence for ``--help``.
    kind : type
        int, float or str.
    default : str
        The default, as ``--help`` shows it.
    low : float, optional
        The least value that makes sense.
    choices : sequence of str
        All values there are, where they are names.
    meaning : mapping
        What the parameter is set to for some of the choices, where that is another name.
    short : str
        A second spelling, as ``-b``.
    grid : sequence of float or PowersOfTen, optional
        The option takes several values, and ``grid`` stands for these.
    restraint : int
        1 where a greater value holds the head back, -1 where a smaller one does. Among candidates
        that are otherwise equal the one that is held back most is chosen.
    """

    name: str
    help: str
    kind: type = str
    default: str = ""
    low: float | None = None
    choices: Sequence[str] = ()
    meaning: Mapping[str, str] = field(default_factory=dict)
    short: str = ""
    grid: Sequence[float] | PowersOfTen | None = None
    restraint: int = 0

    @property
    def spelled(self) -> str:
        """As it is typed, ``--batch-size``."""
        return "--" + self.name.replace("_", "-")

    def grid_values(self) -> tuple[float, ...]:
        """Return the values of its grid, none where it has no grid."""
        if isinstance(self.grid, PowersOfTen):
            return self.grid.values()
        return tuple(self.grid or ())

    def read(self, given: Any) -> tuple[Any, ...]:
        """Return the values that were given: a text as it is typed, a value, or several.

        Raises
        ------
        UsageError
            A text is neither numbers nor ``grid``.
        """
        if self.grid is None:
            return (self.meaning.get(given, given) if self.choices else given,)
        if not isinstance(given, str):
            return tuple(given) if hasattr(given, "__iter__") else (given,)
        if given in GRID:
            return self.grid_values()
        try:
            return tuple(self.kind(one) for one in given.split(","))
        except ValueError:
            raise UsageError(
                f"{self.spelled} {given}: give a number, several with commas, or `grid`"
            ) from None


NORMALIZE = Option(
    name="normalize",
    help="How features are normalised, learnt from training rows only.",
    choices=("standard", "l2", "none"),
    default="standard",
)


class HeadSpec:
    """What is declared of a head: the base of its class.

    A head is a subclass of `BaseHead` that sets these, and an entry in the catalog. A class of its
    own for the declarations, with the estimator's place in `estimator`, lets ``--help`` list the
    options without importing the estimator.

    Attributes
    ----------
    name : str
        In the catalog, in files and on the command line.
    summary : str
        A few words for a listing.
    estimator : str
        ``module:class``; empty where this class is the estimator.
    options : tuple of Option
        What can be set; each is a parameter of the estimator.
    seeded : bool
        There is chance in a fit: the estimator has a `random_state`.
    by_epochs : bool
        It is fitted epoch by epoch, and has a training curve.
    one_by_one : bool
        Candidates of a search are fitted one by one, and so gain from several processes.
    together : str, optional
        The parameter for whose values `fit_grid` solves at once.
    takes_weights : bool
        `fit` takes a `sample_weight`, what each row counts.
    takes_several : bool
        Rows may have several labels.
    keeps_rows : bool
        It keeps its training rows, and so knows their labels by heart.
    streams : bool
        It can be fitted on rows that stay in their file.
    instead : str
        What to fit where they must and it cannot, as a sentence for a message.
    extra_bytes : int
        Memory of a fit that depends on nothing: packages and blocks of rows.
    covariances : int
        Matrices of (n_features, n_features) that a fit holds, float64.
    vectors : int
        Arrays as large as the head's weights that a fit holds for each candidate, float64.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    estimator: ClassVar[str] = ""
    options: ClassVar[tuple[Option, ...]] = (NORMALIZE,)
    seeded: ClassVar[bool] = False
    by_epochs: ClassVar[bool] = False
    one_by_one: ClassVar[bool] = False
    together: ClassVar[str | None] = None
    takes_weights: ClassVar[bool] = False
    takes_several: ClassVar[bool] = True
    keeps_rows: ClassVar[bool] = False
    streams: ClassVar[bool] = True
    instead: ClassVar[str] = ""
    extra_bytes: ClassVar[int] = 0
    covariances: ClassVar[int] = 0
    vectors: ClassVar[int] = 1

    @classmethod
    def load(cls) -> type[Any]:
        """Import and return the estimator's class, a `probe.heads.base.BaseHead`."""
        if not cls.estimator:
            return cls  # it declares itself
        module, _, name = cls.estimator.partition(":")
        loaded: type[Any] = getattr(importlib.import_module(module), name)
        return loaded

    @classmethod
    def option(cls, name: str) -> Option | None:
        """Return what is declared of a parameter, None where nothing is."""
        return next((one for one in cls.options if one.name == name), None)

    @classmethod
    def grids(cls) -> dict[str, Option]:
        """Return the options that have a grid, by the parameter's name; the first leads."""
        return {one.name: one for one in cls.options if one.grid is not None}

    @classmethod
    def at_ends(
        cls, chosen: Mapping[str, float], candidates: Sequence[Mapping[str, float]]
    ) -> tuple[str, ...]:
        """Return the chosen parameters that are the least or the greatest of three or more values.

        A better one may lie beyond, unless it is the least that the parameter may be.
        """
        tried = {name: sorted({one[name] for one in candidates}) for name in chosen}
        least = {one.name: one.low for one in cls.options}
        return tuple(
            name
            for name, value in chosen.items()
            if len(tried[name]) > 2
            and value in (tried[name][0], tried[name][-1])
            and value != least.get(name)
        )

    @classmethod
    def workspace(cls, width: int, n_weights: int, n_heads: int) -> int:
        """Return the bytes that a fit takes besides rows and what goes by images.

        Parameters
        ----------
        width : int
            Features of a row.
        n_weights : int
            Weights of one head.
        n_heads : int
            Candidates, times seeds and folds.
        """
        covariances = 8 * width**2 * cls.covariances
        return cls.extra_bytes + covariances + 8 * n_weights * n_heads * cls.vectors

    @classmethod
    def remarks(cls, asked: Mapping[str, float], n_rows: int) -> list[str]:
        """Return what should be said before a fit on so many training rows.

        Parameters
        ----------
        asked : mapping
            The greatest value of each number that was asked for.
        """
        del asked, n_rows
        return []
