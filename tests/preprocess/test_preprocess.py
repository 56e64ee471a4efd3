from __future__ import annotations

import hashlib
import json
import tracemalloc
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from probe.cache.key import canonical_json, preprocess_identity
from probe.errors import UsageError
from probe.preprocess import known_pixels
from probe.preprocess.load import load_preprocess
from probe.preprocess.resize import Grid, Window, resize_image
from probe.preprocess.spec import (
    CAFFE_BGR,
    CAFFENET,
    EFFICIENTNET_LITE,
    PRESETS,
    RESIZES,
    TORCHVISION,
    PreprocessSpec,
    Resize,
)
from probe.preprocess.views import image_views

RNG = np.random.default_rng(0)
SIDES = st.integers(1, 90)


def photo(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(height=SIDES, width=SIDES, size=st.integers(1, 64), name=st.sampled_from(sorted(PRESETS)))
def test_every_image_becomes_a_square_of_the_size(
    height: int, width: int, size: int, name: str
) -> None:
    spec = replace(PRESETS[name], size=size)
    out = resize_image(photo(height, width), spec)
    assert out.shape == (size, size, 3)
    assert out.dtype == np.uint8


@pytest.mark.parametrize("spec", PRESETS.values(), ids=lambda spec: spec.name)
def test_an_image_of_the_asked_size_is_not_resampled(spec: PreprocessSpec) -> None:
    image = photo(48, 48)
    np.testing.assert_array_equal(resize_image(image, spec.with_size(48)), image)


@given(arrays(np.uint8, (7, 5, 3)), st.integers(1, 40))
def test_bilinear_without_antialiasing_is_pillows_affine_sampling(
    image: np.ndarray, size: int
) -> None:
    scale = (5 / size, 0, 0, 0, 7 / size, 0)
    expected = Image.fromarray(image).transform(
        (size, size), Image.Transform.AFFINE, scale, Image.Resampling.BILINEAR
    )
    found = resize_image(image, CAFFE_BGR.with_size(size))
    assert np.abs(found.astype(int) - np.asarray(expected)).max() <= 1


def test_bicubic_without_antialiasing_is_pillows_when_enlarging() -> None:
    # the widened kernel differs from the plain one only when shrinking
    image = photo(20, 20) // 4 + 96  # no overshoot: Pillow clips between its two passes
    plain = replace(EFFICIENTNET_LITE, size=61, resize="squash", crop_fraction=1.0, antialias=False)
    wide = replace(plain, antialias=True)
    inner = (
        slice(9, -9),
        slice(9, -9),
    )  # at the border Pillow renormalises instead of repeating the edge
    difference = resize_image(image, plain)[inner].astype(int) - resize_image(image, wide)[inner]
    assert np.abs(difference).max() <= 1


def test_antialiasing_averages_what_plain_sampling_skips() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::8] = 255
    smooth = resize_image(stripes, replace(CAFFE_BGR, size=8, antialias=True))
    sharp = resize_image(stripes, CAFFE_BGR.with_size(8))
    assert np.ptp(smooth[:, 1:-1, 0].astype(int)) < 10
    assert smooth.min() > 0
    assert sharp.max() == 0  # half-pixel centres fall between the stripes


def test_crop_keeps_the_centre_and_the_aspect() -> None:
    image = np.zeros((300, 600, 3), np.uint8)
    image[:, 150:450] = 200  # the central square
    out = resize_image(image, TORCHVISION)
    assert (out == 200).all()
    squashed = resize_image(image, replace(TORCHVISION, resize="squash", crop_fraction=1.0))
    assert (squashed[:, :40] == 0).all()


@given(height=st.integers(20, 300), width=st.integers(20, 300), antialias=st.booleans())
def test_a_crop_is_that_of_the_whole_resized_image(
    height: int, width: int, antialias: bool
) -> None:
    image = photo(height, width)
    spec = replace(TORCHVISION, size=28, antialias=antialias)
    short = spec.short_side
    tall, wide = (
        (short, int(short * width / height))
        if height <= width
        else (int(short * height / width), short)
    )
    if antialias:
        whole = Image.fromarray(image).resize((wide, tall), Image.Resampling.BILINEAR)
    else:
        scale = (width / wide, 0, 0, 0, height / tall, 0)
        sampling = Image.Resampling.BILINEAR
        whole = Image.fromarray(image).transform(
            (wide, tall), Image.Transform.AFFINE, scale, sampling
        )
    top, left = round((tall - 28) / 2), round((wide - 28) / 2)
    expected = np.asarray(whole)[top : top + 28, left : left + 28].astype(int)
    difference = np.abs(resize_image(image, spec) - expected).max()
    assert difference <= (0 if antialias else 1)  # Pillow's affine sampling rounds its own way


