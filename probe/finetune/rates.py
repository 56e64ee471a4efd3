"""Learning rates: which parameters learn and how fast, weight decay, and schedules over the steps.

    multiplier = backbone or head factor * layer_decay ** layers above * every matching pattern

A frozen parameter has no multiplier. Biases and the gammas and betas of norms have no weight decay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from probe.backbones.spec import BackboneSpec
from probe.errors import UsageError
from probe.finetune.options import BACKBONE, NONE, Options, ScheduleName

HEAD = "head."
DROPS, DROP = (0.5, 0.75), 0.1  # shares of the training after which the rate drops, and the factor


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How a parameter learns: a factor on the learning rate, and whether it has weight decay."""

    factor: float
    decayed: bool


def block_of(name: str) -> int:
    """Return the index of a parameter's block in the network's `features`; -1 for the head."""
    return -1 if name.startswith(HEAD) else int(name.split(".")[1])


def frozen_blocks(spec: BackboneSpec, freeze: str, end: int) -> int:
    """Return how many blocks, counted from the input, are frozen.

    Parameters
    ----------
    freeze : str
        ``none``, ``backbone`` or a layer, which is frozen with all below it.
    end : int
        Number of blocks up to the layer of the features.

    Raises
    ------
    UnknownNameError
        There is no such layer.
    UsageError
        The layer lies above that of the features.
    """
    if freeze == NONE:
        return 0
    if freeze == BACKBONE:
        return end
    after = spec.layer(freeze).after
    if after > end:
        raise UsageError(
            f"--freeze {freeze}: the features come from a layer below it; take --freeze backbone"
        )
    return after


def stages(spec: BackboneSpec, options: Options, end: int) -> list[tuple[int, int]]:
    """Return (first epoch, frozen blocks) in order; the first stage begins at epoch 1.

    Raises
    ------
    UnknownNameError, UsageError
        As `frozen_blocks`; or a later stage does not free more than the one before.
    """
    found = [(1, frozen_blocks(spec, options.freeze, end))]
    for epoch, freeze in options.unfreeze:
        blocks = frozen_blocks(spec, freeze, end)
        if blocks >= found[-1][1]:
            raise UsageError(
                f"--unfreeze {epoch}:{freeze} frees nothing more; start with --freeze backbone and "
                "name ever lower layers, `none` last"
            )
        found.append((epoch, blocks))
    return found


def rates(
    names: Sequence[str], spec: BackboneSpec, options: Options, frozen: int
) -> dict[str, Rate]:
    """Return the rate of each parameter that learns.

    Parameters
    ----------
    names : sequence of str
        Canonical names of all parameters, running statistics not among them.
    frozen : int
        Number of frozen blocks.

    Raises
    ------
    UsageError
        A pattern matches nothing.
    """
    above = _layers_above(names)
    used = dict.fromkeys(options.lr_mult, False)
    found = {}
    for name in names:
        block = block_of(name)
        factor = options.head_lr_mult if block < 0 else options.backbone_lr_mult
        factor *= options.layer_decay ** above[name]
        for pattern, more in options.lr_mult:
            if fnmatchcase(name, pattern) or fnmatchcase(layer_of(spec, block), pattern):
                used[pattern, more] = True
                factor *= more
        if (block < 0 or block >= frozen) and factor > 0:
            found[name] = Rate(factor=factor, decayed=name.endswith(".weight"))
    for (pattern, _), hit in used.items():
        if not hit:
            raise UsageError(
                f"--lr-mult {pattern}: no parameter and no layer is called so; parameters are "
                f"{names[0]} ... {names[-1]}"
            )
    if not found:
        raise UsageError("nothing would learn: every learning rate is 0")
    return found


def layer_of(spec: BackboneSpec, block: int) -> str:
    """Return the layer that a block belongs to: the first that ends at it or later."""
    if block < 0:
        return "head"
    ends = [(layer.after, layer.name) for layer in spec.layers if layer.after > block]
    return min(ends)[1] if ends else ""


def _layers_above(names: Sequence[str]) -> dict[str, int]:
    """Return how many blocks of the backbone and layers of the head lie above each parameter."""
    keys = {name: _depth(name) for name in names}
    order = {key: place for place, key in enumerate(sorted(set(keys.values()), reverse=True))}
    return {name: order[key] for name, key in keys.items()}


def _depth(name: str) -> tuple[int, int]:
    """Return a key that sorts parameters from the input to the output."""
    block = block_of(name)
    return (1, int(name.split(".")[1])) if block < 0 else (0, block)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The factor on the learning rate at each step.

    Parameters
    ----------
    name : {"cosine", "step", "constant"}
        ``cosine`` falls to 0 at the end; ``step`` to a tenth after a half and again after three
        quarters.
    warmup : int
        Steps of the linear warmup.
    total : int
        Number of steps, warmup included.

    References
    ----------
    Loshchilov, Hutter, SGDR, arXiv:1608.03983: the cosine. Goyal et al., arXiv:1706.02677:
    the warmup.
    """

    name: ScheduleName
    warmup: int
    total: int

    def factor(self, step: int) -> float:
        """Return the factor of a step, counted from 1."""
        if step <= self.warmup:
            return step / (self.warmup + 1)
        if self.name == "constant":
            return 1.0
        if self.name == "step":
            return DROP ** sum(step > share * self.total for share in DROPS)
        done = (step - self.warmup - 1) / max(1, self.total - self.warmup)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def schedule_of(options: Options, updates: int) -> Schedule:
    """Return the schedule of a training whose epochs have so many steps.

    Of a length in steps the warmup takes an eighth at most, as one epoch of the default eight.
    """
    total, warmup = options.epochs * updates, round(options.warmup * updates)
    if options.steps is not None:
        total, warmup = options.steps, min(warmup, options.steps // 8)
    return Schedule(name=options.schedule, warmup=warmup, total=total)
