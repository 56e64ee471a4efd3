"""Every backbone of the catalog as ONNX and MXNet files, against the bundle it was made of.

    python -m benchmarks.export_families [--backbones resnet18,vgg11] [--to onnx,mxnet]

Random weights, the network's own input size, a linear head on the last layer before the classifier.
An export runs on twelve reference images and is written only if probabilities and features are
those of the bundle within 1e-4. Peer: the bundle.

Seen with ONNX Runtime 1.31, in several runs: both alike for all 36.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from probe.backbones.catalog import BACKBONES
from probe.backbones.spec import resolve_pool
from probe.bundle import WEIGHTS, About, Bundle, NetworkAbout, build_networks, write_bundle
from probe.bundle.write import synthetic_images
from probe.core.memo import Memo
from probe.errors import ProbeError
from probe.export import export_mxnet, export_onnx
from probe.heads import PrototypeHead
from probe.weights import resolve_weights

EXPORTS = {"onnx": export_onnx, "mxnet": export_mxnet}


def random_bundle(backbone: str, folder: Path, size: int | None = None) -> Bundle:
    """Bundle a backbone of random weights and a random head; `size` in pixels, else its own."""
    spec, memo = BACKBONES[backbone], Memo(folder / "memo.sqlite")
    weights = resolve_weights(spec, "random:0", cache_dir=folder, memo=memo, preprocess=None)
    preprocess = weights.preprocess.with_size(size) if size else weights.preprocess
    layer = spec.layers[-1]
    loaded, pool = weights.load(spec, layer), resolve_pool(layer, None)
    network = NetworkAbout(
        backbone=backbone, layer=layer.name, pool=pool, preprocess=preprocess.to_json(),
        parameters=loaded.digest, weights=weights.name, licence="none",
    )  # fmt: skip
    images = synthetic_images(6, preprocess.size)
    (built,) = build_networks([network], {WEIGHTS: loaded.parameters}, batch_size=6)
    rows = built.features(images)
    # random weights map all images to nearly the same features: a head that was fitted on them
    # would answer to rounding, so this one has random weights, too, on rows of length one
    head = PrototypeHead(normalize="l2").fit(rows, np.arange(6) % 3)
    rng = np.random.default_rng(0)
    head.coef_ = rng.normal(size=head.coef_.shape)
    head.intercept_ = rng.normal(size=head.intercept_.shape)
    about = About(
        networks=(network,), classes=("a", "b", "c"), dataset="synthetic", head="prototype",
        run="", heads=("head.safetensors",), temperature=None, rejection=None,
        remembers=None, metrics={}, intervals={}, files={},
    )  # fmt: skip
    return write_bundle(folder / f"{backbone}.probe", about, {WEIGHTS: loaded.parameters}, [head])


def main() -> None:
    """Export what was asked for, and say how it went."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbones", default=",".join(BACKBONES))
    parser.add_argument("--to", default="onnx,mxnet")
    options = parser.parse_args()
    for backbone in options.backbones.split(","):
        with tempfile.TemporaryDirectory() as folder:
            bundle = random_bundle(backbone, Path(folder))
            for form in options.to.split(","):
                started = time.perf_counter()
                try:
                    EXPORTS[form](bundle, Path(folder, f"export.{form}"))
                    outcome = f"answers alike, {time.perf_counter() - started:.1f} s"
                except ProbeError as error:
                    outcome = f"FAILED: {error}"
                print(f"{backbone:22} {form:6} {outcome}", flush=True)


if __name__ == "__main__":
    main()
