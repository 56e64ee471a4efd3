"""Which of five frozen passes to take for CIFAR-10 and for digits, and whether it is sure.

    PROBE_TEST_DATA=... python benchmarks/bench_cifar10.py [CACHE]

VGG16 at 32 (two layers) and 64 pixels, EfficientNet-Lite0 at 64 and 128, and a ResNet-18 that was
never trained as the control that must lose; all 60,000 images. Then scikit-learn's 1,797 digits
with the same networks at 32 and 64, so that nothing is tuned to the first dataset. Prints the
tables as Markdown. CACHE keeps the features: 1.4 GB, half an hour the first time.

Peer: the control, and the paired tests themselves; there is no other tool to compare with here.

Seen (two cores that other work shared; val is 15,000 training images that were held out):
EfficientNet-Lite0 at 128 pixels wins with 79.57 % on val and 79.34 % on test, 6.16 points (5.40 to
6.89) before VGG16 at 64; the untrained ResNet-18 is last with 40.65 %. All pairs of the six
features' best heads differ. LogME and 5-NN ranked the six features without a mistake (tau 1.00);
H-score 0.60, shrunk 0.73. On digits the control is NOT the loser: it has 97.03 % of 539 held-out
images right and VGG16 96.29 %, which is a tie; LogME's tau is 0.32 there, and it would have lost
3.53 points; 5-NN's is 0.95. With all features at hand the CIFAR-10 bench fitted 12 heads in 36 min
at a quarter of a core's time, and again, with nothing to do, took 10 s.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import cifar10_folders, run_json, vgg16_weights

CIFAR10 = (
    "vgg16@32,vgg16/conv5_3:flatten@32,vgg16@64,efficientnet_lite0@64,efficientnet_lite0@128,"
    "resnet18@32=random:0"
)
DIGITS = "vgg16@32,vgg16@64,efficientnet_lite0@32,efficientnet_lite0@64,resnet18@32=random:0"


def table(found: dict[str, Any]) -> None:
    """Print a leaderboard as Markdown and the verdict below it."""
    rows = {row["id"]: row for row in found["rows"]}
    for comparison in found["comparisons"]:
        print("| features | head | val % | 95 % | test % | images/s | M MACs | ties |")
        print("|---|---|---|---|---|---|---|---|")
        for row in (rows[name] for name in comparison["rows"]):
            low, high = row["intervals"]["val"]["top1"]
            test = row["metrics"].get("test", {}).get("top1")
            cells = [
                row["name"],
                row["head"],
                f"{100 * row['metrics']['val']['top1']:.2f}",
                f"{100 * low:.2f}-{100 * high:.2f}",
                "-" if test is None else f"{100 * test:.2f}",
                f"{row['cost'].get('images_per_second', float('nan')):.0f}",
                f"{row['cost']['multiply_adds'] / 1e6:.0f}",
                row["letters"],
            ]
            print(f"| {' | '.join(cells)} |")
        print(f"\n{comparison['verdict']}\n")
        for one in comparison["agreement"]:
            print(f"{one['score']}: tau {one['kendall']:+.2f}, weighted {one['weighted']:+.2f}")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        cache = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(name) / "cache"
        images = cifar10_folders(Path(name) / "cifar10", train=5000, test=1000)
        shared = ("--weights", f"vgg16={vgg16_weights()}", "--heads", "path,knn")
        for backbones, dataset in ((CIFAR10, str(images)), (DIGITS, "digits")):
            found, seconds = run_json(
                "bench", "--backbones", backbones, "--dataset", dataset, *shared,
                "--cache-dir", str(cache),
            )  # fmt: skip
            print(f"\n{Path(dataset).name}: {seconds / 60:.1f} min\n")
            table(found)


if __name__ == "__main__":
    main()
