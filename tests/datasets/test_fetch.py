"""Downloads of named datasets, over loopback: whole, resumed, damaged, refused."""

from __future__ import annotations

import gzip
import io
import re
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from probe.core import download
from probe.core.registry import Registry
from probe.datasets import DATASETS, Dataset, load, load_dataset
from probe.datasets.named.fetch import unpack
from probe.errors import DataError, MissingFilesError, UnsafeFileError
from tests.datasets.serving import Files, Handler, served
from tests.datasets.test_idx import LABELS, PIXELS, idx


def idx_files() -> Files:
    names = [source.file for source in DATASETS["mnist"].layouts[0].sources]
    return {name: gzip.compress(idx(PIXELS if "images" in name else LABELS)) for name in names}


@pytest.fixture
def cifar_files(cifar10: Path, tmp_path: Path) -> Files:
    path = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(cifar10 / "cifar-10-batches-bin", "cifar-10-batches-bin")
    return {path.name: path.read_bytes()}


Try = Callable[..., Dataset]


@pytest.fixture
def attempt(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Try:
    """Load a dataset whose files lie on the loopback server, at the given kinds of hosts."""

    def run(
        name: str,
        files: Files,
        *kinds: str,
        root: Path | None = None,
        progress: download.Progress | None = None,
    ) -> Dataset:
        Handler.files.update(files)
        spec = served(DATASETS[name], files, *(f"{server}/{kind}" for kind in kinds))
        monkeypatch.setattr(load, "DATASETS", Registry("dataset", [spec]))
        return load_dataset(name, root=root, cache_dir=tmp_path / "cache", progress=progress)

    return run


def leftovers(folder: Path) -> list[str]:
    return (
        sorted(path.name for path in folder.rglob("*") if path.is_file()) if folder.exists() else []
    )


def test_missing_idx_files_are_downloaded_once(attempt: Try, tmp_path: Path) -> None:
    files = idx_files()
    assert len(attempt("mnist", files, "good").splits["test"]) == 7
    assert leftovers(tmp_path / "cache" / "datasets") == sorted(files)
    assert len(Handler.asked) == 4
    attempt("mnist", files, "good")
    assert len(Handler.asked) == 4


def test_only_what_is_missing_is_downloaded(attempt: Try, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "train-images-idx3-ubyte").write_bytes(idx(PIXELS))
    attempt("mnist", idx_files(), "good", root=tmp_path / "r")
    assert "train-images-idx3-ubyte.gz" not in Handler.asked
    assert len(Handler.asked) == 3


def test_an_archive_is_unpacked_and_removed(
    attempt: Try, cifar_files: Files, tmp_path: Path
) -> None:
    dataset = attempt("cifar10", cifar_files, "good")
    assert len(dataset.splits["train"]) == 20
    assert dataset.root == tmp_path / "cache" / "datasets" / "cifar10" / "cifar-10-batches-bin"
    assert len(leftovers(tmp_path / "cache" / "datasets")) == 7
    attempt("cifar10", cifar_files, "good")
    assert Handler.asked == ["cifar-10-binary.tar.gz"]


def test_a_lost_batch_is_filled_in_and_the_others_stay(
    attempt: Try, cifar_files: Files, cifar10: Path
) -> None:
    folder = cifar10 / "cifar-10-batches-bin"
    (folder / "data_batch_2.bin").unlink()
    other = bytes((3, *range(256))) * 2 + bytes(3073 - 514)
    (folder / "data_batch_1.bin").write_bytes(other)
    assert len(attempt("cifar10", cifar_files, "good", root=folder).splits["train"]) == 17
    assert (folder / "data_batch_1.bin").read_bytes() == other


def test_the_second_host_helps_out(attempt: Try) -> None:
    assert len(attempt("mnist", idx_files(), "gone", "good").splits["train"]) == 7


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("gone", "HTTP 404"),
        ("wrong", "has another checksum than md5:"),
        ("stalled", "cannot be read"),
        ("closed", "cannot be read"),
    ],
)
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_failed_download_says_what_to_do_and_leaves_nothing(
    attempt: Try, cifar_files: Files, tmp_path: Path, *, name: str, kind: str, reason: str
) -> None:
    files = cifar_files if name == "cifar10" else idx_files()
    folder = tmp_path / "cache" / "datasets" / name
    with pytest.raises(MissingFilesError, match=reason) as caught:
        attempt(name, files, kind)
    file = "cifar-10-binary.tar.gz" if name == "cifar10" else "train-images-idx3-ubyte.gz"
    assert f"put {file} from http://127.0.0.1" in str(caught.value)
    assert f"into {folder}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert leftovers(folder) == []
    attempt(name, files, "good")


def test_an_archive_fetched_by_hand_needs_no_network(
    attempt: Try, cifar_files: Files, tmp_path: Path
) -> None:
    root = tmp_path / "by-hand"
    root.mkdir()
    (root / "cifar-10-binary.tar.gz").write_bytes(cifar_files["cifar-10-binary.tar.gz"])
    assert len(attempt("cifar10", cifar_files, "good", root=root).splits["test"]) == 4
    assert Handler.asked == []
    assert (root / "cifar-10-binary.tar.gz").exists()


