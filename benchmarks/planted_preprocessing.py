"""How many wrong preprocessings `probe weights check` tells, of networks from outside the catalog.

    python -m benchmarks.planted_preprocessing NETWORK[=PREPROCESS] ...

A NETWORK is an ONNX file or a folder with one, PREPROCESS what `--preprocess` takes; without it the
publisher's is taken, from a JSON file in the folder. After a first use with the right preprocessing
each wrong one of `planted` is checked. Printed are how many there were, how many move the features
of a photograph by more than 1 % of their norm, and how many of those are told.

Seen on eleven networks (Lite1, Lite2, ResNet-18, ViT, DINOv2, CLIP, Swin, MobileNetV2, ConvNeXt,
ResNet and open_nsfw, which torchvision, timm, transformers, optimum and Keras exported or a package
ships; random weights but for three): 158 planted, 148 move, 148 told. Another choice of the right
preprocessing for two of them gave 162, 151 and 151.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.backbones.foreign import ForeignBackbone
from probe.backbones.spec import resolve_pool
from probe.core.memo import Memo
from probe.engines import forward
from probe.preprocess.load import load_preprocess
from probe.preprocess.photographs import photographs
from probe.preprocess.spec import PreprocessSpec
from probe.weights import backbone_called, check_weights, resolve_weights
from probe.weights.check import check_first_use

MOVED = 0.01  # of the norm of a photograph's features


def planted(right: PreprocessSpec) -> Iterator[tuple[str, PreprocessSpec]]:
    """Return preprocessings with one mistake each."""
    lighter = (right.mean[0] + 2 * right.scale, *right.mean[1:])  # two grey levels, one channel
    changes = {
        "mean of another": {"mean": (0.485, 0.456, 0.406) if right.mean[0] == 0.5 else (0.5,) * 3},
        "no mean": {"mean": (0.0,) * 3},
        "mean in the other order": {"mean": right.mean[::-1]},
        "mean of red off by two levels": {"mean": lighter},
        "std of another": {"std": (0.229, 0.224, 0.225) if right.std[0] == 0.5 else (0.5,) * 3},
        "std in the other order": {"std": right.std[::-1]},
        "std off by a twentieth": {"std": tuple(1.05 * one for one in right.std)},
        "scale twice": {"scale": 2 * right.scale},
        "channels in the other order": {"channels": "BGR" if right.channels == "RGB" else "RGB"},
        "no crop": {"crop_fraction": 1.0},
        "crop of another": {"crop_fraction": 0.875 if right.crop_fraction != 0.875 else 0.95},
        "corner rounded otherwise": {
            "crop_rounding": "down" if right.crop_rounding == "even" else "even"
        },
        "squashed": {"resize": "squash"},
        "cropped": {"resize": "crop"},
        "padded": {"resize": "pad", "crop_fraction": 1.0},
        "interpolation": {
            "interpolation": "bilinear" if right.interpolation == "bicubic" else "bicubic"
        },
        "antialias": {"antialias": not right.antialias},
    }
    for name, change in changes.items():
        wrong = replace(right, name=name, **change)  # type: ignore[arg-type]
        if replace(wrong, name=right.name) != right:
            yield name, wrong


def rows(network: ForeignBackbone, preprocess: PreprocessSpec) -> NDArray[np.float64]:
    """Return features of the photographs, (2, D)."""
    layer = network.usual or network.layers[-1]
    cuts = [(layer, resolve_pool(layer, None))]
    found = forward(network, network.load(layer), cuts, preprocess, photographs(preprocess))[0]
    return found.reshape(len(found), -1).astype(np.float64)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="+", metavar="NETWORK[=PREPROCESS]")
    totals = np.zeros(3, int)
    for given in parser.parse_args().networks:
        place, _, stated = given.partition("=")
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            memo = Memo(folder / "memo.sqlite")
            network = backbone_called(place, memo)
            assert isinstance(network, ForeignBackbone)
            asked = load_preprocess(stated) if stated else None
            right = resolve_weights(network, "auto", cache_dir=folder, memo=memo, preprocess=asked)
            check_first_use(right, network, cache_dir=folder, memo=memo)
            known, counts = rows(network, right.preprocess), np.zeros(3, int)
            for name, wrong in planted(right.preprocess):
                distance = np.linalg.norm(rows(network, wrong) - known, axis=1)
                moved = float((distance / np.linalg.norm(known, axis=1)).max())
                weights = replace(right, preprocess=wrong)
                told = not check_weights(weights, network, cache_dir=folder, memo=memo).agrees
                counts += (1, moved > MOVED, told and moved > MOVED)
                if told != (moved > MOVED):
                    print(f"  {name}: moved by {moved:.2%}, {'told' if told else 'not told'}")
        print(
            f"{network.name}: {counts[0]} planted, {counts[1]} move, {counts[2]} told", flush=True
        )
        totals += counts
    print(f"together: {totals[0]} planted, {totals[1]} move, {totals[2]} told")


if __name__ == "__main__":
    main()
