"""Read and check the parts of a bundle, one function for each."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.cut import parameter_shapes
from probe.backbones.spec import classes_of
from probe.bundle.about import NEIGHBOURS, REFERENCE, About
from probe.bundle.files import BundleFiles, read_arrays
from probe.bundle.neighbours import Neighbours
from probe.bundle.network import NetworkAbout
from probe.core.files import reason_of
from probe.errors import BundleError, HeadError
from probe.evaluation.task import SINGLE_LABEL
from probe.heads.io import load_fitted
from probe.heads.projection import FILE_NAME as PROJECTION
from probe.heads.projection import Projection

if TYPE_CHECKING:
    from probe.heads import FittedHead


def read_reference(files: BundleFiles, about: About) -> dict[str, NDArray[Any]]:
    """Return the reference images with their features and probabilities."""
    arrays = read_arrays(files.checked(REFERENCE, about), str(files.path))
    for name in ("images", "features", "probabilities"):
        if name not in arrays:
            raise BundleError(f"{files.path}: {REFERENCE} lacks {name}")
    return arrays


def read_neighbours(files: BundleFiles, about: About) -> Neighbours | None:
    """Return the training features that the bundle keeps, if any."""
    if not about.remembers:
        return None
    arrays = read_arrays(files.checked(NEIGHBOURS, about), str(files.path))
    return Neighbours.from_arrays(arrays, len(about.classes), str(files.path))


def read_projection(files: BundleFiles, about: About) -> Projection | None:
    """Return the PCA between features and head, if there is one."""
    if about.pca is None:
        return None
    arrays = read_arrays(files.checked(PROJECTION, about), str(files.path))
    try:
        found = Projection.from_arrays(arrays)
    except HeadError as error:
        raise BundleError(f"{files.path}: {PROJECTION}: {error}") from error
    if found.width != about.pca:
        raise BundleError(
            f"{files.path}: {PROJECTION} gives {found.width} features, not {about.pca}"
        )
    return found


def read_head(files: BundleFiles, about: About, name: str) -> FittedHead:
    """Return a head of the bundle, ready to predict."""
    data = files.checked(name, about)
    try:
        with tempfile.TemporaryDirectory() as folder:  # the bytes that were checked, not the file
            path = Path(folder, name)
            path.write_bytes(data)
            head = load_fitted(path)
    except HeadError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise BundleError(f"{files.path}: {name}: {reason}") from error
    except OSError as error:
        raise BundleError(
            f"{tempfile.gettempdir()}: cannot be written ({reason_of(error)}); make room, or name "
            "another place in TMPDIR"
        ) from error
    check_head(f"{files.path}: {name}", head, about)
    return head


def check_head(where: str, head: FittedHead, about: About) -> None:
    """Refuse a head that is not fitted, or whose classes are not the bundle's.

    Raises
    ------
    BundleError
    """
    if not hasattr(head, "classes_"):
        raise BundleError(f"{where}: the head is not fitted; fit it with `probe head` first")
    labels, n_classes = head.classes_, len(about.classes)
    if (task := getattr(head, "task_", SINGLE_LABEL)) is not about.task:
        raise BundleError(
            f"{where}: the head gives {task.gives} an image, the bundle {about.task.gives}"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise BundleError(f"{where}: the head's labels are no class numbers")
    if labels.min() < 0 or labels.max() >= n_classes:
        raise BundleError(
            f"{where}: the head tells {labels.max() + 1} classes apart, the bundle names "
            f"{n_classes}"
        )


def check_parameters(
    where: str, network: NetworkAbout, parameters: Mapping[str, NDArray[Any]]
) -> None:
    """Refuse weights of another backbone before the network is built.

    Raises
    ------
    BundleError
    """
    spec, (layer, _) = network.spec, network.cut
    for name, shape in parameter_shapes(spec, classes_of([network.cut])).items():
        if not spec.uses(layer, name):
            continue
        if name not in parameters or parameters[name].shape != shape:
            found = parameters[name].shape if name in parameters else "missing"
            raise BundleError(
                f"{where}: its weights are not those of {network.backbone} to {network.layer}: "
                f"{name} is {found}, expected {shape}"
            )
