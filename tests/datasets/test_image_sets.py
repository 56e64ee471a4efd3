"""The image sets of the catalog, from stand-ins of the same layout that a server on loopback gives.

Nothing is downloaded from the official hosts here: what is tested is that such files are fetched,
checked, unpacked and read.
"""

from __future__ import annotations

import gzip
import importlib.util
import io
import re
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

import probe
from probe.core.registry import Registry
from probe.datasets import DATASETS, Dataset, load, load_dataset
from probe.datasets.named import fetch
from probe.datasets.named.catalog import IMAGE_SETS, DatasetSpec
from probe.datasets.named.fetch import unpack
from probe.datasets.named.image_sets import READERS
from probe.errors import DataError, MissingFilesError, UnsafeFileError
from probe.screen import datasets as screen
from tests.commands import invoke, probe_json
from tests.datasets.serving import Files, Handler, served

SPECS = {spec.name: spec for spec in IMAGE_SETS}


def jpeg(seed: int) -> bytes:
    data = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(pixels).save(data, "JPEG")
    return data.getvalue()


def tar(files: Files, mode: str = "w:gz") -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as packed:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return data.getvalue()


def packed_zip(files: Files) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return data.getvalue()


def mat(**arrays: Any) -> bytes:
    data = io.BytesIO()
    savemat(data, arrays, do_compression=True)
    return data.getvalue()


def npz(**arrays: Any) -> bytes:
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)
    return data.getvalue()


def imagenette(name: str) -> Files:
    folder = SPECS[name].layouts[0].sources[0].gives
    files = {f"{folder}/noisy_imagenette.csv": b"path,label\n"}
    for k, one in enumerate(SPECS[name].layouts[0].class_folders):
        files |= {f"{folder}/train/{one}/{one}_{n}.JPEG": jpeg(10 * k + n) for n in range(3)}
        files[f"{folder}/val/{one}/{one}_9.JPEG"] = jpeg(10 * k + 9)
    return {f"{folder}.tgz": tar(files)}


def eurosat() -> Files:
    names = SPECS["eurosat"].classes
    files = {f"2750/{one}/{one}_{n}.jpg": jpeg(9 * k + n) for k, one in enumerate(names)
             for n in range(1, 4)}  # fmt: skip
    return {"EuroSAT.zip": packed_zip(files)}


def dtd() -> Files:
    files: Files = {"dtd/imdb/imdb.mat": b"not read"}
    lists: dict[str, list[str]] = {"train1": [], "val1": [], "test1": [], "train2": ["x/y.jpg"]}
    for k, one in enumerate(SPECS["dtd"].classes):
        for n, split in enumerate(("train1", "val1", "test1")):
            files[f"dtd/images/{one}/{one}_{n:04d}.jpg"] = jpeg(3 * k + n)
            lists[split].append(f"{one}/{one}_{n:04d}.jpg")
    files |= {f"dtd/labels/{name}.txt": "\n".join(lines).encode() for name, lines in lists.items()}
    return {"dtd-r1.0.1.tar.gz": tar(files)}


def pets() -> Files:
    images: Files = {"images/Abyssinian_100.mat": b"not read"}
    lists: dict[str, list[str]] = {"trainval": [], "test": []}
    for k, breed in enumerate(SPECS["pets"].classes):
        for n, split in enumerate(("trainval", "trainval", "test")):
            images[f"images/{breed}_{n + 1}.jpg"] = jpeg(3 * k + n)
            lists[split].append(f"{breed}_{n + 1} {k + 1} {1 + breed.islower()} 1")
    notes = {f"annotations/{name}.txt": "\n".join(lines).encode() for name, lines in lists.items()}
    notes["annotations/trimaps/._x.png"] = b"junk"
    return {"images.tar.gz": tar(images), "annotations.tar.gz": tar(notes)}


def flowers() -> Files:
    count = 3 * 102
    order = np.random.default_rng(0).permutation(count) + 1
    labels = np.empty((1, count), np.uint8)
    labels[0, order - 1] = np.tile(np.arange(1, 103), 3)
    parts = {name: order[None, 102 * k : 102 * k + 102].astype(np.uint16)
             for k, name in enumerate(("trnid", "valid", "tstid"))}  # fmt: skip
    images = {f"jpg/image_{n:05d}.jpg": jpeg(n) for n in range(1, count + 1)}
    return {
        "102flowers.tgz": tar(images, "w"),  # the real one is not compressed either
        "imagelabels.mat": mat(labels=labels),
        "setid.mat": mat(**parts),
    }


