"""The photographs of a weights check are found without importing scikit-learn."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from sklearn.datasets import load_sample_image

from probe.preprocess.photographs import PHOTOGRAPHS, photographs
from probe.preprocess.resize import resize_image
from probe.preprocess.spec import TORCHVISION

LOAD = (
    "import sys;"
    "from probe.preprocess.photographs import photographs;"
    "from probe.preprocess.spec import TORCHVISION;"
    "photographs(TORCHVISION);"
    "print('sklearn' in sys.modules)"
)


def test_they_are_scikit_learns_and_do_not_import_it() -> None:
    given = np.stack([resize_image(load_sample_image(one), TORCHVISION) for one in PHOTOGRAPHS])
    np.testing.assert_array_equal(photographs(TORCHVISION), given)
    done = subprocess.run([sys.executable, "-c", LOAD], stdout=subprocess.PIPE, check=True)
    assert done.stdout.split() == [b"False"]
