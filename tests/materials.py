"""What the examples of the pages speak of: small datasets and networks under the pages' names.

`make` puts into a folder what a text names. The images are scikit-learn's digits, those of a class
now and then another's, so that heads err; the networks have a few random parameters, but
EfficientNet-Lite0 is the real one of the extra ``demo``, and VGG16's file that of PROBE_TEST_DATA.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.backbones.foreign_graphs import saved, transformer
from tests.weights.published import caffe_vgg
from tests.weights.writers_proto import write_caffe, write_mean

PETS = ("cat", "dog", "owl")
VGG16 = "vgg16_imagenet_notop.h5"
SIDE = 32  # pixels of an image, and what the small networks take
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.2, 0.2]


@dataclass(frozen=True, kw_only=True)
class Photos:
    """What lies in ``photos/``.

    Parameters
    ----------
    each : int
        Images of a class, in each split.
    splits : bool
        Whether there are train and test above the classes.
    """

    each: int = 12
    classes: Sequence[str] = PETS
    splits: bool = False


def make(folder: Path, text: str, photos: Photos) -> None:
    """Make what a text names, in a folder."""
    for name, maker in MATERIALS.items():
        if name in text:
            maker(folder)
    if "photos" in text:
        write_photos(folder / "photos", photos)


@cache
def digits() -> dict[int, list[NDArray[np.uint8]]]:
    """Return scikit-learn's digits by what they show, 32 pixels wide."""
    from sklearn.datasets import load_digits

    read = load_digits()
    pixels = np.repeat(np.repeat((read.images * 15.9).astype(np.uint8), 4, 1), 4, 2)
    return {digit: list(pixels[read.target == digit]) for digit in range(10)}


def picture(digit: int, number: int) -> bytes:
    """Return an image of a digit as JPEG; each eighth is of the next digit."""
    made = io.BytesIO()
    of_it = digits()[(digit + (number % 8 == 7)) % 10]
    image = np.roll(of_it[number % len(of_it)], number // len(of_it), axis=1)  # all differ
    Image.fromarray(image).save(made, "JPEG")
    return made.getvalue()


def write(path: Path, content: bytes) -> None:
    """Write a file, in folders that are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_photos(folder: Path, photos: Photos) -> None:
    """Write a folder of class folders."""
    for digit, name in enumerate(photos.classes):
        for number in range(photos.each * (1 + photos.splits)):
            split, of_it = divmod(number, photos.each)
            above = folder / ("train", "test")[split] if photos.splits else folder
            called = f"{of_it:04d}.jpg" if photos.splits else f"{of_it + 1}.jpg"
            write(above / name / called, picture(digit, number))


def write_images(folder: Path, *names: str) -> None:
    """Write an image under each name."""
    for number, name in enumerate(names):
        write(folder / name, picture(number % len(PETS), number))


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    """Write an archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))


def pets(first: int, each: int) -> dict[str, bytes]:
    """Return images by ``CLASS/NUMBER.jpg``, of each class so many."""
    return {
        f"{name}/{number}.jpg": picture(digit, number)
        for digit, name in enumerate(PETS)
        for number in range(first, first + each)
    }


def write_pets(folder: Path, each: int = 8) -> None:
    """Write images in class folders."""
    for name, content in pets(0, each).items():
        write(folder / name, content)


def write_archives(folder: Path) -> None:
    """Write a dataset of two archives."""
    write_tar(folder / "archives/train.tar", pets(0, 4))
    write_tar(folder / "archives/test.tar", pets(4, 2))


def write_shards(folder: Path) -> None:
    """Write archives as WebDataset has them, each with a sample."""
    for number in range(10):
        members = {
            "0001.jpg": picture(number % 3, number),
            "0001.cls": str(number % 3).encode(),
        }
        write_tar(folder / f"shards/data-{number:03d}.tar", members)


def write_records(folder: Path) -> None:
    """Write records of MXNet's, as train and test, without the lists they were packed from."""
    import probe

    for split, first in (("train", 0), ("test", 4)):
        lines = []
        for name, content in pets(first, 4).items():
            write(folder / "records" / name, content)
            lines.append(f"{len(lines)}\t{PETS.index(name.partition('/')[0])}\t{name}\n")
        listed = folder / f"records/{split}.lst"
        listed.write_text("".join(lines))
        probe.pack_lists(listed, quiet=True)
        listed.unlink()
    for name in PETS:
        shutil.rmtree(folder / "records" / name)


