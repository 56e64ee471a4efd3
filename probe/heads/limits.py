"""What solvers hold in memory besides rows, for those who have to promise a limit."""

from __future__ import annotations

L_BFGS_PAIRS = 20  # of steps and gradient changes that it remembers
L_BFGS = 2 * L_BFGS_PAIRS + 12  # vectors as long as a head that its solution holds, float64
STREAMING_BYTES = 48 << 20  # of them, for all heads solved at once where rows are not in memory
