"""A saved head predicts the same bits, elsewhere, without MXNet; rubbish is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from probe.errors import HeadError
from probe.heads import HEADS, HeadSpec, load_fitted, load_head, save_head
from probe.heads.io import KEY
from tests.heads.data import make_features

each_head = pytest.mark.parametrize("spec", list(HEADS.values()), ids=list(HEADS))
LABELS = {
    "int": np.arange(4) * 10,
    "text": np.array(["ant", "bee", "Zürich", "日本"]),
    "object": np.array(["a", "b", "c", "d"], dtype=object),
    "float": np.array([0.0, 1.0, 2.0, 5.0]),
}


@each_head
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("normalize", ["standard", "l2", "none"])
def test_a_loaded_head_predicts_the_same_bits(
    spec: HeadSpec, labels: Any, normalize: str, tmp_path: Path
) -> None:
    X, y = make_features()
    head = spec.load()(normalize=normalize).fit(X, labels[y], validation=(X, labels[y]))
    save_head(head, tmp_path / "head.safetensors")
    loaded = load_head(tmp_path / "head.safetensors")
    assert type(loaded) is type(head)
    assert loaded.get_params() == head.get_params()
    assert loaded.classes_.dtype == head.classes_.dtype
    assert loaded.history_ == head.history_
    assert loaded.predict_proba(X).tobytes() == head.predict_proba(X).tobytes()
    assert (loaded.predict(X) == head.predict(X)).all()
    fitted = load_fitted(tmp_path / "head.safetensors")
    assert fitted.predict_proba(X).tobytes() == head.predict_proba(X).tobytes()
    assert (fitted.classes_ == head.classes_).all()
    assert fitted.n_features_in_ == X.shape[1]


def test_predicting_from_a_file_does_not_load_mxnet(saved: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nimport numpy as np\n"
        "from probe.heads import load_fitted, load_head\n"
        "load_fitted(Path(sys.argv[1])).predict_proba(np.ones((2, 12)))\n"
        "assert not {'mxnet', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "load_head(Path(sys.argv[1])).predict_proba(np.ones((2, 12)))\n"
        "assert 'mxnet' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(saved)], check=True)


def test_a_head_that_is_not_fitted_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(HeadError, match="not a fitted head"):
        save_head(HEADS["logistic"].load()(), tmp_path / "head.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "head.safetensors"
    save_head(HEADS["dense"].load()(epochs=1).fit(*make_features()), path)
    return path


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"{}", b"\xff" * 200, b"PK\x03\x04"])
def test_a_file_that_is_no_head_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    path.write_bytes(content)
    with pytest.raises(HeadError, match=r"head\.safetensors: not a head") as caught:
        load_head(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HeadError, match="no such file"):
        load_head(tmp_path / "none.safetensors")


def test_a_truncated_head_is_refused(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-8])
    with pytest.raises(HeadError, match="not a head"):
        load_head(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"head": "forest"}, {"head": 3}, {"format": 3}, {"classes": ["a"]}, {"classes": None},
        {"classes_dtype": "O"}, {"classes_dtype": "V9"}, {"normalize": "zca"},
        {"params": {"unknown": 1}}, {"params": None}, {"history": [{"no": 1}]},
    ],
    ids=str,
)  # fmt: skip
def test_a_header_that_contradicts_itself_is_refused(saved: Path, change: dict[str, Any]) -> None:
    _rewrite(saved, change, {})
    with pytest.raises(HeadError, match="head"):
        load_head(saved)


@pytest.mark.parametrize(
    "arrays",
    [
        {"coef": np.zeros((3, 12), np.float32)},
        {"mean": np.zeros(3)},
        {"intercept": np.full(4, np.nan, np.float32)},
        {"coef": np.zeros((4, 12), np.int64)},
        {"extra": np.zeros(1)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(saved: Path, arrays: dict[str, Any]) -> None:
    _rewrite(saved, {}, arrays)
    with pytest.raises(HeadError, match="head"):
        load_head(saved)


def _rewrite(path: Path, change: dict[str, Any], arrays: dict[str, Any]) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        about = json.loads(file.metadata()[KEY])
    save_file(load_file(path) | arrays, path, metadata={KEY: json.dumps(about | change)})
