from __future__ import annotations

from pathlib import Path

import numpy as np

from probe.datasets import load_dataset


def test_the_digits_are_those_of_scikit_learn(tmp_path: Path, no_network: None) -> None:
    from sklearn.datasets import load_digits

    dataset = load_dataset("digits", cache_dir=tmp_path)
    wanted = load_digits()
    train = dataset.splits["train"]
    assert list(dataset.splits) == ["train"]
    assert dataset.classes == tuple("0123456789")
    np.testing.assert_array_equal(train.labels, wanted.target)
    for row in (0, 1796):
        image = train.images.image(row)
        assert image.shape == (8, 8, 3)
        np.testing.assert_allclose(image[:, :, 1], wanted.images[row] * 255 / 16, atol=0.5)
    assert max(train.images.image(row).max() for row in range(100)) == 255
