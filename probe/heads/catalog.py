"""The heads there are. A new one is an entry here and a file beside this one.

What each can be given, what it can do and the memory it takes is declared here, and is part of the
estimator's class, which inherits it. The estimators are named, not imported: a listing, or a cache
hit, pays for neither scikit-learn nor MXNet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from probe.core.registry import Registry
from probe.errors import UsageError
from probe.heads.spec import NORMALIZE, HeadSpec, Option, PowersOfTen

PENALTY = Option(
    name="C",
    kind=float,
    help="Inverse of the L2 penalty",
    default="0.01",
    grid=PowersOfTen(low=-6, high=5, count=45),
    restraint=-1,
)
MAX_ITER = Option(
    name="max_iter", kind=int, help="Most iterations of the solver.", default="1000", low=1
)


class Dense(HeadSpec):
    """Fully connected layers."""

    name = "dense"
    summary = "Gluon layers, by mini-batches"
    estimator = "probe.heads.dense:DenseHead"
    seeded = by_epochs = True
    extra_bytes = 140_000_000  # MXNet
    vectors = 5
    options = (
        NORMALIZE,
        Option(name="epochs", kind=int, help="Passes over the training rows.", default="50", low=1),
        Option(
            name="batch_size", short="-b", kind=int, help="Rows in a step.", default="256", low=1
        ),
        Option(name="optimizer", help="Optimizer.", choices=("adam", "sgd"), default="adam"),
        Option(
            name="lr",
            kind=float,
            help="Learning rate",
            default="0.001 for adam, 0.01 for sgd",
            grid=PowersOfTen(low=-5, high=-1, count=13),
            restraint=-1,  # as few steps away from zero
        ),
        Option(
            name="wd",
            kind=float,
            help="Weight decay, not of biases",
            default="0",
            low=0,
            grid=(0.0, 1e-4, 1e-3, 1e-2),
            restraint=1,
        ),
        Option(name="momentum", kind=float, help="SGD momentum.", default="0.9"),
        Option(
            name="schedule",
            help="How the learning rate falls; step: to a tenth at 1/2 and again at 3/4.",
            choices=("constant", "cosine", "step"),
            default="constant",
        ),
        Option(
            name="hidden", help="Units of hidden ReLU layers, as 256 or 256,128.", default="none"
        ),
        Option(
            name="dropout",
            kind=float,
            help="Dropout probability of hidden units, or of features where there are none.",
            default="0",
        ),
        Option(
            name="label_smoothing",
            kind=float,
            help="Share of each target that is spread over all classes.",
            default="0",
        ),
        Option(
            name="class_weight",
            help="balanced: rows of rare classes count more.",
            choices=("balanced",),
            default="none",
        ),
        Option(
            name="sampling",
            help="balanced: draw rows so that classes are equally frequent; instead of "
            "--class-weight.",
            choices=("shuffle", "balanced"),
            default="shuffle",
            meaning={"shuffle": "all"},
        ),
        Option(
            name="patience",
            kind=int,
            help="Stop after so many epochs without a lower validation loss, and keep the best.",
            default="never",
            low=1,
        ),
    )


class Logistic(HeadSpec):
    """Logistic regression by scikit-learn."""

    name = "logistic"
    summary = "scikit-learn's logistic regression"
    estimator = "probe.heads.logistic:LogisticHead"
    one_by_one = takes_weights = True
    streams = False
    instead = "--head path is the same model and reads them from their file"
    options = (NORMALIZE, PENALTY, MAX_ITER)


L_BFGS_PAIRS = 20  # of steps and gradient changes that path's solver remembers
L_BFGS = 2 * L_BFGS_PAIRS + 12  # vectors as long as a head that its solution holds, float64
STREAMING_BYTES = 48 << 20  # of them, for all heads solved at once where rows are not in memory


class Path(HeadSpec):
    """Logistic regression by probe's own solver."""

    name = "path"
    summary = "logistic regression, fast"
    estimator = "probe.heads.path:PathHead"
    together, takes_weights = "C", True
    extra_bytes = 40_000_000  # blocks of rows on each core
    covariances, vectors = 6, 4
    options = (NORMALIZE, PENALTY, MAX_ITER)

    @classmethod
    def workspace(cls, width: int, n_weights: int, n_heads: int) -> int:
        """Return the bytes that a fit takes besides rows and what goes by images."""
        one = 8 * L_BFGS * n_weights
        solution = max(one, min(one * n_heads, STREAMING_BYTES))
        return super().workspace(width, n_weights, n_heads) + solution


class Ridge(HeadSpec):
    """Least squares."""

    name = "ridge"
    summary = "least squares, in closed form"
    estimator = "probe.heads.ridge:RidgeHead"
    together, takes_weights = "alpha", True
    extra_bytes = 30_000_000
    covariances, vectors = 6, 3
    options = (
        NORMALIZE,
        Option(
            name="alpha",
            kind=float,
            help="L2 penalty, for each row",
            default="0.1",
            grid=PowersOfTen(low=-5, high=3, count=33),
            restraint=1,
        ),
    )


