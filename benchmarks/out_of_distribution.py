"""How many images unlike the training data a bundle flags, at the false alarms it promises.

    python -m benchmarks.out_of_distributions BUNDLE [--count 300]

Peer: the rate that the bundle states, which its thresholds were chosen for on held-out rows of its
own dataset; nothing here took part in choosing. Out of distribution are scikit-learn's digits,
uniform noise, and crops of its two sample photographs, which may well hold what the classes are
about (sky, a flower bed): some of those are no mistake. False alarms on test rows: `probe evaluate
BUNDLE`.

Seen for EfficientNet-Lite0 at 128 pixels and a dense head on CIFAR-10, thresholds for 5 % each:
all of the digits, the noise and the photographs' crops are flagged out of distribution (100 %),
and 37, 10 and 13 % of them low confidence. On the 10,000 test images 5.06 % are flagged out of
distribution and 4.94 % low confidence; 77.63 % are right, and 80.34 % of those
without a flag (the distance was chosen on 5,000 of the 15,000 held-out rows then; all of them are
used now). With VGG16 at 32 pixels the same distance tells far less: in a
trial before the thresholds were settled it flagged 36 % of the digits and 4 % of the noise.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe import Bundle, load_dataset
from probe.predict import Predictor

CROP = 200  # pixels


def digits(count: int) -> list[NDArray[np.uint8]]:
    """Return handwritten digits."""
    with tempfile.TemporaryDirectory() as folder:
        images = load_dataset("digits", cache_dir=Path(folder)).splits["train"].images
        return [images.image(row) for row in range(count)]


def noise(count: int, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Return uniform noise."""
    return list(rng.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8))


def crops(count: int, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Return squares cut from the two photographs."""
    from sklearn.datasets import load_sample_images

    made = []
    for number in range(count):
        image = load_sample_images().images[number % 2]
        top, left = (int(rng.integers(0, side - CROP)) for side in image.shape[:2])
        made.append(np.ascontiguousarray(image[top : top + CROP, left : left + CROP]))
    return made


def main() -> None:
    """Flag what the bundle never saw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--count", type=int, default=300)
    options = parser.parse_args()
    predictor = Predictor([Bundle.load(options.bundle, batch_size=16)])
    rejection = predictor.bundles[0].about.rejection
    assert rejection is not None, "bundle the run with --reject-rate above 0"
    print(f"promised: {100 * rejection.rate:g} % of held-out rows for each flag")
    rng = np.random.default_rng(0)
    kinds = {
        "digits": digits(options.count),
        "noise": noise(options.count, rng),
        "photograph crops": crops(options.count, rng),
    }
    for name, images in kinds.items():
        verdicts = predictor.answer_images(images).verdicts
        either = verdicts.low_confidence | verdicts.out_of_distribution
        print(
            f"{name:18} out of distribution {100 * verdicts.out_of_distribution.mean():5.1f} %, "
            f"low confidence {100 * verdicts.low_confidence.mean():5.1f} %, "
            f"either {100 * either.mean():5.1f} %"
        )


if __name__ == "__main__":
    main()
