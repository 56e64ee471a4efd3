"""Where a bundle is written: two writers, links, full disks."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from probe.bundle import ABOUT, Bundle, write_bundle
from probe.bundle.files import writing
from probe.bundle.network import WEIGHTS
from probe.errors import BundleError, CacheError
from probe.export import export_mxnet, export_sklearn
from tests.cache.test_kill import mount


@pytest.mark.parametrize("name", ["b", "b.probe"])
def test_of_two_that_finish_at_once_one_wins_and_the_other_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    out = tmp_path / name
    with writing(out) as folder:
        (folder / ABOUT).write_text("first")
    before = sorted(path.stat().st_ino for path in [out, *out.glob("*")])
    monkeypatch.setattr("probe.bundle.files.require_free", lambda _: None)  # looked just before
    with pytest.raises(BundleError, match="is there already"), writing(out) as folder:
        (folder / ABOUT).write_text("second")
    assert sorted(path.stat().st_ino for path in [out, *out.glob("*")]) == before
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("name", ["b", "b.probe"])
def test_a_working_folder_that_another_process_takes_for_a_leftover_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made: list[str] = []

    def mkdtemp(**options: object) -> str:
        made.append(real(**options))  # type: ignore[call-overload]
        if len(made) == 1:
            shutil.rmtree(made[0])
        return made[-1]

    real = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    with writing(tmp_path / name) as folder:
        (folder / ABOUT).write_text("{}")
    assert len(made) == 2
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["b", "b.probe"])
def test_a_link_to_nowhere_is_somebodys(tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    out.symlink_to(tmp_path / "gone")
    with pytest.raises(BundleError, match="is there already"), writing(out):
        pass
    assert out.is_symlink()


def test_what_cannot_be_written_is_one_line(tmp_path: Path, digits_bundle: Path) -> None:
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "b"
    with pytest.raises(BundleError, match=r"cannot be written \("), writing(below):
        pass
    disk, bundle = tmp_path / "disk", Bundle.load(digits_bundle)
    about, heads, weights = bundle.about, bundle.heads, {WEIGHTS: bundle.parameters()}
    mount(disk, 1 << 20)  # weights take more
    try:
        for name in ("b", "b.probe"):
            with pytest.raises(BundleError, match=r"No space left on device.*make room") as caught:
                write_bundle(disk / name, about, weights, heads)
            assert "\n" not in str(caught.value)
        for export, name in ((export_mxnet, "a"), (export_sklearn, "a.pkl")):
            (disk / "full").write_bytes(bytes(1 << 20) if export is export_sklearn else b"")
            with pytest.raises(CacheError, match=r"No space left on device.*make room"):
                export(bundle, disk / name)
            (disk / "full").unlink()
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_no_room_for_temporary_files_is_one_line(
    tmp_path: Path, digits_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(BundleError, match=r"gone: cannot be written \(No such file.*TMPDIR"):
        Bundle.load(digits_bundle)
