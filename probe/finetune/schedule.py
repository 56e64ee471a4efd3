"""Learning rate schedules: a linear warmup, then cosine, step or constant."""

from __future__ import annotations

import math
from dataclasses import dataclass

from probe.finetune.options import ScheduleName

DROPS, DROP = (0.5, 0.75), 0.1  # shares of the training after which the rate drops, and the factor


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