def test_an_archive_that_is_not_the_official_one(
    attempt: Try, cifar_files: Files, tmp_path: Path
) -> None:
    root = tmp_path / "by-hand"
    root.mkdir()
    (root / "cifar-10-binary.tar.gz").write_bytes(b"half")
    with pytest.raises(DataError, match=r"tar\.gz: is not the official file \(md5 "):
        attempt("cifar10", cifar_files, "good", root=root)
    assert leftovers(root) == ["cifar-10-binary.tar.gz"]


def test_no_network_where_the_files_are(cifar10: Path, tmp_path: Path, no_network: None) -> None:
    dataset = load_dataset("cifar10", root=cifar10, cache_dir=tmp_path / "c")
    assert dataset.splits["train"].images.content().shape == (20, 16)


def test_no_network_where_it_is_not_wanted(tmp_path: Path, no_network: None) -> None:
    with pytest.raises(MissingFilesError, match=r"off; put cifar-100-binary\.tar\.gz from http"):
        load_dataset("cifar100", root=tmp_path / "x", cache_dir=tmp_path, download=False)
    assert not (tmp_path / "x").exists()


def test_nothing_is_drawn_unless_asked_for(
    attempt: Try, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    attempt("mnist", idx_files(), "good")
    assert capsys.readouterr() == ("", "")


def test_the_bar_of_a_terminal(
    attempt: Try, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from probe.screen.console import download_bar

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    dataset = attempt("mnist", idx_files(), "good", progress=download_bar)
    out, err = capsys.readouterr()
    assert out == ""
    assert "train-images-idx3-ubyte.gz" in err
    np.testing.assert_array_equal(dataset.splits["train"].labels, LABELS)


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o6777
    return info


def test_files_and_folders_are_written(tmp_path: Path) -> None:
    tar = archive(
        tmp_path / "a.tgz", (member("d", tarfile.DIRTYPE), b""), (member("d/e/f"), b"hello")
    )
    unpack(tar, tmp_path / "out")
    assert (tmp_path / "out" / "d" / "e" / "f").read_bytes() == b"hello"
    assert (tmp_path / "out" / "d" / "e" / "f").stat().st_mode & 0o7111 == 0


HOSTILE = {
    "above": member("../evil"),
    "hidden above": member("d/../../evil"),
    "absolute": member("/tmp/datasets-evil"),
    "backslash": member("..\\evil"),
    "symbolic link": member("link", tarfile.SYMTYPE, "/etc"),
    "hard link": member("link", tarfile.LNKTYPE, "../evil"),
    "pipe": member("pipe", tarfile.FIFOTYPE),
    "device": member("zero", tarfile.CHRTYPE),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_is_written_outside_or_at_all(tmp_path: Path, name: str) -> None:
    tar = archive(tmp_path / "a.tgz", (member("good"), b"x"), (HOSTILE[name], b""))
    into = tmp_path / "deep" / "out"
    into.mkdir(parents=True)
    with pytest.raises(UnsafeFileError, match=r"a\.tgz: the member .* nothing was written"):
        unpack(tar, into)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tgz", "deep", "out"]


@pytest.mark.parametrize("end", [0, 10, 100, -30])
def test_a_cut_archive(tmp_path: Path, end: int) -> None:
    tar = archive(tmp_path / "a.tgz", (member("f"), bytes(range(256)) * 50))
    tar.write_bytes(tar.read_bytes()[:end])
    with pytest.raises(DataError, match=r"a\.tgz: cannot be unpacked"):
        unpack(tar, tmp_path / "out")


def test_the_same_name_twice(tmp_path: Path) -> None:
    tar = archive(tmp_path / "a.tgz", (member("f"), b"1"), (member("f"), b"2"))
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(tar, tmp_path / "out")


def test_a_download_that_broke_off_goes_on_where_it_stopped(attempt: Try, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (1000, 28, 28), dtype=np.uint8)  # more than a block
    files = {
        name: gzip.compress(
            idx(pixels if "images" in name else rng.integers(0, 10, 1000, np.uint8))
        )
        for name in idx_files()
    }
    with pytest.raises(MissingFilesError, match="cannot be read"):
        attempt("mnist", files, "closed")
    (part,) = (tmp_path / "cache" / "datasets").rglob("*.part")
    assert part.name == ".train-images-idx3-ubyte.gz.part"
    stopped = part.stat().st_size
    assert stopped > 0
    assert len(attempt("mnist", files, "good").splits["test"]) == 1000
    assert Handler.ranges[-4:] == [f"bytes={stopped}-", None, None, None]
    assert not list((tmp_path / "cache").rglob("*.part"))


@pytest.mark.parametrize("name", list(DATASETS))
def test_https_comes_first_and_every_source_has_a_digest(name: str) -> None:
    for layout in DATASETS[name].layouts:
        for source in layout.sources:
            assert re.fullmatch("md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", source.checksum)
            assert list(source.urls) == sorted(source.urls, key=lambda url: url.startswith("http:"))