def medmnist(name: str) -> Files:
    n_classes = len(SPECS[name].classes)
    rng = np.random.default_rng(1)
    channels = () if name in ("breastmnist", "pneumoniamnist") else (3,)
    arrays = {}
    for split, each in (("train", 3), ("val", 1), ("test", 2)):
        count = each * n_classes
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 28, 28, *channels), np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % n_classes)[:, None].astype(np.uint8)
    return {f"{name}.npz": npz(**arrays)}


def stand_in(name: str) -> Files:
    """The files of an image set, small, in the layout of the official ones."""
    made = {"eurosat": eurosat, "dtd": dtd, "pets": pets, "flowers102": flowers}
    if name in made:
        return made[name]()
    return imagenette(name) if name.startswith("imagenette") else medmnist(name)


DOWNLOADED = [name for name, spec in SPECS.items() if not spec.package]
COUNTS = {
    "imagenette": {"train": 30, "val": 10},
    "imagenette320": {"train": 30, "val": 10},
    "imagenette160": {"train": 30, "val": 10},
    "eurosat": {"train": 30},
    "dtd": {"train": 47, "val": 47, "test": 47},
    "pets": {"train": 74, "test": 37},
    "flowers102": {"train": 102, "val": 102, "test": 102},
    "pathmnist": {"train": 27, "val": 9, "test": 18},
    "dermamnist": {"train": 21, "val": 7, "test": 14},
    "bloodmnist": {"train": 24, "val": 8, "test": 16},
    "pneumoniamnist": {"train": 6, "val": 2, "test": 4},
    "breastmnist": {"train": 6, "val": 2, "test": 4},
}


@pytest.fixture
def serve(server: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DatasetSpec]:
    """Put stand-ins on the server, and into the catalog under their names."""

    def run(name: str, files: Files, *kinds: str) -> DatasetSpec:
        Handler.files.update(files)
        hosts = [f"{server}/{kind}" for kind in kinds or ("good",)]
        spec = served(SPECS[name], files, *hosts)
        registry = Registry("dataset", [spec])
        monkeypatch.setattr(load, "DATASETS", registry)
        monkeypatch.setattr(screen, "DATASETS", registry)
        return spec

    return run


Serve = Callable[..., DatasetSpec]


def read(name: str, tmp_path: Path, **options: Any) -> Dataset:
    return load_dataset(name, cache_dir=tmp_path / "cache", **options)


@pytest.mark.parametrize("name", DOWNLOADED)
def test_it_is_fetched_once_and_read_by_its_name(name: str, serve: Serve, tmp_path: Path) -> None:
    spec = serve(name, stand_in(name))
    told = probe_json("dataset", "fetch", name, "--cache-dir", tmp_path / "cache")
    assert told["images"] == COUNTS[name]
    assert told["licence"] == spec.licence
    assert len(Handler.asked) == len(spec.layouts[0].sources)
    folder = tmp_path / "cache" / "datasets" / name
    assert {path.name for path in folder.iterdir()} == {
        one.target for one in spec.layouts[0].sources
    }
    found = read(name, tmp_path, download=False)
    assert len(Handler.asked) == len(spec.layouts[0].sources)
    assert found.name == name
    assert found.classes == DATASETS[name].classes
    for split in found.splits.values():
        counts = np.bincount(split.labels, minlength=len(found.classes))
        assert counts.min() == counts.max() == len(split) // len(found.classes)
        assert split.images.image(0).shape[2] == 3
    some = read(name, tmp_path, splits=["train"], per_class=1, download=False)
    assert len(some.splits["train"]) == len(found.classes)


