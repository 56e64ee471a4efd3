"""Bundles of weights with their pretrained classifier, ImageNet's or another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.bundle import (
    OWN_TOP,
    WEIGHTS,
    About,
    Bundle,
    NetworkAbout,
    build_networks,
    write_bundle,
)
from probe.core.memo import Memo
from probe.core.regular import read_regular
from probe.core.short_repr import short_repr
from probe.errors import BundleError, UsageError, WeightsError
from probe.preprocess.load import load_preprocess
from probe.weights import backbone_called, class_names, resolve_weights, with_mean

LONGEST_PATH, MAX_NAMES = 4096, 1 << 24


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnTop:
    """Weights with their pretrained classifier, of ImageNet's 1,000 classes or others."""

    __repr__ = short_repr

    about: About
    parameters: Mapping[str, NDArray[np.float32]]

    def bundle(self, out: Path, *, engine: str = "auto", device: str = "auto") -> Bundle:
        """Write it as a bundle; see `write_bundle`."""
        return write_bundle(
            out, self.about, {WEIGHTS: self.parameters}, [], engine=engine, device=device
        )

    def load(
        self, *, batch_size: int | None = 1, engine: str = "auto", device: str = "auto"
    ) -> Bundle:
        """Return it ready to predict, without writing anything; see `Bundle.load`."""
        networks = build_networks(
            self.about.networks, {WEIGHTS: self.parameters}, batch_size=batch_size, engine=engine,
            device=device,
        )  # fmt: skip
        return Bundle(about=self.about, networks=networks, heads=())


def read_classes(text: str) -> tuple[str, ...]:
    """Return class names from ``a,b,c``, or from a file with a name a line.

    Raises
    ------
    UsageError
        There is no name, an empty name or a repeated one; or the file cannot be read.
    """
    path = Path(text).expanduser()
    if len(text) <= LONGEST_PATH and path.is_file():
        try:
            lines = read_regular(path, MAX_NAMES).decode("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--classes {path}: no text in UTF-8 ({error})") from None
        names = [line.strip() for line in lines if line.strip()]
    else:
        names = [name.strip() for name in text.split(",")]
    if not names or not all(names):
        raise UsageError(f"--classes {text!r}: expected names as in cat,dog, or a file of them")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"--classes: {twice!r} occurs twice")
    return tuple(names)


def own_top(
    backbone: str, *, cache_dir: Path, weights: str = "auto", preprocess: str | None = None,
    classes: tuple[str, ...] | None = None, mean: Path | None = None,
) -> OwnTop:  # fmt: skip
    """Return a backbone with its pretrained classifier.

    Parameters
    ----------
    classes : tuple of str, optional
        Names of the classes in the classifier's order. ImageNet's need none.
    mean : Path, optional
        A mean image in Caffe's format; see `with_mean`.

    Raises
    ------
    BundleError
        The weights have no classifier, the names do not match its classes, or it takes another
        input size.
    WeightsError
        No weights are found.
    """
    memo = Memo(cache_dir / "memo.sqlite")
    spec = backbone_called(backbone, memo)
    given = load_preprocess(preprocess) if preprocess else None
    found = resolve_weights(spec, weights, cache_dir=cache_dir, memo=memo, preprocess=given)
    if mean is not None:
        found = with_mean(found, mean)
    try:
        layer = found.classifier(spec)
    except WeightsError as error:
        raise BundleError(
            f"{error}; so a bundle needs a head; fit one with `probe extract` and `probe head`"
        ) from None
    imagenet = classes is None and found.has_top(spec)
    names = class_names() if imagenet else _named(layer.width, classes, found.name)
    loaded, size = found.load(spec, layer), found.preprocess.size
    if size != spec.input_size:
        raise BundleError(f"{backbone}: its classifier takes {spec.input_size} pixels, not {size}")
    network = NetworkAbout(
        backbone=backbone,
        layer=layer.name,
        pool="none",
        preprocess=found.preprocess.to_json(),
        parameters=loaded.digest,
        weights=found.name,
        licence=found.terms,
    )
    about = About(
        networks=(network,),
        classes=names,
        dataset="imagenet" if imagenet else Path(found.name).stem,
        head=OWN_TOP,
        run="",
        heads=(),
        temperature=None,
        rejection=None,
        remembers=None,
        metrics={},
        intervals={},
        files={},
    )
    return OwnTop(about=about, parameters=loaded.parameters)


def _named(width: int, classes: tuple[str, ...] | None, weights: str) -> tuple[str, ...]:
    if width == 1:
        raise BundleError(
            f"{weights}: its classifier has one output, for a sigmoid between two classes; only "
            "one output a class can be used"
        )
    if classes is None:
        raise BundleError(
            f"{weights}: its classifier has {width} classes of its own; name them in its order, "
            "as in --classes cat,dog, or in a file with a name a line"
        )
    if len(classes) != width:
        raise BundleError(
            f"--classes: {len(classes)} names, and the classifier of {weights} has {width} classes"
        )
    return classes
