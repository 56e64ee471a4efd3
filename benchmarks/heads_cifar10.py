"""Every head on all of CIFAR-10, a learning curve, and a published exercise with the same features.

    python -m benchmarks.heads_cifar10 --cache-dir cache table curve lab

The cache has to hold the entries; `probe extract` makes them:

    --backbone vgg16 --size 32 --layer pool5              all of CIFAR-10
    --backbone efficientnet_lite0 --size 64               all of CIFAR-10
    --backbone vgg16 --size 224 --layer pool5 --per-class 100
    --backbone efficientnet_lite0 --size 224 --per-class 100

VGG16 with `--weights vgg16_imagenet_notop.h5`. Every figure is a run of `probe head` as a user
types it. Parameters are chosen on 15,000 of the 50,000 training images; heads are then fitted on
all 50,000, but for scikit-learn's, and each is one look at the test images.

Seen on two cores that a dozen other processes were using, so the times say little (top-1 on the
10,000 test images; bootstrap intervals over them are 0.9 points to either side):

                          VGG16 at 32         EfficientNet-Lite0 at 64
    path, C of 45         66.15 %    20 s     70.73 %   166 s
    logistic, C=0.01      65.39 %    18 s     69.01 %   153 s
    dense, lr 13 x wd 4   66.00 %   156 s     70.90 %   162 s    52 heads and one more
    dense, 512 hidden     67.64 %   162 s     71.62 %    81 s
    dense, as it comes    65.69 %    67 s     68.57 %    91 s
    knn, k of 4           62.68 %    62 s     66.51 %   111 s    standardised: 66.76 %
    ridge, alpha of 33    62.70 %    23 s     68.25 %   282 s
    prototype, lda        62.96 %    11 s     68.37 %    64 s
    prototype, mean       52.89 %     2 s     55.85 %     3 s

The exercise with 100 training images a class at 224, scored on the first 100 test images a class:
VGG16 66.9 to 67.9 % (four heads; each interval is 2.8 points to either side), EfficientNet-Lite0
71.0 to 72.7 %. An independent implementation with these weights got 65.5 to 67.4 %: the same. The
published 72.35 % is on other validation images and lies outside our intervals. Stopping at the best
of 50 epochs, picked on the very images that are reported, would add 0.2 to 0.4 points (67.5 to
67.8 %), so that alone does not explain it; which images, and how they were scaled, we do not know.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.common import run_json

FULL = (("vgg16", 32), ("efficientnet_lite0", 64))
HEADS: dict[str, tuple[str, ...]] = {
    "path, C of 45": ("--solver", "path", "--C", "grid"),
    "logistic, C=0.01": ("--solver", "logistic"),
    "dense, lr 13 x wd 4": (
        "--solver", "dense", "--lr", "grid", "--wd", "grid", "--schedule", "cosine",
        "--epochs", "30",
    ),
    "dense, 512 hidden": (
        "--solver", "dense", "--hidden", "512", "--dropout", "0.5", "--patience", "5",
        "--refit",
    ),
    "dense, as it comes": ("--solver", "dense", "--refit"),
    "knn, k of 4": ("--solver", "knn", "--k", "grid"),
    "knn, standardised": ("--solver", "knn", "--k", "grid", "--normalize", "standard"),
    "ridge, alpha of 33": ("--solver", "ridge", "--alpha", "grid"),
    "prototype, lda": ("--solver", "prototype", "--refit"),
    "prototype, mean": ("--solver", "prototype", "--distance", "mean", "--refit"),
}  # fmt: skip
LAB: dict[str, tuple[str, ...]] = {
    "dense, 50 epochs": ("--solver", "dense", "--epochs", "50"),
    "dense, features as they are": ("--solver", "dense", "--epochs", "50", "--normalize", "none"),
    "dense, sgd": ("--solver", "dense", "--epochs", "50", "--optimizer", "sgd"),
    "path, C by 5 folds": ("--solver", "path", "--C", "grid", "--folds", "5"),
}


def find(cache: Path, backbone: str, size: int, layer: str | None = None) -> str:
    """Return the name of the entry of a backbone at an input size."""
    from probe import Store

    for entry in Store(cache).entries():
        key = entry.key.to_json()
        wanted = layer in {None, entry.key.layer} and entry.dataset == "cifar10"
        if wanted and entry.key.backbone == backbone and key["preprocess"]["size"] == size:
            return entry.name
    raise SystemExit(f"{cache}: no entry of {backbone} at {size}; see the docstring")


def run(cache: Path, entry: str, options: tuple[str, ...]) -> dict[str, Any]:
    """Fit one head by the command line and return its result."""
    return run_json("head", entry, "--cache-dir", str(cache), *options)[0]


def line(name: str, result: dict[str, Any]) -> str:
    """Return one line of a table."""
    test, (low, high) = result["metrics"]["test"], result["intervals"]["test"]["top1"]
    chosen = result.get("selection", {})
    about = f"{chosen['penalty']} {chosen['chosen']:.3g}" if chosen else ""
    about += "".join(f", {k} {v:.3g}" for k, v in chosen.get("also_chosen", {}).items())
    return (
        f"  {name:<28} {100 * test['top1']:6.2f} %  {100 * low:.2f} to {100 * high:.2f}  "
        f"log loss {test['log_loss']:.3f}  {result['seconds']:7.1f} s  {about}"
    )


def table(cache: Path) -> None:
    """Print every head on both backbones."""
    for backbone, size in FULL:
        entry = find(cache, backbone, size, "pool5" if backbone == "vgg16" else None)
        print(f"{backbone} at {size}: {entry}", flush=True)
        for name, options in HEADS.items():
            print(line(name, run(cache, entry, options)), flush=True)


def curve(cache: Path) -> None:
    """Print learning curves on validation images, C chosen inside each draw."""
    for backbone, size in FULL:
        entry = find(cache, backbone, size, "pool5" if backbone == "vgg16" else None)
        for name, options in (
            ("path, C by folds in each draw", ("--solver", "path", "--C", "1e-4,1e-3,1e-2,1e-1,1")),
            ("prototype, mean", ("--solver", "prototype", "--distance", "mean")),
        ):
            more = ("--per-class", "1,5,10,20,50,100,500,1000", "--draws", "5")
            result = run(cache, entry, (*options, *more))
            print(f"{backbone} at {size}, {name}: {result['run']}", flush=True)
            from probe.learning_curve import load_learning_curve

            found = load_learning_curve(Path(result["run"]))
            assert found is not None
            for count, band in found.bands().items():
                print(f"  {count:>5}  {100 * band.mean:.2f} ± {100 * band.deviation:.2f} %")


def lab(cache: Path) -> None:
    """Print 100 images a class at 224: all of them trained on, and 100 test images a class."""
    for backbone in ("vgg16", "efficientnet_lite0"):
        entry = find(cache, backbone, 224, "pool5" if backbone == "vgg16" else None)
        print(f"{backbone} at 224, 100 images a class: {entry}", flush=True)
        for name, options in LAB.items():
            print(line(name, run(cache, entry, (*options, "--val-size", "0"))), flush=True)
        peeked(cache, entry)


def peeked(cache: Path, entry: str) -> None:
    """Print what stopping at the best epoch on the reported images would have claimed."""
    from probe import DenseHead, Store
    from probe.cache.store import join
    from probe.ledger import record_look

    store = Store(cache)
    splits = join(store, store.choose(entry)).splits
    look = splits["test"].content
    record_look(cache / "ledger", look, command="benchmarks.heads_cifar10 lab", entry=entry)
    (X, y), test = splits["train"].as_xy(), splits["test"].as_xy()
    for seed in range(3):
        head = DenseHead(epochs=50, normalize="none", random_state=seed)
        seen = [epoch.val_top1 for epoch in head.fit(X, y, validation=test).history_]
        print(
            f"  seed {seed}: last epoch {100 * seen[-1]:.2f} %, the best of 50, picked on these "
            f"very images, {100 * max(seen):.2f} %"
        )


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=("table", "curve", "lab"))
    parser.add_argument("--cache-dir", type=Path, default=Path("cache"))
    args = parser.parse_args()
    for part in args.parts:
        {"table": table, "curve": curve, "lab": lab}[part](args.cache_dir)


if __name__ == "__main__":
    main()
