"""Checkpoints: a training is resumed from them; each is whole or absent, and has a checksum.

checkpoints/last.safetensors    weights, optimizer state and progress
checkpoints/best.safetensors    the parameters of the best epoch so far
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from probe.core.files import replacing
from probe.core.records import loads_json
from probe.core.regular import refuse
from probe.core.short_repr import short_repr
from probe.errors import PromoteError
from probe.heads.history import Epoch

FOLDER, LAST, BEST = "checkpoints", "last.safetensors", "best.safetensors"
KEY = "probe.promote"
LOG = "log"  # the array with the figures of each batch, which is no part of the state

Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a training has come.

    Parameters
    ----------
    epoch : int
        The current epoch, from 1; one more than the last when all are done.
    batch : int
        Batches of it that are done.
    updates : int
        Steps of the optimizer so far.
    history : tuple of Epoch
        Epochs that are done.
    ends : tuple of int
        Batches that were behind at the end of each.
    best_epoch : int
        0 before the first epoch is done.
    stopped : bool
        Training stopped early.
    seconds : float
        Wall time of training so far.
    """

    __repr__ = short_repr

    epoch: int = 1
    batch: int = 0
    updates: int = 0
    history: tuple[Epoch, ...] = ()
    ends: tuple[int, ...] = ()
    best_epoch: int = 0
    stopped: bool = False
    seconds: float = field(default=0.0, compare=False)

    @property
    def best(self) -> Epoch | None:
        """The epoch whose parameters are kept."""
        return self.history[self.best_epoch - 1] if self.best_epoch else None

    def with_epoch(self, done: Epoch, patience: int) -> Progress:
        """Return the progress after another epoch.

        The best epoch has the highest `Epoch.val_score`; ties go to the lower loss, then the first.
        """
        history, best = (*self.history, done), self.best
        ends = (*self.ends, (self.ends[-1] if self.ends else 0) + self.batch)
        better = best is None or done.rank > best.rank
        best_epoch = done.epoch if better else self.best_epoch
        return replace(
            self, epoch=done.epoch + 1, batch=0, history=history, ends=ends,
            best_epoch=best_epoch, stopped=bool(patience) and done.epoch - best_epoch >= patience,
        )  # fmt: skip


def save_last(folder: Path, progress: Progress, arrays: Arrays, log: NDArray[np.float32]) -> None:
    """Write the last checkpoint, by rename."""
    _save(folder / FOLDER / LAST, asdict(progress), {**arrays, LOG: log})


def load_last(folder: Path) -> tuple[Progress, dict[str, NDArray[np.float32]]] | None:
    """Return what `save_last` wrote; None if there is no checkpoint yet.

    Raises
    ------
    PromoteError
        The file is damaged.
    """
    path = folder / FOLDER / LAST
    if not path.exists():
        return None
    about, arrays = _load(path)
    try:
        history = tuple(Epoch(**one) for one in about.pop("history"))
        ends = tuple(about.pop("ends", ()))
        return Progress(history=history, ends=ends, **about), arrays
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, str(error)) from error


def save_best(folder: Path, epoch: int, parameters: Arrays) -> None:
    """Write the parameters of the best epoch so far, by rename."""
    _save(folder / FOLDER / BEST, {"epoch": epoch}, parameters)


def load_best(folder: Path, epoch: int) -> dict[str, NDArray[np.float32]]:
    """Return the parameters of the best epoch.

    Raises
    ------
    PromoteError
        The file is damaged or of another epoch.
    """
    path = folder / FOLDER / BEST
    about, arrays = _load(path)
    if about.get("epoch") != epoch:
        raise _damaged(path, f"it is of epoch {about.get('epoch')}, not {epoch}")
    return arrays


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files of a killed run; only one process writes to a run's folder."""
    for place in (folder, folder / FOLDER):
        for path in place.glob(".*.tmp"):
            path.unlink(missing_ok=True)


def _save(path: Path, about: Mapping[str, Any], arrays: Arrays) -> None:
    from safetensors.numpy import save_file

    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    text = json.dumps({**about, "checksum": _checksum(about, whole)})
    try:
        with replacing(path) as temporary:
            save_file(whole, temporary, metadata={KEY: text})
    except OSError as error:
        raise PromoteError(
            f"{path}: cannot be written ({error.strerror or error}); make room or mend the folder, "
            f"then `probe promote --resume {path.parent.parent}` goes on from the last checkpoint"
        ) from error


def _load(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    from safetensors import SafetensorError, safe_open

    try:
        refuse(path, path.stat())
        with safe_open(path, framework="numpy") as file:
            about = loads_json((file.metadata() or {})[KEY])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        checksum = about.pop("checksum")
    except (SafetensorError, OSError, KeyError, ValueError, AttributeError) as error:
        raise _damaged(path, " ".join(str(error).split())) from error
    if checksum != _checksum(about, arrays):
        raise _damaged(path, "its content does not match its checksum")
    return about, arrays


def _checksum(about: Mapping[str, Any], arrays: Arrays) -> str:
    hasher = xxhash.xxh3_128(json.dumps(about, sort_keys=True).encode())
    for name in sorted(arrays):
        hasher.update(f"{name}:{arrays[name].shape}".encode())
        hasher.update(arrays[name].reshape(-1).view(np.uint8).data)
    return hasher.hexdigest()


def _damaged(path: Path, why: str) -> PromoteError:
    return PromoteError(f"{path}: damaged ({why}); start again with `probe promote`")
