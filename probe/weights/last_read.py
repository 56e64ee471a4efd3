"""Keep the parameters that were read last, for whoever needs the same ones next.

The first pass with a weight file needs its parameters for their digest, for the check on two
photographs and for the network. Read once, they are also surely the ones that the digest names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from probe.backbones.spec import BackboneSpec, Layer
from probe.core.memo import Stamp, stamp_of
from probe.weights.load import Loaded

Place = tuple[Path, str, str, Stamp]


class LastRead:
    """At most one network's parameters, and only while somebody asks to keep them."""

    def __init__(self) -> None:
        self._keeping = False
        self._last: tuple[Place, Loaded] | None = None

    @contextmanager
    def keeping(self, *, beyond: bool = False) -> Iterator[None]:
        """Keep what is read within the block.

        Parameters
        ----------
        beyond : bool, default=False
            Whether the last parameters stay until `forget`, for a pass that follows.
        """
        self._keeping = True
        try:
            yield
        except BaseException:
            self.forget()
            raise
        finally:
            self._keeping = False
            if not beyond:
                self.forget()

    def load(
        self, path: Path, backbone: BackboneSpec, layer: Layer, read: Callable[[], Loaded]
    ) -> Loaded:
        """Return what is kept of a file that has not changed since; else read it."""
        if not self._keeping and self._last is None:
            return read()
        try:
            place = (path, backbone.name, layer.name, stamp_of(path))
        except OSError:
            return read()  # which says what is wrong with the path
        if self._last is not None and self._last[0] == place:
            return self._last[1]
        loaded = read()
        if self._keeping:
            self._last = place, loaded
        return loaded

    def forget(self) -> None:
        """Let the memory go."""
        self._last = None