def image_table() -> Any:
    """Return images and labels as Hugging Face stores them."""
    import pyarrow as pa

    made = pets(0, 8)
    images = [{"bytes": content, "path": name} for name, content in made.items()]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    labels = [name.partition("/")[0] for name in made]
    return pa.table({"image": pa.array(images, kind), "label": labels})


def write_parquet(folder: Path) -> None:
    """Write images as Hugging Face publishes them."""
    import pyarrow.parquet as pq

    path = folder / "data/train-00000-of-00001.parquet"
    path.parent.mkdir()
    pq.write_table(image_table(), path)


def write_saved(folder: Path) -> None:
    """Write images as `save_to_disk` of Hugging Face's datasets does."""
    import pyarrow as pa

    place, table = folder / "saved", image_table()
    place.mkdir()
    with pa.ipc.new_stream(str(place / "data-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table)
    shards = [{"filename": "data-00000-of-00001.arrow"}]
    (place / "state.json").write_text(json.dumps({"_data_files": shards, "_split": None}))
    (place / "dataset_info.json").write_text("{}")


def write_arrays(folder: Path) -> None:
    """Write images and labels as NumPy does."""
    images = np.stack([digits()[number % 3][number] for number in range(12)])
    np.savez(folder / "digits.npz", images=images, labels=np.arange(12) % 3)


def write_cells(folder: Path) -> None:
    """Write a list with a patient to each two images."""
    with (folder / "cells.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "patient"])
        for number, (name, content) in enumerate(pets(0, 8).items()):
            write(folder / "cells" / name, content)
            writer.writerow([f"cells/{name}", name.partition("/")[0], f"p{number // 2}"])


def write_dinov2(folder: Path) -> None:
    """Write a small transformer with a file of its preprocessing, as transformers has it."""
    place = folder / "models/dinov2-small"
    saved(transformer(seed=1)[0], place / "model.onnx")
    about = {
        "do_resize": True, "size": {"shortest_edge": 36}, "do_center_crop": True, "resample": 3,
        "crop_size": {"height": SIDE, "width": SIDE}, "do_rescale": True,
        "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": MEAN, "image_std": STD,
        "image_processor_type": "BitImageProcessor",
    }  # fmt: skip
    (place / "preprocessor_config.json").write_text(json.dumps(about))


def write_clip(folder: Path) -> None:
    """Write a small transformer with OpenCLIP's file."""
    saved(transformer(seed=2)[0], folder / "clip/model.onnx")
    about = {
        "model_cfg": {"vision_cfg": {"image_size": SIDE}},
        "preprocess_cfg": {"mean": MEAN, "std": STD},
    }
    (folder / "clip/open_clip_config.json").write_text(json.dumps(about))


def write_vgg11(folder: Path) -> None:
    """Write VGG11's convolution layers as a model of Caffe's."""
    drawn, shapes = np.random.default_rng(0), caffe_vgg("vgg11")
    arrays = {name: drawn.standard_normal(shape, np.float32) / 30
              for name, shape in shapes.items() if "fc" not in name}  # fmt: skip
    write_caffe(folder / "cats.caffemodel", arrays)


def link_vgg16(folder: Path) -> None:
    """Link the real file of VGG16; see CONTRIBUTING.md."""
    (folder / VGG16).symlink_to(Path(os.environ["PROBE_TEST_DATA"]) / "weights" / VGG16)


MATERIALS: dict[str, Callable[[Path], object]] = {  # by what of a text asks for it
    " new/": lambda at: write_images(at / "new", "1.jpg", "2.jpg"),
    "a photo.jpg": lambda at: write_images(
        at, "1.jpg", "2.jpg", "3.jpg", "4.jpg", "a photo.jpg", "deep/5.jpg"
    ),
    "archives/": write_archives,
    "cats.caffemodel": write_vgg11,
    "cells.csv": write_cells,
    " clip/": write_clip,
    "data/train-": write_parquet,
    "digits.npz": write_arrays,
    "flowers/": lambda at: write_pets(at / "flowers"),
    "mean.binaryproto": lambda at: write_mean(
        at / "mean.binaryproto", np.full((3, 6, 6), 100, "f4")
    ),
    "models/dinov2-small": write_dinov2,
    "photos.tar": lambda at: write_tar(at / "photos.tar", pets(0, 8)),
    "records/": write_records,
    "saved/": write_saved,
    "shards/": write_shards,
    "unsorted/": lambda at: write_images(at / "unsorted", *(f"{n}.jpg" for n in range(9))),
    VGG16: link_vgg16,
    "vit.onnx": lambda at: saved(transformer()[0], at / "vit.onnx"),
}
