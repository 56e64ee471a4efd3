"""One network on several devices."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.engines.base import Engine


class SeveralDevices:
    """Engines of one network, each on a device of its own, to which batches go in turn.

    Rows come back for the batch they belong to, whichever device made them, so their order is that
    of one device.

    Parameters
    ----------
    engines : sequence of Engine
        Of one network and batch size.
    device : str
        What they are called together, as ``cuda:0,1``.
    """

    def __init__(self, engines: Sequence[Engine], device: str) -> None:
        self.batch_size, self.device, self.devices = engines[0].batch_size, device, len(engines)
        self._turns = cycle(engines)

    def submit(self, batch: NDArray[np.uint8]) -> tuple[Engine, Any]:
        """Start a forward pass on the next device; see `Engine.submit`."""
        engine = next(self._turns)
        return engine, engine.submit(batch)

    def collect(self, ticket: tuple[Engine, Any]) -> list[NDArray[np.float32]]:
        """Wait for a batch; see `Engine.collect`."""
        engine, own = ticket
        return engine.collect(own)
