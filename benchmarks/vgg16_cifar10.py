"""VGG16's ImageNet features on CIFAR-10 reach the accuracy of an independent implementation.

    PROBE_TEST_DATA=... python benchmarks/vgg16_cifar10.py

pool5 averaged at 32x32; the first 1,000 training and 300 test images of each class by file name;
standardised, logistic regression with C = 0.01 on all 10,000 training rows.

Peer: an independent implementation got 63.2 % with the same weights and images, and 60.7 % and
55.9 % with two wrong preprocessings.

Seen: 63.17 %.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.common import cifar10_folders, run_json, vgg16_weights

PEER = 0.632


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        images = cifar10_folders(Path(name) / "cifar10", train=1000, test=300)
        cache = str(Path(name) / "cache")
        extract = (
            "extract",
            "--backbone",
            "vgg16",
            "--dataset",
            str(images),
            "--size",
            "32",
            "--weights",
        )
        _, seconds = run_json(*extract, str(vgg16_weights()), "--cache-dir", cache)
        print(f"extract: 13,000 images in {seconds:.1f} s")
        result, seconds = run_json(
            "head", "--head", "logistic", "--C", "0.01", "--val-size", "0", "--cache-dir", cache
        )
        top1 = result["metrics"]["test"]["top1"]
        print(f"head: {seconds:.1f} s")
        print(
            f"top-1 on {result['n_test']:,} test images: {100 * top1:.2f} %, "
            f"peer {100 * PEER:.1f} %"
        )
        print(f"difference: {100 * (top1 - PEER):+.2f} points")


if __name__ == "__main__":
    main()