def test_labels_are_those_that_the_lists_say(serve: Serve, tmp_path: Path) -> None:
    for name, of in {
        "pets": lambda id_: re.sub(r"_\d+\.jpg$", "", id_.removeprefix("images/")),
        "dtd": lambda id_: id_.split("/")[1],
        "eurosat": lambda id_: id_.split("/")[0],
    }.items():
        serve(name, stand_in(name))
        found = read(name, tmp_path)
        for split in found.splits.values():
            assert [found.classes[k] for k in split.labels] == [of(id_) for id_ in split.ids]
    serve("imagenette160", stand_in("imagenette160"))
    found = read("imagenette160", tmp_path)
    for id_, label in zip(found.splits["val"].ids, found.splits["val"].labels, strict=True):
        folder = SPECS["imagenette160"].layouts[0].class_folders[label]
        assert f"/{folder}/" in id_
    assert found.classes[1] == "English springer"


def test_flowers_have_the_classes_and_splits_of_the_two_files(serve: Serve, tmp_path: Path) -> None:
    from scipy.io import loadmat

    files = stand_in("flowers102")
    serve("flowers102", files)
    found = read("flowers102", tmp_path)
    labels = loadmat(io.BytesIO(files["imagelabels.mat"]))["labels"][0]
    chosen = loadmat(io.BytesIO(files["setid.mat"]))
    for split, name in (("train", "trnid"), ("val", "valid"), ("test", "tstid")):
        expected = [(f"jpg/image_{n:05d}.jpg", labels[n - 1] - 1) for n in chosen[name][0]]
        part = found.splits[split]
        assert list(zip(part.ids, part.labels, strict=True)) == expected
    assert found.classes[0] == "pink primrose"


def test_medmnist_has_the_pixels_of_its_arrays(serve: Serve, tmp_path: Path) -> None:
    for name in ("pathmnist", "breastmnist"):
        files = stand_in(name)
        serve(name, files)
        found = read(name, tmp_path)
        arrays = np.load(io.BytesIO(files[f"{name}.npz"]))
        pixels = arrays["test_images"][5 % len(arrays["test_images"])]
        image = found.splits["test"].images.image(5 % len(arrays["test_images"]))
        assert np.array_equal(image, pixels if pixels.ndim == 3 else np.dstack([pixels] * 3))


def test_an_interrupted_download_goes_on_and_a_second_host_helps(
    serve: Serve, tmp_path: Path
) -> None:
    names = SPECS["eurosat"].classes
    files = {f"2750/{one}/{one}_1.jpg": jpeg(k) for k, one in enumerate(names)}
    large = np.random.default_rng(0).bytes(300_000)  # more than a block of a download
    files = {"EuroSAT.zip": packed_zip(files | {"readme.bin": large})}
    serve("eurosat", files, "closed")
    with pytest.raises(MissingFilesError, match=r"2750 missing in .*put EuroSAT\.zip from"):
        read("eurosat", tmp_path)
    folder = tmp_path / "cache" / "datasets" / "eurosat"
    (part,) = folder.iterdir()
    assert part.name == ".EuroSAT.zip.part"
    stopped = part.stat().st_size
    assert stopped > 0
    serve("eurosat", files, "gone", "good")
    assert len(read("eurosat", tmp_path).splits["train"]) == 10
    assert Handler.ranges[-1] == f"bytes={stopped}-"
    assert [path.name for path in folder.iterdir()] == ["2750"]


def test_other_bytes_than_the_official_are_refused(serve: Serve, tmp_path: Path) -> None:
    serve("pets", stand_in("pets"), "wrong")
    with pytest.raises(MissingFilesError, match="another checksum"):
        read("pets", tmp_path)
    folder = tmp_path / "cache" / "datasets" / "pets"
    assert list(folder.iterdir()) == []


def test_what_was_downloaded_by_hand_is_used_and_kept(serve: Serve, tmp_path: Path) -> None:
    files = stand_in("pets")
    serve("pets", files)
    root = tmp_path / "by hand"
    root.mkdir()
    (root / "images.tar.gz").write_bytes(files["images.tar.gz"])
    assert len(read("pets", tmp_path, root=root).splits["train"]) == 74
    assert Handler.asked == ["annotations.tar.gz"]
    assert {path.name for path in root.iterdir()} == {"images", "annotations", "images.tar.gz"}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "images.tar.gz").write_bytes(files["images.tar.gz"][:-9])
    with pytest.raises(DataError, match="is not the official file"):
        read("pets", tmp_path, root=tmp_path / "other")


