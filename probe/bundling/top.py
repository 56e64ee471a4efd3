"""Weights that need no training: those that still have their classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.backbones.catalog import BACKBONES
from probe.backbones.spec import LOGITS
from probe.bundle import (
    OWN_TOP,
    WEIGHTS,
    About,
    Bundle,
    NetworkAbout,
    build_networks,
    write_bundle,
)
from probe.errors import BundleError
from probe.memo import Memo
from probe.preprocess import load_preprocess
from probe.weights import class_names, resolve_weights


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnTop:
    """Weights that still have their classifier of ImageNet's 1,000 classes: a model as it is."""

    about: About
    parameters: Mapping[str, NDArray[np.float32]]

    def bundle(self, out: Path) -> Bundle:
        """Write it as a bundle; see `write_bundle`."""
        return write_bundle(out, self.about, {WEIGHTS: self.parameters}, [])

    def load(self, *, batch_size: int | None = 1, device: str = "auto") -> Bundle:
        """Return it ready to predict, without writing anything; see `Bundle.load`."""
        networks = build_networks(
            self.about.networks, {WEIGHTS: self.parameters}, batch_size=batch_size, device=device
        )
        return Bundle(about=self.about, networks=networks, heads=())


def own_top(
    backbone: str, *, cache_dir: Path, weights: str = "auto", preprocess: str | None = None
) -> OwnTop:
    """Return a backbone with the classifier that its weights came with.

    Raises
    ------
    BundleError
        The weights have no top, or are fed at another size than it takes.
    WeightsError
        No weights are at hand.
    """
    spec, memo = BACKBONES[backbone], Memo(cache_dir / "memo.sqlite")
    given = load_preprocess(preprocess) if preprocess else None
    found = resolve_weights(spec, weights, cache_dir=cache_dir, memo=memo, preprocess=given)
    if not found.has_top(spec):
        raise BundleError(
            f"{found.name}: these weights have no classifier of their own, so they name nothing "
            "untrained; fit a head with `probe extract` and `probe head`"
        )
    loaded, size = found.load(spec, spec.logits), found.preprocess.size
    if size != spec.input_size:
        raise BundleError(f"{backbone}: its classifier takes {spec.input_size} pixels, not {size}")
    network = NetworkAbout(
        backbone=backbone,
        layer=LOGITS,
        pool="none",
        preprocess=found.preprocess.to_json(),
        parameters=loaded.digest,
        weights=found.name,
        licence=found.terms,
    )
    about = About(
        networks=(network,),
        classes=class_names(),
        dataset="imagenet",
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
