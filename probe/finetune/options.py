"""Options of a fine-tuning, checked when they are made."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, get_args

from probe.core.options import Counts, counts
from probe.core.text import counted
from probe.errors import UsageError

if TYPE_CHECKING:
    from probe.finetune.augment import Augment

Start = Literal["probe", "zeros", "fresh", "scratch"]
OptimizerName = Literal["sgd", "adam", "adamw"]
ScheduleName = Literal["cosine", "step", "constant"]
BatchNorm = Literal["frozen", "moving"]
Rates = str | float | Sequence[float] | None
Sampling = Literal["shuffle", "balanced", "weighted"]

LEARNING_RATES: Mapping[OptimizerName, float] = {"sgd": 1e-3, "adam": 1e-4, "adamw": 1e-4}
ADDED = {"steps"}  # fields that earlier versions did not write
NONE, BACKBONE = "none", "backbone"  # what --freeze takes besides a layer


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a network is fine-tuned; the defaults suit a few hundred to a few thousand images.

    `probe.promote` says what the options of the same names mean.

    Parameters
    ----------
    freeze : str
        ``none``, ``backbone``, or a layer, which is frozen with all layers below it.
    steps : int, optional
        Steps of the optimizer in all, in place of `epochs`.
    unfreeze : tuple of (epoch, freeze)
        From that epoch on (counted from 1) this `freeze` holds; each later one frees more layers.
    lr : float or None
        None for that of `LEARNING_RATES`.
    augment : str
        See `probe.finetune.augment.parse_augment`.
    sizes : tuple of int
        Sides of training images in pixels, of which each batch draws one; empty for the side
        that the features were computed at.
    seed : int
        Of all random numbers: order, augmentation, dropout, mixup, fresh weights.

    Raises
    ------
    UsageError
        A value is out of range; the message names the option.
    """

    epochs: int = 8
    steps: int | None = None
    batch_size: int = 32
    start: Start = "probe"
    freeze: str = NONE
    unfreeze: tuple[tuple[int, str], ...] = ()
    optimizer: OptimizerName = "adamw"
    lr: float | None = None
    momentum: float = 0.9
    wd: float = 1e-4
    backbone_lr_mult: float = 1.0
    head_lr_mult: float = 1.0
    layer_decay: float = 1.0
    lr_mult: tuple[tuple[str, float], ...] = ()
    schedule: ScheduleName = "cosine"
    warmup: float = 1.0
    bn: BatchNorm | None = None
    label_smoothing: float = 0.0
    mixup: float = 0.0
    accumulate: int = 1
    clip: float = 5.0
    ema: float = 0.0
    augment: str = "auto"
    sizes: tuple[int, ...] = ()
    sampling: Sampling = "shuffle"
    ohem: float = 1.0
    patience: int = 0
    seed: int = 42

    def __post_init__(self) -> None:
        _one_of("--start", self.start, get_args(Start))
        _one_of("--optimizer", self.optimizer, get_args(OptimizerName))
        _one_of("--schedule", self.schedule, get_args(ScheduleName))
        _one_of("--sampling", self.sampling, get_args(Sampling))
        if self.bn is not None:
            _one_of("--bn", self.bn, get_args(BatchNorm))
        for option, least in {"epochs": 1, "batch_size": 1, "accumulate": 1, "patience": 0}.items():
            _check(getattr(self, option) >= least, option, getattr(self, option), f">= {least}")
        for option in ("wd", "backbone_lr_mult", "head_lr_mult", "warmup", "mixup", "clip"):
            value = getattr(self, option)
            _check(0 <= value < float("inf"), option, value, "a number from 0 up")
        for option in ("momentum", "label_smoothing", "ema"):
            _check(
                0 <= getattr(self, option) < 1, option, getattr(self, option), "from 0 to below 1"
            )
        for option in ("layer_decay", "ohem"):
            _check(
                0 < getattr(self, option) <= 1, option, getattr(self, option), "above 0, up to 1"
            )
        _check(self.lr is None or 0 < self.lr < float("inf"), "lr", self.lr, "above 0")
        _check(self.steps is None or self.steps >= 1, "steps", self.steps, ">= 1")
        _check(all(size >= 1 for size in self.sizes), "sizes", self.sizes, "sides in pixels")
        _check(all(f >= 0 for _, f in self.lr_mult), "lr_mult", self.lr_mult, "factors from 0 up")
        self.policy()

    @classmethod
    def of(
        cls,
        *,
        unfreeze: str | Mapping[int, str] = "",
        lr_mult: str | Sequence[str] | Mapping[str, float] | None = None,
        train_sizes: Counts = None,
        lr: Rates = None,
        **same: Any,
    ) -> Options:
        """Return what the options of `probe promote` ask for, as their text or Python's values.

        Parameters
        ----------
        unfreeze : str or mapping of epoch to freeze
        lr_mult : str, sequence of str, or mapping of pattern to factor
        train_sizes : str, int or sequence of int
        lr : str, float or sequence of float
            Of several the first; see `probe.finetune.choice`.
        **same
            The other fields.
        """
        if isinstance(unfreeze, Mapping):
            unfreeze = ",".join(f"{epoch}:{name}" for epoch, name in unfreeze.items())
        if isinstance(lr_mult, Mapping):
            lr_mult = [f"{pattern}={factor}" for pattern, factor in lr_mult.items()]
        if same.get("freeze") == BACKBONE and not unfreeze:
            for name in ("backbone_lr_mult", "layer_decay"):
                if same.get(name, 1.0) != 1.0:
                    raise UsageError(
                        f"--{name.replace('_', '-')} has no effect beside --freeze backbone, which "
                        "leaves the last layer alone to learn: leave out one of them"
                    )
        multipliers = [lr_mult] if isinstance(lr_mult, str) else lr_mult or ()
        return cls(
            unfreeze=parse_unfreeze(unfreeze),
            lr=next(iter(parse_rates(lr)), None),
            lr_mult=tuple(parse_multiplier(one) for one in multipliers),
            sizes=counts(
                "--train-sizes", train_sizes, wanted="expected sides in pixels, as in 28,32,36"
            ),
            **same,
        )

    @property
    def rate(self) -> float:
        """The highest learning rate."""
        return LEARNING_RATES[self.optimizer] if self.lr is None else self.lr

    @property
    def unit(self) -> Literal["epochs", "steps"]:
        """What its length was given in."""
        return "epochs" if self.steps is None else "steps"

    @property
    def count(self) -> int:
        """Its length, in its unit."""
        return self.epochs if self.steps is None else self.steps

    @property
    def length(self) -> str:
        """How long it is, in words."""
        return counted(self.count, self.unit.removesuffix("s"))

    def lasting(self, count: int) -> Options:
        """Return the same options with another length, in their unit."""
        return replace(self, **{self.unit: count})  # type: ignore[arg-type]

    @property
    def batch_norm(self) -> BatchNorm:
        """Which statistics BatchNorm uses, with the default resolved."""
        return self.bn or ("moving" if self.start == "scratch" else "frozen")

    def policy(self) -> Augment:
        """Return the parsed augmentation."""
        from probe.finetune.augment import parse_augment  # it imports Pillow: too slow for help

        return parse_augment(self.augment)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        plain = asdict(self)
        plain["unfreeze"] = [list(pair) for pair in self.unfreeze]
        plain["lr_mult"] = [list(pair) for pair in self.lr_mult]
        plain["sizes"] = list(self.sizes)
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Options:
        """Read what `to_json` wrote.

        Raises
        ------
        ValueError
            A field is missing, unknown or out of range; those of ADDED may be missing.
        """
        names = {field.name for field in fields(cls)}
        if not names - ADDED <= set(data) <= names:
            raise ValueError(f"options are {sorted(data)}, expected {sorted(names)}")
        values = dict(data)
        values["unfreeze"] = tuple((int(e), str(name)) for e, name in data["unfreeze"])
        values["lr_mult"] = tuple((str(name), float(f)) for name, f in data["lr_mult"])
        values["sizes"] = tuple(int(size) for size in data["sizes"])
        return cls(**values)