def test_torchvisions_places_are_found(serve: Serve, tmp_path: Path) -> None:
    for name, place in {
        "pets": "oxford-iiit-pet", "flowers102": "flowers-102", "eurosat": "eurosat", "dtd": "dtd",
    }.items():  # fmt: skip
        files = stand_in(name)
        spec = serve(name, files)
        folder = tmp_path / "torchvision" / place
        folder.mkdir(parents=True)
        for source in spec.layouts[0].sources:
            (folder / source.file).write_bytes(files[source.file])
            if source.gives:
                unpack(folder / source.file, folder)
        found = read(name, tmp_path, root=tmp_path / "torchvision", download=False)
        assert found.root in (folder, folder.parent)
        assert found.splits["train"].images.image(0).shape == (6, 8, 3)
    assert Handler.asked == []


def test_a_kill_while_unpacking_leaves_nothing_under_its_name(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve("eurosat", stand_in("eurosat"))
    written = fetch._write_member

    def stop(member: Any, into: Path) -> None:
        if "River" in member.name:
            raise KeyboardInterrupt
        written(member, into)

    monkeypatch.setattr(fetch, "_write_member", stop)
    with pytest.raises(KeyboardInterrupt):
        read("eurosat", tmp_path)
    folder = tmp_path / "cache" / "datasets" / "eurosat"
    assert not (folder / "2750").exists()
    monkeypatch.setattr(fetch, "_write_member", written)
    assert len(read("eurosat", tmp_path).splits["train"]) == 30


@pytest.mark.parametrize(
    ("name", "odd", "said"),
    [
        ("pets", {"annotations.tar.gz": {"annotations/trainval.txt": b"pug_1 26\n"}}, "line 1"),
        ("pets", {"annotations.tar.gz": {"annotations/trainval.txt": b"pug_1 27 1 1\n"}}, "line 1"),
        ("pets", {"annotations.tar.gz": {"annotations/x": b""}}, "trainval.txt: is missing"),
        ("pets", {"annotations.tar.gz": {"annotations/trainval.txt": b"\n"}}, "is missing"),
        ("pets", {"annotations.tar.gz": {"other/x": b""}}, "does not contain annotations"),
        ("dtd", {"dtd-r1.0.1.tar.gz": {"dtd/labels/train1.txt": b"plaid/1.jpg\n"}}, "line 1"),
        ("dtd", {"dtd-r1.0.1.tar.gz": {"dtd/labels/train1.txt": b"\xff\xfe"}}, "cannot be read"),
        ("imagenette", {"imagenette2.tgz": {"imagenette2/train/cat/1.JPEG": jpeg(0)}},
         "other class folders"),
    ],
)  # fmt: skip
def test_files_that_are_not_as_expected_are_one_line(
    name: str, odd: dict[str, Files], said: str, serve: Serve, tmp_path: Path
) -> None:
    files = stand_in(name)
    serve(name, files | {archive: tar(members) for archive, members in odd.items()})
    with pytest.raises(DataError, match=said) as caught:
        read(name, tmp_path)
    assert "\n" not in str(caught.value)


def test_flowers_files_that_are_not_official_are_not_parsed(serve: Serve, tmp_path: Path) -> None:
    files = stand_in("flowers102")  # once: MATLAB files have the time in them
    serve("flowers102", files)
    read("flowers102", tmp_path)
    path = tmp_path / "cache" / "datasets" / "flowers102" / "setid.mat"
    path.write_bytes(mat(trnid=np.array([[9999]]), valid=np.array([[1]]), tstid=np.array([[1]])))
    with pytest.raises(DataError, match=r"setid\.mat: is not the official file"):
        read("flowers102", tmp_path)
    serve("flowers102", files | {"setid.mat": path.read_bytes()})
    with pytest.raises(DataError, match="names images or classes that are not there"):
        read("flowers102", tmp_path)


def test_medmnist_with_other_labels(serve: Serve, tmp_path: Path) -> None:
    pixels = np.zeros((4, 28, 28), np.uint8)
    labels = np.array([[0], [1], [2], [3]], np.uint8)
    arrays = {f"{one}_{what}": value for one in ("train", "val", "test")
              for what, value in (("images", pixels), ("labels", labels))}  # fmt: skip
    serve("breastmnist", {"breastmnist.npz": npz(**arrays)})
    with pytest.raises(DataError, match="instead of 0 to 1"):
        read("breastmnist", tmp_path)


@pytest.fixture
def elpv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of cells, laid out as elpv-dataset."""
    folder = tmp_path / "site" / "elpv_dataset" / "data"
    (folder / "images").mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise AssertionError('it was imported')\n")
    lines = []
    for number, likely in enumerate((0.0, 1 / 3, 2 / 3, 1.0) * 3, start=1):
        Image.fromarray(np.full((5, 5), number, np.uint8)).save(
            folder / "images" / f"cell{number:04d}.png"
        )
        kind = ("mono", "poly")[number % 2]
        lines.append(f"images/cell{number:04d}.png  {likely:.16g}  {kind}\n")
    (folder / "labels.csv").write_text("".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    importlib.invalidate_caches()
    return folder


def test_solar_cells_come_with_a_package(elpv: Path, tmp_path: Path) -> None:
    found = read("elpv", tmp_path)
    train = found.splits["train"]
    assert found.root is None  # as of the digits: nobody has to say where it lies
    assert [found.classes[k] for k in train.labels[:4]] == [
        "functional", "functional", "defective", "defective",
    ]  # fmt: skip
    assert train.columns["type"][:2] == ["poly", "mono"]
    assert train.columns["probability"][3] == "1"
    assert train.images.image(6)[0, 0].tolist() == [7, 7, 7]
    (elpv / "labels.csv").write_text("images/cell0001.png 1.5 mono\n")
    with pytest.raises(DataError, match="line 1"):
        read("elpv", tmp_path)


@pytest.mark.skipif(
    importlib.util.find_spec("elpv_dataset") is not None, reason="elpv-dataset is installed"
)
def test_a_package_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFilesError, match="`pip install elpv-dataset`"):
        read("elpv", tmp_path)


def test_fetch_says_what_one_may_do_with_it(serve: Serve, tmp_path: Path) -> None:
    serve("eurosat", stand_in("eurosat"))
    lines = invoke("dataset", "fetch", "eurosat", "--cache-dir", tmp_path).stdout.splitlines()
    told = dict(line.split(maxsplit=1) for line in lines)
    assert told["licence"] == "MIT"
    assert told["reached"].startswith("98.57 % top-1 accuracy: ResNet-50")
    assert "probe dataset split eurosat" in told["splits"]
    found = probe.fetch_dataset("eurosat", cache_dir=tmp_path, quiet=True)
    assert repr(found) == "<Dataset eurosat: train 30 images, 10 classes>"
    with pytest.raises(probe.ProbeError, match="no dataset is called"):
        probe.fetch_dataset("eurosaat", cache_dir=tmp_path)


@pytest.mark.parametrize("spec", DATASETS.values(), ids=lambda spec: spec.name)
def test_every_entry_is_downloaded_or_comes_with_a_package(spec: DatasetSpec) -> None:
    layout = spec.layouts[0]
    assert bool(layout.sources) != bool(spec.package)
    if layout.class_folders:
        assert len(layout.class_folders) == len(spec.classes)
        assert list(layout.class_folders) == sorted(layout.class_folders)
    if spec.figure is not None:
        assert 0.5 < spec.figure.value < 1


def test_every_reader_is_used() -> None:
    assert {spec.layouts[0].format for spec in IMAGE_SETS} == set(READERS)


# archives


def link_in_tar() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as packed:
        member = tarfile.TarInfo("dtd/images")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc"
        packed.addfile(member)
    return data.getvalue()


def link_in_zip() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as packed:
        member = zipfile.ZipInfo("2750/River")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(member, "/etc")
    return data.getvalue()


@pytest.mark.parametrize(
    "archive",
    [
        link_in_tar(), link_in_zip(), packed_zip({"../out.txt": b"x"}),
        packed_zip({"/abs.txt": b"x"}), packed_zip({"a/../../out.txt": b"x"}),
        packed_zip({"C:/out.txt": b"x"}), tar({"../out.txt": b"x"}), tar({"/abs.txt": b"x"}),
        tar({"a\\..\\out.txt": b"x"}),
    ],
    ids=range(9),
)  # fmt: skip
def test_an_archive_that_leads_elsewhere_writes_nothing(archive: bytes, tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(archive)
    (tmp_path / "into").mkdir()
    with pytest.raises(UnsafeFileError, match="nothing was written"):
        unpack(tmp_path / "it", tmp_path / "into")
    assert {path.name for path in tmp_path.iterdir()} == {"it", "into"}
    assert list((tmp_path / "into").iterdir()) == []


def test_an_archive_that_grows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MOST_BYTES", 2**30)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for number in range(3):
            with packed.open(f"{number}", "w", force_zip64=True) as member:
                for _ in range(400):
                    member.write(bytes(2**20))
    (tmp_path / "it").write_bytes(bomb.getvalue())
    (tmp_path / "into").mkdir()
    with pytest.raises(UnsafeFileError, match="more than 1 GiB"):
        unpack(tmp_path / "it", tmp_path / "into")
    monkeypatch.setattr(fetch, "MOST_MEMBERS", 5)
    for many in (tar, packed_zip):
        (tmp_path / "it").write_bytes(many({str(n): b"" for n in range(6)}))
        with pytest.raises(UnsafeFileError, match="5 files"):
            unpack(tmp_path / "it", tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []


def test_a_zip_that_lies_about_its_sizes(tmp_path: Path) -> None:
    data = bytearray(packed_zip({"a.bin": bytes(5000)}))
    for place in (data.index(b"PK\x03\x04") + 22, data.index(b"PK\x01\x02") + 24):
        data[place : place + 4] = (10).to_bytes(4, "little")
    (tmp_path / "it").write_bytes(data)
    (tmp_path / "into").mkdir()
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(tmp_path / "it", tmp_path / "into")


@pytest.mark.parametrize("make", [tar, packed_zip, lambda files: gzip.compress(tar(files, "w"))])
def test_damage_is_one_line(make: Callable[[Files], bytes], tmp_path: Path) -> None:
    whole = make({f"a/{n}.bin": np.random.default_rng(n).bytes(3000) for n in range(5)})
    random = np.random.default_rng(0)
    for number in range(60):
        data = bytearray(whole)
        if number % 2:
            data = data[: int(random.integers(1, len(data)))]
        else:
            for place in random.integers(0, len(data), 6):
                data[place] ^= int(random.integers(1, 256))
        (tmp_path / "it").write_bytes(data)
        into = tmp_path / f"into{number}"
        into.mkdir()
        said = ""
        try:
            unpack(tmp_path / "it", into)
        except (DataError, UnsafeFileError) as error:
            said = str(error)
        assert "\n" not in said


def test_two_at_once_leave_a_whole_set(serve: Serve, tmp_path: Path) -> None:
    files = stand_in("eurosat")
    serve("eurosat", files)
    root = tmp_path / "shared"
    root.mkdir()
    (root / "EuroSAT.zip").write_bytes(files["EuroSAT.zip"])
    code = (
        "import sys, hashlib\n"
        "from pathlib import Path\n"
        "from dataclasses import replace\n"
        "from probe.core.registry import Registry\n"
        "from probe.datasets import DATASETS, load\n"
        "root = Path(sys.argv[1])\n"
        "spec = DATASETS['eurosat']\n"
        "layout = spec.layouts[0]\n"
        "(source,) = layout.sources\n"
        "digest = hashlib.md5((root / source.file).read_bytes()).hexdigest()\n"
        "layout = replace(layout, sources=(replace(source, checksum=f'md5:{digest}'),))\n"
        "load.DATASETS = Registry('dataset', [replace(spec, layouts=(layout,))])\n"
        "print(len(load.load_dataset('eurosat', root=root, cache_dir=root).splits['train']))\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [one.communicate(timeout=60)[0].strip() for one in running] == ["30"] * 3
    assert {"2750", "EuroSAT.zip"} <= {path.name for path in root.iterdir()}
    assert not list(root.glob(".unpack*"))