NEAREST = replace(TORCHVISION, interpolation="nearest", antialias=False)


@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    size=st.integers(1, 256),
    fraction=st.sampled_from([1.0, 0.875, 0.5]),
    resize=st.sampled_from(RESIZES),
)
@example(height=640, width=640, size=224, fraction=1.0, resize="squash")  # between two pixels
@example(height=480, width=640, size=224, fraction=0.875, resize="crop")
def test_the_nearest_pixel_is_the_one_that_pillow_takes(
    height: int, width: int, size: int, fraction: float, resize: Resize
) -> None:
    fraction = 1.0 if resize == "pad" else fraction
    spec = replace(NEAREST, size=size, resize=resize, crop_fraction=fraction)
    image, grid = photo(height, width), Grid.of(spec, height, width)
    whole = Image.fromarray(image).resize((grid.width, grid.height), Image.Resampling.NEAREST)
    top, left = grid.offset(size)
    expected = np.asarray(whole)[top : top + size, left : left + size]
    if resize == "pad":
        bordered = Image.new("RGB", (size, size), spec.fill)
        bordered.paste(whole, ((size - grid.width) // 2, (size - grid.height) // 2))
        expected = np.asarray(bordered)
    np.testing.assert_array_equal(resize_image(image, spec), expected)


def test_the_nearest_pixels_of_a_long_strip_are_pillows() -> None:
    strip = photo(3, 20_000)
    spec = replace(NEAREST, size=40, crop_fraction=1.0)  # the crop begins after 133,313 pixels
    whole = Image.fromarray(strip).resize((266_666, 40), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(
        resize_image(strip, spec), np.asarray(whole)[:, 133_313 : 133_313 + 40]
    )


def test_there_is_one_way_to_write_nearest() -> None:
    with pytest.raises(UsageError, match="antialias is True, expected false where interpolation"):
        replace(TORCHVISION, interpolation="nearest")
    assert NEAREST.describe_resizing() == "shorter side to 256 then centre crop 224, nearest"


def test_a_strip_costs_no_more_than_its_crop() -> None:
    strip = np.zeros((1, 60_000, 3), np.uint8)  # resized whole, it would take 9 GB
    for spec in (TORCHVISION, replace(TORCHVISION, antialias=False), NEAREST):
        assert resize_image(strip, spec).shape == (224, 224, 3)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("shape", [(1, 300_000, 3), (300_000, 1, 3)], ids=["wide", "tall"])
def test_without_antialiasing_a_strip_of_any_length_takes_little_memory(
    shape: tuple[int, ...], resize: str, interpolation: str
) -> None:
    strip = np.zeros(shape, np.uint8)
    spec = replace(CAFFENET, size=64, resize=resize, interpolation=interpolation)
    resize_image(np.zeros((8, 8, 3), np.uint8), spec)  # imports and the like are not counted
    tracemalloc.start()
    try:
        resize_image(strip, spec)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5e6  # all columns of the resized rows take 230 MB


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_a_wide_image_is_resized_to_the_same_bits_whichever_columns_are_taken_out(
    resize: str, interpolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = replace(CAFFENET, size=12, resize=resize, interpolation=interpolation)
    for height, width in ((5, 193), (40, 1000), (1, 2000), (700, 4000)):
        image = photo(height, width)
        found = resize_image(image, spec)
        with monkeypatch.context() as patch:
            patch.setattr("probe.preprocess.resize.WIDE", np.inf)
            np.testing.assert_array_equal(found, resize_image(image, spec))


def test_a_tall_image_is_squashed_the_narrow_way_round(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []
    whole = Image.Image.resize

    def noted(self: Image.Image, size: tuple[int, int], *rest: object, **more: object) -> object:
        sizes.append((self.height, size[0]))  # rows that Pillow brings to the new width
        return whole(self, size, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", noted)
    spec = replace(CAFFE_BGR, size=16, antialias=True)
    tall = np.repeat(photo(16, 2), 8_000, axis=0)
    found = resize_image(tall, spec)
    assert max(rows * width for rows, width in sizes) <= tall.size
    plain = whole(Image.fromarray(tall), (16, 16), Image.Resampling.BILINEAR)
    assert np.abs(found.astype(int) - np.asarray(plain)).max() <= 1
    sizes.clear()
    resize_image(photo(900, 15), spec)
    assert sizes == [(900, 15), (16, 16)]  # the height first, as Pillow 13 does in one call


# BLAKE2b of what Pillow 13.0 gave in one call; 11.3 to 12.3 gave others of the tall ones
PILLOW_13 = {
    (300, 40): "9bb272fb88314f5f", (40, 300): "18024f97dd69d5cd", (90, 13): "d6bddeeff0407522",
    (900, 15): "d52ec3e951905487", (61, 50): "39ab199d17e8c03b", (13, 17): "2247a188a60723b4",
}  # fmt: skip


@pytest.mark.parametrize("shape", PILLOW_13, ids=str)
def test_the_pixels_do_not_depend_on_the_release_of_pillow(shape: tuple[int, int]) -> None:
    height, width = shape
    steps = np.arange(height * width * 3, dtype=np.int64)
    image = (steps * steps * 40_503 % 65_521 % 256).astype(np.uint8).reshape(height, width, 3)
    found = hashlib.blake2b(digest_size=8)
    for interpolation in ("bilinear", "bicubic"):
        for resize in ("squash", "crop"):
            spec = replace(TORCHVISION, size=24, interpolation=interpolation)
            if resize == "squash":
                spec = replace(spec, resize="squash", crop_fraction=1.0)
            found.update(resize_image(image, spec).tobytes())
    assert found.hexdigest() == PILLOW_13[shape]


@given(
    height=st.integers(1, 130),
    width=st.integers(1, 130),
    size=st.integers(1, 40),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
    fraction=st.sampled_from([1.0, 0.875, 0.3]),
)
def test_a_strip_has_the_pixels_of_the_whole_resized_image(
    height: int, width: int, size: int, interpolation: str, fraction: float
) -> None:
    image = photo(height, width)
    spec = replace(TORCHVISION, size=size, crop_fraction=fraction, interpolation=interpolation)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("probe.preprocess.resize.STRIP", 0)  # every image is one
        found = resize_image(image, spec)
    np.testing.assert_array_equal(found, resize_image(image, spec))


@pytest.mark.parametrize("shape", [(90, 140), (140, 90), (200, 31)], ids=str)
def test_an_image_in_parts_has_the_pixels_of_the_whole(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = photo(*shape)
    for spec in (EFFICIENTNET_LITE.with_size(24), replace(TORCHVISION, size=50)):
        found = resize_image(image, spec)
        with monkeypatch.context() as patch:
            patch.setattr("probe.preprocess.resize.PART", 1000)
            np.testing.assert_array_equal(resize_image(image, spec), found)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(20_000, 3), (3, 20_000), (40_000, 40), (9, 45_000)], ids=str)
def test_long_strips_are_the_crop_of_the_exact_image(
    shape: tuple[int, int], interpolation: str
) -> None:
    """Against sums in double precision over the pixels that the crop is made of."""
    image = photo(*shape) // 4 + 96  # no overshoot: Pillow clips between its two passes
    spec = replace(TORCHVISION, size=16, crop_fraction=1.0, interpolation=interpolation)
    long = int(np.argmax(shape))
    target = int(16 * shape[long] / shape[1 - long])
    expected = image.astype(np.float64)
    for axis, grid, first in ((long, target, round((target - 16) / 2)), (1 - long, 16, 0)):
        expected = np.moveaxis(
            np.tensordot(_kernel(shape[axis], grid, first, interpolation), expected, (1, axis)),
            0, axis,
        )  # fmt: skip
    found = resize_image(image, spec)
    assert np.abs(found - expected).max() < 1.2  # rounded twice


def _kernel(source: int, target: int, first: int, interpolation: str) -> np.ndarray:
    scale, rows = source / target, []
    stretch, places = max(scale, 1), np.arange(source)
    for j in range(first, first + 16):
        x = np.abs((places + 0.5 - (j + 0.5) * scale) / stretch)
        if interpolation == "bilinear":
            row = np.clip(1 - x, 0, None)
        else:
            near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
            row = np.where(x < 1, near, np.where(x < 2, far, 0))
        rows.append(row / row.sum())
    return np.array(rows)


def test_a_key_names_pixels_only_where_they_are_not_the_usual_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = preprocess_identity(TORCHVISION)
    assert usual == canonical_json(TORCHVISION.identity())  # as before there was such a check
    monkeypatch.setattr("probe.preprocess.known_pixels.resampling", lambda: "0123")
    assert json.loads(preprocess_identity(TORCHVISION))["resampler"] == "0123"
    assert "resampler" not in preprocess_identity(CAFFE_BGR)  # our own arithmetic
    monkeypatch.setattr("probe.preprocess.known_pixels.decoding", lambda: "4567")
    assert json.loads(preprocess_identity(CAFFE_BGR))["jpeg"] == "4567"


def test_another_resize_or_jpeg_decoder_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    resampling, decoding = known_pixels.resampling(), known_pixels.decoding()
    assert (resampling, decoding) == (known_pixels.RESIZED, known_pixels.DECODED)
    whole, open_ = Image.Image.resize, Image.open
    known_pixels.resampling.cache_clear()
    known_pixels.decoding.cache_clear()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(
                Image.Image, "resize",
                lambda self, size, method: whole(self, size, method).point(lambda v: v ^ 1),
            )  # fmt: skip
            patch.setattr(
                Image, "open", lambda *of, **more: open_(*of, **more).point(lambda v: v ^ 1)
            )
            assert known_pixels.resampling() != known_pixels.RESIZED
            assert known_pixels.decoding() != known_pixels.DECODED
    finally:
        known_pixels.resampling.cache_clear()
        known_pixels.decoding.cache_clear()


def test_a_named_size_drops_the_crop() -> None:
    assert TORCHVISION.short_side == 256
    assert TORCHVISION.with_size(96).short_side == 96


def test_the_size_of_the_weights_is_their_own_recipe_and_a_policy_is_another() -> None:
    assert TORCHVISION.with_size(224) == TORCHVISION == TORCHVISION.with_size(None)
    assert TORCHVISION.with_size(224, "crop").crop_fraction == 1
    assert TORCHVISION.with_size(None, "squash") == replace(
        TORCHVISION, resize="squash", crop_fraction=1.0
    )
    with pytest.raises(UsageError, match="--resize stretch: expected crop, squash, pad"):
        TORCHVISION.with_size(64, "stretch")


@pytest.mark.parametrize("spec", [TORCHVISION, CAFFE_BGR], ids=lambda one: one.name)
@pytest.mark.parametrize(
    ("height", "width"), [(30, 50), (50, 30), (64, 64), (20, 33), (1, 400), (90, 200)]
)
def test_padding_keeps_the_whole_image_between_borders_of_the_mean(
    height: int, width: int, spec: PreprocessSpec
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    padded = resize_image(image, spec.with_size(64, "pad"))
    tall = max(round(64 * height / max(height, width)), 1)
    wide = max(round(64 * width / max(height, width)), 1)
    top, left = (64 - tall) // 2, (64 - wide) // 2
    inside = padded[top : top + tall, left : left + wide]
    if spec.antialias:  # Pillow alone makes the same pixels of the whole image
        alone = Image.fromarray(image).resize((wide, tall), Image.Resampling.BILINEAR)
        assert np.abs(inside.astype(int) - np.asarray(alone)).max() <= 1
    borders = np.ones((64, 64), bool)
    borders[top : top + tall, left : left + wide] = False
    assert (np.abs(padded[borders] - np.array((124, 116, 104))) <= 1).all()  # ImageNet's mean
    gain, shift = spec.arithmetic()
    colour = np.array(spec.fill[:: 1 if spec.channels == "RGB" else -1]).reshape(1, 3, 1, 1)
    assert np.abs(colour * gain - shift).max() <= 0.51 * gain.max()  # 0 to the network


def test_a_padded_input_shows_more_than_the_whole_image() -> None:
    window = Window.of(TORCHVISION.with_size(64, "pad"), np.zeros((30, 50, 3), np.uint8))
    # 38 of the 64 rows show the image's 30, and 13 are border on either side
    assert (window.left, window.width) == (0, 50)
    assert (window.top, window.height) == pytest.approx((-13 * 30 / 38, 64 * 30 / 38))


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(("height", "width"), [(90, 200), (201, 90), (40, 41)])
@pytest.mark.parametrize("resize", RESIZES)
def test_the_window_is_the_part_of_the_image_that_the_input_shows(
    resize: Resize, height: int, width: int, antialias: bool
) -> None:
    spec = replace(TORCHVISION.with_size(64, resize), antialias=antialias)
    rows, columns = np.mgrid[:height, :width]  # an image whose colours are its coordinates
    image = np.stack([rows, columns, np.full_like(rows, 255)], axis=2).astype(np.uint8)
    window, seen = Window.of(spec, image), resize_image(image, spec).astype(float)
    shown = seen[..., 2] == 255  # no border
    pixels = np.arange(64) + 0.5
    down = window.top + pixels[:, None] * window.height / 64 - 0.5
    across = window.left + pixels * window.width / 64 - 0.5
    for found, expected, side in (
        (seen[..., 0], down, window.height), (seen[..., 1], across, window.width),
    ):  # fmt: skip
        off = np.abs(found - expected)[shown]
        assert off.max() <= 0.6 + side / 64  # rounding, and a pixel of the input at the edges


def test_a_side_to_crop_from_is_what_torchvision_says() -> None:
    image = np.random.default_rng(5).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    found = TORCHVISION.with_size(56, "64")
    assert found.describe_resizing().startswith("shorter side to 64 then centre crop 56,")
    whole = np.asarray(Image.fromarray(image).resize((85, 64), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(resize_image(image, found), whole[4:60, 14:70])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TORCHVISION.with_size(224, "256"), TORCHVISION),
        (TORCHVISION.with_size(None, "256"), TORCHVISION),
        (TORCHVISION.with_size(64, "64"), TORCHVISION.with_size(64, "crop")),
        (TORCHVISION.with_size(64, "72"), TORCHVISION.with_size(64, "73")),
        (TORCHVISION.with_size(64, "72"), TORCHVISION.with_size(64)),
        (TORCHVISION.with_size(64, "72"), TORCHVISION.with_size(64, "squash")),
        (replace(TORCHVISION, crop_fraction=0.9).with_size(224, "248"),
         replace(TORCHVISION, crop_fraction=0.9)),
        (CAFFENET.with_size(227, "256"), CAFFENET),
    ],
)  # fmt: skip
def test_keys_differ_exactly_where_pixels_do(one: PreprocessSpec, other: PreprocessSpec) -> None:
    image = np.random.default_rng(6).integers(0, 256, (290, 410, 3), dtype=np.uint8)
    same = np.array_equal(resize_image(image, one), resize_image(image, other))
    assert same == (one.identity() == other.identity())


def test_a_side_in_the_preprocessings_name_is_told_its_options() -> None:
    with pytest.raises(UsageError, match="as --resize 256 --size 227"):
        load_preprocess("caffe_bgr,resize=256,crop=227")


@pytest.mark.parametrize(
    ("size", "resize"), [(64, "63"), (64, "0"), (64, "-3"), (64, "stretch"), (64, "9999999")]
)
def test_a_side_that_cannot_be_cropped_from_is_refused(size: int, resize: str) -> None:
    with pytest.raises(UsageError, match=f"--resize {resize}: "):
        TORCHVISION.with_size(size, resize)


@pytest.mark.parametrize("field", [f.name for f in fields(PreprocessSpec) if f.name != "name"])
def test_each_field_is_part_of_the_identity(field: str) -> None:
    other = {
        "size": 7,
        "resize": "squash",
        "crop_fraction": 0.5,
        "interpolation": "bicubic",
        "antialias": False,
        "crop_rounding": "down",
        "channels": "BGR",
        "scale": 3.0,
        "mean": (9.0, 9.0, 9.0),
        "std": (7.0, 7.0, 7.0),
    }
    assert replace(TORCHVISION, **{field: other[field]}).identity() != TORCHVISION.identity()


def test_the_name_is_not() -> None:
    assert replace(TORCHVISION, name="mine").identity() == TORCHVISION.identity()


def test_a_squash_without_a_crop_has_the_key_it_always_had() -> None:
    assert CAFFE_BGR.identity() == {
        "size": 224, "resize": "squash", "interpolation": "bilinear", "antialias": False,
        "channels": "BGR", "scale": 1.0, "mean": [103.939, 116.779, 123.68], "std": [1.0, 1.0, 1.0],
    }  # fmt: skip
    assert replace(CAFFE_BGR, crop_fraction=0.5).identity() == {
        **CAFFE_BGR.identity(), "crop_fraction": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(("height", "width"), [(40, 77), (200, 90), (256, 256), (227, 227)])
def test_a_squash_is_cropped_as_caffe_does(height: int, width: int) -> None:
    image = photo(height, width)
    spec = replace(CAFFENET, resize="squash", antialias=True)
    squashed = np.asarray(Image.fromarray(image).resize((256, 256), Image.Resampling.BILINEAR))
    # caffe: data_transformer.cpp, TEST: h_off = (datum_height - crop_size) / 2 in whole numbers
    np.testing.assert_array_equal(resize_image(image, spec), squashed[14:241, 14:241])
    assert spec.describe_resizing() == "squash to 256 then centre crop 227, antialiased bilinear"


def test_views_of_a_cropped_squash_have_its_margin() -> None:
    image, spec = photo(60, 90), replace(CAFFE_BGR, size=32, crop_fraction=0.5, antialias=True)
    large = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR))
    plain, first, *_, last = image_views(image, spec, "crops5")
    np.testing.assert_array_equal(plain, large[16:48, 16:48])
    np.testing.assert_array_equal(first, large[:32, :32])
    np.testing.assert_array_equal(last, large[32:, 32:])


def test_the_window_of_a_cropped_squash_is_the_centre_of_the_image() -> None:
    window = Window.of(replace(CAFFE_BGR, size=32, crop_fraction=0.5), photo(60, 90))
    assert window == Window(top=15, left=22.5, height=30, width=45)


@pytest.mark.parametrize("spec", PRESETS.values(), ids=lambda spec: spec.name)
def test_a_file_gives_back_what_was_written(tmp_path: Path, spec: PreprocessSpec) -> None:
    path = tmp_path / "my spec.json"
    path.write_text(json.dumps(spec.to_json()))
    assert load_preprocess(str(path)) == spec
    assert load_preprocess(spec.name) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a JSON file"),
        ("[]", "expected a JSON object"),
        ('{"size": 224}', "'resize' is missing"),
        ('{"size": 224, "resize": "crop", "sise": 3}', "unknown field 'sise'"),
        ('{"size": 0, "resize": "crop"}', "size is 0"),
        ('{"size": "224", "resize": "crop"}', "size is '224'"),
        ('{"size": 224, "resize": "zoom"}', "resize is 'zoom'"),
        ('{"size": 224, "resize": "crop", "std": [1, 0, 1]}', "std"),
        ('{"size": 224, "resize": "crop", "mean": [1, 2]}', "three numbers"),
        ('{"size": 224, "resize": "crop", "crop_fraction": 1.5}', "crop_fraction is 1.5"),
        ('{"size": 224, "resize": "crop", "scale": NaN}', "scale is nan"),
        ('{"size": 224, "resize": "crop", "channels": "GBR"}', "channels is 'GBR'"),
        ('{"size": true, "resize": "crop"}', "size is True"),
        ('{"size": 224, "size": 227, "resize": "crop"}', "'size' is given twice"),
        ('{"size": 224, "resize": "crop", "name": 5}', "name is 5"),
        ('{"size": 224, "resize": "crop", "name": "a\\nb"}', "name is"),
        ('{"size": 224, "resize": "crop", "scale": 1' + 400 * "0" + "}", "scale is 1000"),
        ('{"size": 224, "resize": "crop", "scale": 1e300}', "scale is 1e.300"),
        ('{"size": 224, "resize": "crop", "std": [1e-50, 1, 1]}', "std is"),
        ('{"size": 224, "resize": "crop", "mean": [1e300, 1, 1]}', "mean is"),
        ('{"size": 224, "resize": "crop", "crop_fraction": 1e-320}', "crop_fraction is 1e-320"),
        ('{"size": 224, "resize": "squash", "crop_fraction": 0.999}', "crop_fraction .* no effect"),
        ('{"size": 224, "resize": "crop", "scale": 0.00392, "mean": [104, 117, 123]}', "one unit"),
        ('{"size": 224, "resize": "crop", "scale": 0.00392, "std": [58, 57, 57]}', "one unit"),
        ('{"size": 224, "resize": "crop", "mean": [-104, -117, -123]}', "one unit"),
        (
            '{"size": 224, "resize": "crop", "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}',
            "add scale",
        ),
        (5000 * "[", "not a JSON file"),
        (40000 * "  ", "at most 65,536 are read"),
    ],
    ids=lambda text: text[:60],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "spec.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load_preprocess(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="caffe_bgr"):
        load_preprocess("caffe")


def test_whole_numbers_are_the_same_preprocessing_as_floats() -> None:
    fields = {"name": "a", "size": 8, "resize": "squash"}
    whole = PreprocessSpec.from_json(
        {**fields, "mean": [1, 2, 3], "scale": 1, "std": [1, 1, 2]}, "x"
    )
    same = PreprocessSpec.from_json(
        {**fields, "mean": [1.0, 2.0, 3.0], "scale": 1.0, "std": [1.0, 1.0, 2.0]}, "x"
    )
    assert json.dumps(whole.identity()) == json.dumps(same.identity())