def parse_rates(value: Rates) -> tuple[float, ...]:
    """Return the learning rates of ``0.001,0.01``, of a number or of several, each once.

    Raises
    ------
    UsageError
        One of them is no number above 0.
    """
    if value is None:
        return ()
    given: list[Any] = [value] if isinstance(value, str | Real) else list(value)  # type: ignore[arg-type]
    found: dict[float, None] = {}
    for word in (part for one in given for part in str(one).split(",")):
        try:
            rate = float(word)
        except ValueError:
            rate = 0.0
        if not 0 < rate < float("inf"):
            said = value if isinstance(value, str) else ",".join(map(str, given))
            raise UsageError(f"--lr {said}: give numbers above 0, as in 0.001 or 0.001,0.01")
        found[rate] = None
    return tuple(found)


def parse_unfreeze(text: str) -> tuple[tuple[int, str], ...]:
    """Read ``3:pool4,6:none``: the layers above pool4 learn from epoch 3 on, all from epoch 6 on.

    Raises
    ------
    UsageError
        The text has another form, or the epochs do not rise.
    """
    found = []
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"\s*(\d+)\s*:\s*([\w.]+)\s*", part)
        if match is None:
            raise UsageError(f"--unfreeze {part}: expected EPOCH:LAYER, as in 3:pool4,6:none")
        found.append((int(match[1]), match[2]))
    epochs = [epoch for epoch, _ in found]
    if epochs != sorted(set(epochs)) or (epochs and epochs[0] < 2):
        raise UsageError(f"--unfreeze {text}: the epochs must rise, from 2 on")
    return tuple(found)


def parse_multiplier(text: str) -> tuple[str, float]:
    """Read a pattern of names and its factor, as in ``conv5_*=0.1``.

    Raises
    ------
    UsageError
        The text has another form.
    """
    pattern, _, factor = text.rpartition("=")
    try:
        value = float(factor)
    except ValueError:
        value = -1.0
    if not pattern or not 0 <= value < float("inf"):
        raise UsageError(f"--lr-mult {text}: expected PATTERN=FACTOR, as in 'conv5_*=0.1'")
    return pattern, value


def _one_of(option: str, value: str, names: tuple[str, ...]) -> None:
    if value not in names:
        raise UsageError(f"{option} {value}: expected {', '.join(names)}")


def _check(ok: bool, option: str, value: object, wanted: str) -> None:
    if not ok:
        raise UsageError(f"--{option.replace('_', '-')} {value}: it must be {wanted}")
