"""What is no image file, what takes much memory, and what is said of unusual images."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from probe.core.memo import Memo
from probe.datasets import load_dataset
from probe.datasets.images.decode import (
    MAX_BYTES,
    SMALL,
    TOGETHER,
    LargeImage,
    WithinMemory,
    decode,
    decode_file,
)
from probe.datasets.images.files import FileImages
from probe.datasets.images.notes import Notes, warn_of_unusual
from probe.datasets.images.prefetch import load_batches
from probe.errors import ImageError
from probe.finetune.batches import KeptImages
from tests.datasets.test_decode import encoded, flat
from tests.datasets.tiffs import tiff


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link to a device"])
def test_what_is_no_regular_file_is_refused_unread(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = path if kind.startswith("link") else Path("/dev/zero")
        if kind.startswith("link"):
            path.symlink_to("/dev/zero")
    with pytest.raises(ImageError, match="is not a regular file"):
        decode_file(str(path))


def test_a_file_larger_than_any_image_is_refused_unread(tmp_path: Path) -> None:
    with open(tmp_path / "a.jpg", "wb") as file:
        file.truncate(50 * 10**9)  # sparse
    with pytest.raises(
        ImageError, match=r"is too large \(50,000,000,000 bytes; at most 1,073,741,824 are read\)"
    ):
        decode_file(str(tmp_path / "a.jpg"))
    assert MAX_BYTES == 2**30
    proc = "/proc/self/maps"  # says that it is empty, and is not
    with pytest.raises(ImageError, match="is empty"):
        decode_file(proc)


def test_skip_bad_leaves_them_out(tmp_path: Path) -> None:
    folder = tmp_path / "images" / "cat"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(encoded(flat("RGB", (1, 2, 3)), "PNG"))
    os.mkfifo(folder / "b.png")
    with open(folder / "c.png", "wb") as file:
        file.truncate(50 * 10**9)
    dataset = load_dataset(str(tmp_path / "images"), cache_dir=tmp_path / "cache", skip_bad=True)
    assert [image for split in dataset.splits.values() for image in split.ids] == ["cat/a.png"]


def test_large_images_wait_for_each_other() -> None:
    most, now, lock = [0], [0], threading.Lock()

    def work(pixels: int) -> None:
        with WithinMemory("x"):
            with LargeImage(pixels):
                pass
            with lock:  # held until the work on the image ends, not only its decoding
                now[0] += pixels
                most[0] = max(most[0], now[0])
            threading.Event().wait(0.01)
            with lock:
                now[0] -= pixels

    sizes = [TOGETHER * 2, TOGETHER // 2, SMALL + 1, TOGETHER // 2, TOGETHER * 2, SMALL + 1]
    threads = [threading.Thread(target=work, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert most[0] <= TOGETHER * 2  # the largest alone
    with LargeImage(TOGETHER * 2), LargeImage(TOGETHER * 2):
        pass  # one thread does not wait for itself


def test_a_large_image_counts_until_it_is_resized() -> None:
    at_once, lock, most = [0], threading.Lock(), [0]

    def load(row: int) -> NDArray[np.uint8]:
        with LargeImage(TOGETHER if row % 2 else SMALL):  # decoded; it is resized below
            pass
        with lock:
            at_once[0] += row % 2
            most[0] = max(most[0], at_once[0])
        threading.Event().wait(0.01)
        with lock:
            at_once[0] -= row % 2
        return np.full((2, 2, 3), row, np.uint8)

    rows = [np.arange(8), np.arange(8, 16)]
    found = [batch[:, 0, 0, 0].tolist() for _, batch in load_batches(load, rows, workers=4)]
    assert found == [part.tolist() for part in rows]
    assert most == [1]


def test_a_large_image_in_parts_is_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 31, 4), np.uint8)
    files = [encoded(Image.fromarray(pixels[:, :, :n]), "PNG") for n in (3, 4)]
    whole = [decode(file, "x") for file in files]
    monkeypatch.setattr(sys.modules[decode.__module__], "PART", 100)
    for file, expected in zip(files, whole, strict=True):
        np.testing.assert_array_equal(decode(file, "x"), expected)


def frames(fmt: str) -> bytes:
    return encoded(flat("L", 9), fmt, save_all=True, append_images=[flat("L", 200)])


UNUSUAL = {
    "clear RGBA": (lambda: encoded(flat("RGBA", (9, 8, 7, 0)), "PNG"), "clear"),
    "clear WebP": (lambda: encoded(flat("RGBA", (9, 8, 7, 0)), "WEBP", lossless=True), "clear"),
    "clear palette": (lambda: encoded(flat("P", 0), "GIF", transparency=0), "clear"),
    "12 bits in 16": (lambda: encoded(flat("I;16", 4095), "TIFF"), "dark"),
    "12 bits in 16, PNG": (lambda: encoded(flat("I;16", 4095), "PNG"), "dark"),
    "12 bits in 16, colour": (
        lambda: tiff(np.full((4, 4, 3), 4095), bits=16, photometric=2),
        "dark",
    ),
    "16 bits, colour": (lambda: tiff(np.full((4, 4, 3), 9000), bits=16, photometric=2), None),
    "GIF": (lambda: frames("GIF"), "frames"),
    "WebP": (lambda: frames("WEBP"), "frames"),
    "APNG": (lambda: frames("PNG"), "frames"),
    "pages": (lambda: frames("TIFF"), "frames"),
    "part clear": (lambda: encoded(flat("RGBA", (9, 8, 7, 1)), "PNG"), None),
    "16 bits": (lambda: encoded(flat("I;16", 5000), "TIFF"), None),
    "black": (lambda: encoded(flat("I;16", 0), "TIFF"), None),
    "12 bits": (lambda: tiff(np.full((4, 4, 1), 4000), bits=12), None),
    "photos": (lambda: frames("MPO"), None),
    "JPEG": (lambda: encoded(flat("RGB", (1, 2, 3)), "JPEG"), None),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_unusual_is_noted(name: str) -> None:
    make, kind = UNUSUAL[name]
    notes = Notes()
    decode(make(), name, notes)
    assert notes.counts == ({} if kind is None else {kind: 1})


def test_notes_are_one_line_a_kind() -> None:
    first, second = Notes(), Notes()
    for name in ("a.gif", "b.gif"):
        first.add("frames", name)
    second.add("frames", "c.gif")
    second.add("clear", "d.png")
    first.absorb(second)
    clear, several = first.lines()
    assert clear.startswith("1 image is wholly transparent, read as white (d.png): ")
    assert several.startswith("3 images are animated or of several pages (a.gif): ")
    assert not second.lines()


def test_an_image_counts_once_however_often_it_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Training reads an image each epoch, and what is enlarged is looked at before a pass."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encoded(flat("RGBA", (9, 8, 7, 0)), "PNG"))
    images = FileImages(str(tmp_path), ["a.png", "b.png"], Memo(tmp_path / "memo"), 1)
    kept = KeptImages(images.take(np.array([0, 1])))
    for row in (0, 1, 0, 1):
        images.image(row)
    kept.fill(1)
    for _ in range(2):
        warn_of_unusual([kept, images, object()])
        images.image(0)
    (record,) = caplog.records
    assert record.getMessage().startswith("2 images are wholly transparent")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image"),
        (b"\xff\x0a\xfa\x1f\x41\x91\x08\x06\x01", "a JPEG XL image"),
        (b"8BPS\0\1" + bytes(20), "a Photoshop file"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b"\n<!doctype html>\n<title>404</title>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS"),
        (b'{"error": "not found"}', "JSON"),
        (bytes(200), "a file that begins with zeros"),
        (b"PK\x03\x04" + bytes(30), "a ZIP archive"),
    ],
)
def test_what_is_found_under_the_names_of_images_is_named(data: bytes, what: str) -> None:
    with pytest.raises(ImageError, match=f"is {what}.*which is not read"):
        decode(data, "x.jpg")
