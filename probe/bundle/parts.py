"""The parts of a bundle, each read and checked by itself."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.bundle.about import NEIGHBOURS, REFERENCE, About
from probe.bundle.files import BundleFiles, read_arrays
from probe.bundle.neighbours import Neighbours
from probe.errors import BundleError, HeadError

if TYPE_CHECKING:
    from probe.heads import FittedHead


def read_reference(files: BundleFiles, about: About) -> dict[str, NDArray[Any]]:
    """Return the synthetic images, their features and their probabilities."""
    arrays = read_arrays(files.checked(REFERENCE, about), str(files.path))
    for name in ("images", "features", "probabilities"):
        if name not in arrays:
            raise BundleError(f"{files.path}: {REFERENCE} lacks {name}")
    return arrays


def read_neighbours(files: BundleFiles, about: About) -> Neighbours | None:
    """Return the training features that are remembered, if there are some."""
    if not about.remembers:
        return None
    arrays = read_arrays(files.checked(NEIGHBOURS, about), str(files.path))
    return Neighbours.from_arrays(arrays, len(about.classes), str(files.path))


def read_head(files: BundleFiles, about: About, name: str) -> FittedHead:
    """Return a head of the bundle, ready to predict."""
    from probe.heads import load_fitted

    data = files.checked(name, about)
    with tempfile.TemporaryDirectory() as folder:  # the bytes that were checked, not the file again
        path = Path(folder, name)
        path.write_bytes(data)
        try:
            head = load_fitted(path)
        except HeadError as error:
            reason = str(error).removeprefix(f"{path}: ")
            raise BundleError(f"{files.path}: {name}: {reason}") from error
    check_head(f"{files.path}: {name}", head, len(about.classes))
    return head


def check_head(where: str, head: FittedHead, n_classes: int) -> None:
    """Refuse a head that is not fitted, or tells other classes apart than the bundle names.

    Raises
    ------
    BundleError
    """
    if not hasattr(head, "classes_"):
        raise BundleError(f"{where}: the head is not fitted; fit it with `probe head` first")
    labels = head.classes_
    if not np.issubdtype(labels.dtype, np.integer):
        raise BundleError(f"{where}: the head's labels are no class numbers")
    if labels.min() < 0 or labels.max() >= n_classes:
        raise BundleError(
            f"{where}: the head tells {labels.max() + 1} classes apart, the bundle names "
            f"{n_classes}"
        )


def check_parameters(where: str, about: About, parameters: Mapping[str, NDArray[Any]]) -> None:
    """Refuse weights of another backbone before the network is built with them.

    Raises
    ------
    BundleError
    """
    from probe.backbones.network import parameter_shapes

    layer, _ = about.cut
    for name, shape in parameter_shapes(about.spec).items():
        if about.spec.uses(layer, name) and (
            name not in parameters or parameters[name].shape != shape
        ):
            found = parameters[name].shape if name in parameters else "missing"
            raise BundleError(
                f"{where}: its weights are not those of {about.backbone} to {about.layer}: {name} "
                f"is {found}, expected {shape}"
            )
