"""Which backbone a person means who names weights and nothing else."""

from __future__ import annotations

from pathlib import Path

from probe.backbones.catalog import BACKBONES
from probe.backbones.spec import BackboneSpec
from probe.core.memo import Memo
from probe.errors import UsageError, WeightsError, WeightsNotFoundError
from probe.weights.catalog import WEIGHTS, identify
from probe.weights.digest import file_digests
from probe.weights.fit import fitting_backbones
from probe.weights.open_file import open_tensors
from probe.weights.store import BACKBONE_KEY


def backbone_for(argument: str, memo: Memo) -> BackboneSpec:
    """Return the backbone of a catalog name, or the only one that a file fits.

    Raises
    ------
    UsageError
        The file fits several.
    WeightsError
        It fits none.
    WeightsNotFoundError
        It is neither a name nor a file.
    """
    if argument in WEIGHTS:
        return BACKBONES[WEIGHTS[argument].backbone]
    path = Path(argument).expanduser()
    if not path.is_file():
        raise WeightsNotFoundError(
            f"{argument}: neither a file nor a name in the catalog (`probe weights list`)"
        )
    known = identify(file_digests(path, memo))
    if known is not None:
        return BACKBONES[known.backbone]
    file = open_tensors(path)
    if file.metadata.get(BACKBONE_KEY) in BACKBONES:
        return BACKBONES[file.metadata[BACKBONE_KEY]]
    fitting = fitting_backbones(file)
    if not fitting:
        raise WeightsError(
            f"{path}: fits no backbone; `probe weights show {path.name} --backbone NAME` says why"
        )
    if len(fitting) > 1:
        raise UsageError(f"{path}: fits several backbones; say --backbone {' or '.join(fitting)}")
    return BACKBONES[fitting[0]]