class Prototype(HeadSpec):
    """Class means."""

    name = "prototype"
    summary = "class means"
    estimator = "probe.heads.prototype:PrototypeHead"
    takes_weights = True
    takes_several = False  # a class's mean is of rows that are of this class alone
    extra_bytes = 30_000_000
    covariances = 6
    options = (
        NORMALIZE,
        Option(
            name="distance",
            help="lda: linear discriminant analysis; mean: the nearest class mean.",
            choices=("lda", "mean"),
            default="lda",
        ),
        Option(
            name="shrinkage",
            kind=float,
            help="Shrinkage of lda's covariance, 0 to 1.",
            default="0.1",
        ),
    )


class KNN(HeadSpec):
    """Nearest neighbours."""

    name = "knn"
    summary = "nearest neighbours, by cosine"
    estimator = "probe.heads.knn:KNNHead"
    keeps_rows = True
    extra_bytes = 105_000_000  # queries, their cosines and the order of those
    options = (
        Option(name="normalize", help=NORMALIZE.help, choices=NORMALIZE.choices, default="l2"),
        Option(
            name="k",
            kind=int,
            help="Neighbours",
            default="20",
            low=1,
            grid=(10, 20, 100, 200),
            restraint=1,  # as smooth a border
        ),
        Option(
            name="temperature",
            kind=float,
            help="Temperature of the votes; the lower, the more the closest decide.",
            default="0.07",
        ),
    )

    @classmethod
    def remarks(cls, asked: Mapping[str, float], n_rows: int) -> list[str]:
        """Return that all rows vote where more neighbours are asked for than there are."""
        k = asked.get("k", 0)
        return [f"--k {k:.0f}: all {n_rows:,} training rows vote"] if k > n_rows else []


HEADS: Registry[type[HeadSpec]] = Registry("head", [Dense, Logistic, Path, Ridge, Prototype, KNN])


def names_that(able: str, last: str = "and") -> str:
    """Return the names of the heads of which an attribute of their class is true, as a list."""
    *names, end = [name for name, spec in HEADS.items() if getattr(spec, able)]
    return f"{', '.join(names)} {last} {end}" if names else end


def owners(name: str) -> list[tuple[type[HeadSpec], Option]]:
    """Return the heads that take an option, and what each declares of it."""
    return [(spec, one) for spec in HEADS.values() for one in spec.options if one.name == name]


def read_options(
    solver: str, given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
    """Return a head's parameters, and those to choose with their values.

    Parameters
    ----------
    given : mapping
        Of `Option.name` to a value, or to what was typed; None where nothing was.

    Raises
    ------
    UsageError
        An option belongs to another head, or a value cannot be read.
    UnknownNameError
        There is no such head.
    """
    own = {one.name: one for one in HEADS[solver].options}
    params: dict[str, Any] = {}
    grids: dict[str, tuple[Any, ...]] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name not in own:
            refuse(f"--{name.replace('_', '-')}", [spec.name for spec, _ in owners(name)], solver)
        values = own[name].read(value)
        if len(values) == 1:
            params[name] = values[0]
        else:
            grids[name] = values
    return params, grids


USUAL = "path"  # with a grid of C it was ahead of dense on every set of images tried


def choose_head(
    given: Mapping[str, Any], *, seeds: bool = False, held_out: bool = True
) -> tuple[str, dict[str, Any], str]:
    """Return the head where none is named: `USUAL`, unless an option belongs to another.

    Parameters
    ----------
    given : mapping
        As in `read_options`.
    seeds : bool
        Several seeds are asked for, and so a head in whose fit there is chance.
    held_out : bool
        Some rows are held out, by which a value can be chosen.

    Returns
    -------
    name : str
    given : dict
        With the grid of its first option that has one, where nothing was said of it.
    why : str
        In words, for the screen.

    Raises
    ------
    UsageError
        No head takes all of the options.
    """
    named = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    able = [
        spec
        for spec in HEADS.values()
        if (spec.seeded or not seeds)
        and {name for name, value in given.items() if value is not None}
        <= {one.name for one in spec.options}
    ]
    if not able:
        raise UsageError(f"no head takes {', '.join(named)} together; leave some out")
    chosen = next((spec for spec in able if spec.name == USUAL), able[0])
    why = f"no --head is given, and {chosen.name} takes {', '.join(named or ['--seeds'])}"
    filled = dict(given)
    if chosen.name == USUAL:
        why = f"no --head is given, and {USUAL} is the best on held-out images most often"
        grid = next(iter(chosen.grids()))
        if filled.get(grid) is None and held_out:
            filled[grid] = "grid"
    return chosen.name, filled, why


def refuse(option: str, others: Iterable[str], solver: str) -> None:
    """Raise UsageError: an option belongs to other heads."""
    raise UsageError(
        f"{option} belongs to --head {' or '.join(others)}; leave it out with {solver}"
    )


def default_grid(solver: str, name: str = "") -> dict[str, tuple[float, ...]]:
    """Return the values that a parameter of a head is chosen from, by default its first grid.

    Raises
    ------
    UsageError
        The head has no grid for it.
    """
    grids = HEADS[solver].grids()
    name = name or next(iter(grids), "")
    if name not in grids:
        known = [
            f"{one.spelled} with {s.name}" for s in HEADS.values() for one in s.grids().values()
        ]
        raise UsageError(f"--head {solver} has no grid of {name}; there is {', '.join(known)}")
    return {name: grids[name].grid_values()}
