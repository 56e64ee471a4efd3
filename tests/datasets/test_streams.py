"""Damage that decoders keep quiet about."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, TiffImagePlugin

from probe.datasets import load_dataset
from probe.datasets.images.decode import decode
from probe.datasets.images.streams import read_jpeg
from probe.errors import ImageError
from tests.datasets.test_decode import encoded

RNG = np.random.default_rng(2)
PHOTO = Image.fromarray(RNG.integers(0, 256, (12, 12, 3), np.uint8)).resize((128, 112), 3)
END = b"\xff\xd9"
BASELINE = {
    "plain": {"quality": 90},
    "optimised": {"quality": 75, "optimize": True},
    "full colour": {"quality": 60, "subsampling": 0},
    "restarts": {"quality": 85, "restart_marker_rows": 1},
}


def refused(data: bytes) -> bool:
    try:
        decode(data, "x")
    except ImageError:
        return True
    return False


def hole(data: bytes, start: float, size: int | None = None) -> bytes:
    at = int(len(data) * start)
    stop = len(data) - 2 if size is None else at + size
    return data[:at] + bytes(stop - at) + data[stop:]


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("quality", [40, 90])
def test_a_progressive_jpeg_is_not_cut_within_its_last_scan(mode: str, quality: int) -> None:
    image = PHOTO.convert(mode)
    data = encoded(image, "JPEG", progressive=True, quality=quality)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode(data, "x"), expected)
    np.testing.assert_array_equal(decode(data + b"what follows", "x"), expected)
    jpeg = read_jpeg(data)
    assert jpeg is not None
    last = jpeg.scans[-1]
    for share in (0.02, 0.3, 0.6, 0.9):
        cut = data[: last.start + int((last.stop - last.start) * share)]
        assert refused(cut), share
        assert refused(cut + END), share


def test_a_progressive_jpeg_is_cut_within_no_scan() -> None:
    data = encoded(PHOTO, "JPEG", progressive=True, quality=90)
    jpeg = read_jpeg(data)
    assert jpeg is not None
    seen = {
        number: refused(data[: scan.start + (scan.stop - scan.start) // 2] + data[scan.stop :])
        for number, scan in enumerate(jpeg.scans)
    }
    refining = {number for number, scan in enumerate(jpeg.scans) if scan.high and not scan.last}
    assert {number for number in seen if not seen[number]} <= refining  # a bit a block is missing


@pytest.mark.parametrize("frames", [1, 2])
def test_a_damaged_png_is_refused(frames: int) -> None:
    """Pillow stops where it has all rows, and looks at no checksum."""
    more = {"save_all": True, "append_images": [PHOTO.rotate(90)]} if frames > 1 else {}
    data = encoded(PHOTO, "PNG", **more)
    assert not refused(data)
    first = data[: data.index(b"fdAT")] if frames > 1 else data
    for share in (0.3, 0.6, 0.95):
        at = int(len(first) * share)
        assert refused(data[:at] + bytes(len(data) - at))
        assert refused(data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :])
        assert refused(data[:at])
    assert not refused(data[:-12])  # without a mark of its end


@pytest.mark.parametrize("strip", [None, 6000])
def test_a_damaged_jpeg_in_a_tiff_is_refused(
    strip: int | None, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if strip:
        monkeypatch.setattr(TiffImagePlugin, "STRIP_SIZE", strip)
    data = encoded(PHOTO, "TIFF", compression="jpeg", quality=80)
    with Image.open(io.BytesIO(data)) as image:
        offsets, counts = (image.tag_v2[tag] for tag in (273, 279))  # type: ignore[attr-defined]
        expected = np.asarray(image.convert("RGB"))
    assert (len(offsets) > 1) == bool(strip)
    np.testing.assert_array_equal(decode(data, "x"), expected)
    at = offsets[-1] + counts[-1] * 2 // 3
    assert refused(data[:at] + END + data[at + 2 :])
    assert refused(data[:at] + bytes(100) + data[at + 100 :])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "lzma"])
def test_libtiff_writes_nothing_of_its_own(
    compression: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data = encoded(PHOTO, "TIFF", compression=compression)
    with pytest.raises(ImageError, match="is damaged: its compressed data"):
        decode(hole(data, 0.3, 300), "x")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", BASELINE)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_half_decoded_jpeg_is_refused(name: str, mode: str) -> None:
    options = dict(BASELINE[name])
    if mode != "RGB":
        options.pop("subsampling", None)
    data = encoded(PHOTO.convert(mode), "JPEG", **options)
    assert not refused(data)
    for share in (0.5, 0.7, 0.9):
        cut = data[: int(len(data) * share)]
        assert refused(cut)
        assert refused(cut + END), share
        assert refused(hole(data, share)), share
        assert refused(hole(data, share, 128)), share
    assert refused(hole(data, 0.5, 512))


def test_what_follows_a_whole_jpeg_does_not_matter() -> None:
    data = encoded(PHOTO, "JPEG")
    for more in (b"\0" * 5000, END, b"\xff" * 7, data):
        assert (decode(data + more, "x") == decode(data, "x")).all()
    assert (decode(data[:-2], "x") == decode(data, "x")).all()  # the end marker alone is missing
    padded = data[:-2] + b"\xff\xff" + END  # fill bytes before a marker are allowed
    assert (decode(padded, "x") == decode(data, "x")).all()


def test_lost_restart_markers_are_seen() -> None:
    data = encoded(PHOTO, "JPEG", restart_marker_rows=1)
    at = data.index(b"\xff\xd2", data.index(b"\xff\xda"))
    with pytest.raises(ImageError, match="restart markers"):
        decode(data[: at - 40] + bytes(44) + data[at + 4 :], "x")


def test_a_progressive_jpeg_lacks_no_scan() -> None:
    data = encoded(PHOTO, "JPEG", progressive=True)
    scans = [at for at in range(len(data)) if data.startswith(b"\xff\xda", at)]
    assert not refused(data)
    for at in scans[1:]:
        with pytest.raises(ImageError, match="scans are missing"):
            decode(data[: at + 20] + END if at != scans[-1] else data[:at] + END, "x")
    with pytest.raises(ImageError, match=r"zeros|scans"):
        decode(hole(data, 0.3, 512), "x")


def drawn() -> dict[str, Image.Image]:
    flat = Image.new("RGB", (300, 220), (13, 77, 140))
    text = Image.new("RGB", (300, 220), "white")
    for line in range(20):
        ImageDraw.Draw(text).text((5 * line, 11 * line), "features 0123", fill="black")
    half = np.zeros((220, 300, 3), np.uint8)
    half[:110] = RNG.integers(0, 256, (110, 300, 3))
    dots = np.zeros((220, 300, 3), np.uint8)
    dots[::7, ::9] = 255
    return {
        "white": Image.new("RGB", (300, 220), "white"), "black": Image.new("RGB", (300, 220)),
        "flat": flat, "text": text, "half": Image.fromarray(half), "dots": Image.fromarray(dots),
        "one": Image.new("RGB", (1, 1)), "photo": PHOTO,
    }  # fmt: skip


@pytest.mark.parametrize("name", drawn())
def test_whole_files_pass_however_flat_they_are(name: str) -> None:
    image = drawn()[name]
    for quality in (5, 75, 100):
        for options in (
            {}, {"optimize": True}, {"progressive": True}, {"restart_marker_blocks": 3},
            {"subsampling": 0, "progressive": True}, {"optimize": True, "restart_marker_rows": 1},
        ):  # fmt: skip
            for mode in ("RGB", "L"):
                decode(encoded(image.convert(mode), "JPEG", quality=quality, **options), "x")
        decode(encoded(image, "WEBP", quality=quality), "x")
    decode(encoded(image, "WEBP", lossless=True, method=0), "x")


@pytest.mark.parametrize("options", [{"quality": 90}, {"quality": 40}, {"lossless": True}], ids=str)
def test_a_webp_with_a_hole_is_refused(options: dict[str, object]) -> None:
    data = encoded(PHOTO, "WEBP", **options)
    assert not refused(data)
    for share in (0.4, 0.6):
        assert refused(data[: int(len(data) * share)])
        assert refused(hole(data, share, 512)), share
    assert refused(hole(data, 0.5))


def test_skip_bad_lists_half_an_image(tmp_path: Path) -> None:
    whole = encoded(PHOTO, "JPEG")
    for name, data in {"a": whole, "b": whole[: len(whole) // 2] + END, "c": whole}.items():
        (tmp_path / "images" / "cat").mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / "cat" / f"{name}.jpg").write_bytes(data)
    dataset = load_dataset(str(tmp_path / "images"), cache_dir=tmp_path / "cache", skip_bad=True)
    assert [one.id for one in dataset.skipped] == ["cat/b.jpg"]
    assert "missing" in dataset.skipped[0].reason


def test_photos_with_companions_and_with_thumbnails(tmp_path: Path) -> None:
    data = encoded(PHOTO, "MPO", save_all=True, append_images=[PHOTO.rotate(90)])
    decode(data, "x")
    assert refused(data[: data.index(b"\xff\xda") + 300] + END)
    exif = Image.Exif()
    exif[270] = "a"
    small = io.BytesIO()
    PHOTO.resize((32, 28)).save(small, "JPEG")
    decode(encoded(PHOTO, "JPEG", exif=exif.tobytes() + small.getvalue()), "x")
