"""Files of records, packed from lists: whole or not there, and as the list says."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probe.datasets.forms.packing import Recoding, pack_list
from probe.datasets.forms.recordio import image_of, read_records
from probe.errors import CacheError, DataError, UsageError

MakeFolder = Callable[..., Path]


@pytest.fixture
def pets(make_folder: MakeFolder) -> Path:
    """A list of ten images of two classes, out of order, beside their folder."""
    folder = make_folder(*(f"{'cat' if n % 3 else 'dog'}/{n}.png" for n in range(10)), root="pets")
    path = folder.with_name("pets_train.lst")
    order = [7, 0, 9, 2, 4, 1, 8, 3, 6, 5]
    names = ["cat" if n % 3 else "dog" for n in order]
    lines = [
        f"{n + 100}\t{name == 'dog':f}\t{name}/{n}.png\n"
        for n, name in zip(order, names, strict=True)
    ]
    path.write_text("".join(lines))
    return path


def read(path: Path) -> list[tuple[int, bytes]]:
    data = path.read_bytes()
    return [(one.id, image_of(data[one.offset : one.stop])) for one in read_records(path)]


def test_order_and_bytes_are_those_of_the_list(pets: Path) -> None:
    packed = pack_list(pets, workers=4)
    listed = [line.split("\t") for line in pets.read_text().splitlines()]
    folder = pets.with_name("pets")
    assert read(packed.path) == [(int(n), (folder / name).read_bytes()) for n, _, name in listed]
    assert packed.path == pets.with_suffix(".rec")
    offsets = [record.offset for record in read_records(packed.path)]
    assert packed.index.read_text() == "".join(
        f"{n}\t{offset}\n" for (n, _, _), offset in zip(listed, offsets, strict=True)
    )


def test_mxnet_trains_on_what_was_packed(mx: Any, pets: Path) -> None:
    packed = pack_list(pets, recoding=Recoding(resize=16, encoding=".png"))
    iterator = mx.io.ImageRecordIter(
        path_imgrec=str(packed.path), path_imgidx=str(packed.index), data_shape=(3, 16, 16),
        batch_size=5,
    )  # fmt: skip
    labels = np.concatenate([batch.label[0].asnumpy() for batch in iterator])
    listed = [float(line.split("\t")[1]) for line in pets.read_text().splitlines()]
    assert labels.tolist() == listed
    images = mx.gluon.data.vision.ImageRecordDataset(str(packed.path))
    assert len(images) == 10
    own = [np.asarray(Image.open(io.BytesIO(image))) for _, image in read(packed.path)]
    # it goes through the keys of the index in their order in the file
    for row, pixels in enumerate(own):
        image, label = images[row]
        np.testing.assert_array_equal(image.asnumpy(), pixels)
        assert label == listed[row]


def test_mxnet_reads_several_labels_an_image(mx: Any, pets: Path) -> None:
    folder, names = pets.with_name("pets"), ("cat/1.png", "dog/3.png", "cat/2.png")
    flags = [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 1.0]]
    path = folder / "several.lst"
    lines = [
        "\t".join([str(n), *(f"{one:f}" for one in row), name])
        for n, (row, name) in enumerate(zip(flags, names, strict=True))
    ]
    path.write_text("\n".join(lines) + "\n")
    packed = pack_list(path)
    iterator = mx.io.ImageRecordIter(
        path_imgrec=str(packed.path), path_imgidx=str(packed.index), data_shape=(3, 5, 5),
        batch_size=3, label_width=3,
    )  # fmt: skip
    assert next(iterator).label[0].asnumpy().tolist() == flags


def test_images_are_encoded_anew(make_folder: MakeFolder) -> None:
    folder = make_folder()
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    pixels = np.repeat(np.repeat(random.integers(0, 256, (12, 20, 3), np.uint8), 8, 0), 8, 1)
    turned = Image.fromarray(pixels)
    exif = turned.getexif()
    exif[274] = 6  # its top is on the right
    turned.save(folder / "a.jpg", quality=95, exif=exif)
    (folder / "a.lst").write_text("0\t1\ta.jpg\n")

    def one(**options: Any) -> Image.Image:
        done = pack_list(folder / "a.lst", recoding=Recoding(**options), overwrite=True)
        ((_, image),) = read(done.path)
        return Image.open(io.BytesIO(image))

    small = one(resize=48)
    assert (small.format, small.size, small.mode) == ("JPEG", (48, 80), "RGB")
    assert one(resize=200).size == (200, 333)
    assert one(encoding=".png").format == "PNG"
    assert one(color="grey").mode == "L"
    upright = np.asarray(one(encoding=".png")).astype(float)
    assert np.abs(upright - np.rot90(pixels, -1)).mean() < 12
    assert one(encoding=".png").getexif() == {}
    sizes = []
    for quality in (20, 90):
        done = pack_list(folder / "a.lst", recoding=Recoding(quality=quality), overwrite=True)
        sizes.append(done.size)
    assert sizes[0] < sizes[1]


def test_a_resize_that_would_fill_the_memory_is_refused(make_folder: MakeFolder) -> None:
    folder = make_folder("1.png")
    Image.new("RGB", (60_000, 1)).save(folder / "1.png")
    (folder / "a.lst").write_text("0\t0\t1.png\n")
    with pytest.raises(DataError, match="would have 983040000 x 16384 pixels"):
        pack_list(folder / "a.lst", recoding=Recoding(resize=2**14))


def test_what_cannot_be_read_is_refused_or_left_out(pets: Path) -> None:
    folder = pets.with_name("pets")
    (folder / "dog/9.png").write_bytes((folder / "dog/9.png").read_bytes()[:60])
    (folder / "cat/4.png").unlink()
    with pytest.raises(DataError, match=r"pets_train\.lst: line 3: .*9\.png: .*--skip-bad"):
        pack_list(pets)
    assert sorted(path.name for path in pets.parent.iterdir()) == ["pets", "pets_train.lst"]
    packed = pack_list(pets, skip_bad=True)
    assert [one.id for one in packed.skipped] == ["dog/9.png", "cat/4.png"]
    assert (
        packed.images
        == 8
        == len(read(packed.path))
        == len(packed.index.read_text().split("\n")) - 1
    )


def test_nothing_that_can_be_read(make_folder: MakeFolder) -> None:
    folder = make_folder("1.png")
    (folder / "1.png").write_bytes(b"no image")
    (folder / "a.lst").write_text("0\t0\t1.png\n")
    with pytest.raises(DataError, match="no image can be read; the first: is not a JPEG"):
        pack_list(folder / "a.lst", skip_bad=True)
    assert not (folder / "a.rec").exists()


def test_what_is_there_is_kept_unless_told(pets: Path) -> None:
    pack_list(pets)
    before = pets.with_suffix(".rec").read_bytes()
    with pytest.raises(UsageError, match=r"pets_train\.rec: is there already; --overwrite"):
        pack_list(pets)
    pack_list(pets, recoding=Recoding(resize=4), overwrite=True)
    assert pets.with_suffix(".rec").read_bytes() != before


def test_names_of_classes_go_along(pets: Path, tmp_path: Path) -> None:
    pets.with_name("classes.txt").write_text("cat\ndog\n")
    packed = pack_list(pets, tmp_path / "elsewhere" / "p.rec")
    assert (packed.path.parent / "classes.txt").read_text() == "cat\ndog\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("5\t0\tcat/1.png\n5\t1\tcat/2.png\n", "line 2 has the index 5, as line 1 has"),
        ("5\t0\tcow/1.png\n", "line 1: there is no 'cow/1.png' in "),
    ],
)
def test_lists_that_make_no_records(text: str, told: str, pets: Path) -> None:
    pets.write_text(text)
    with pytest.raises(DataError, match=told):
        pack_list(pets)


def test_names_that_make_no_sense(pets: Path) -> None:
    with pytest.raises(UsageError, match=r"the name of a record file ends in \.rec"):
        pack_list(pets, pets.with_name("x.bin"))
    with pytest.raises(UsageError, match=r"pets: is no \.lst file"):
        pack_list(pets.with_name("pets"))
    with pytest.raises(DataError, match=r"none\.lst: cannot be read: No such file"):
        pack_list(pets.with_name("none.lst"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(pets: Path) -> None:
    pets.parent.chmod(0o500)
    try:
        with pytest.raises(CacheError, match="cannot be written"):
            pack_list(pets)
    finally:
        pets.parent.chmod(0o700)


def start(path: Path) -> subprocess.Popen[bytes]:
    """Start to pack in another process, which says how far it is."""
    code = (
        "import sys, pathlib\n"
        "from probe.datasets.forms.packing import *\n"
        "say = lambda _: (sys.stdout.write('.'), sys.stdout.flush())\n"
        "pack_list(pathlib.Path(sys.argv[1]), recoding=Recoding(resize=2000, encoding='.png'), "
        "overwrite=True, advanced=say)"
    )
    return subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE)


def test_a_kill_leaves_what_was_there(pets: Path) -> None:
    pack_list(pets)
    before = {path: path.read_bytes() for path in pets.parent.glob("*.*")}
    process = start(pets)
    assert process.stdout is not None
    process.stdout.read(2)
    with pytest.raises(UsageError, match="another process is packing it"):
        pack_list(pets, overwrite=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert {path: path.read_bytes() for path in pets.parent.glob("*.*") if path in before} == before
    pack_list(pets, overwrite=True)
    assert {path.name for path in pets.parent.iterdir()} == {
        "pets",
        *(path.name for path in before),
    }


def test_an_interrupt_leaves_nothing_else(pets: Path) -> None:
    process = start(pets)
    assert process.stdout is not None
    process.stdout.read(2)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode != 0
    assert sorted(path.name for path in pets.parent.iterdir()) == ["pets", "pets_train.lst"]
