"""Commands with URLs as datasets: what they record, what they fetch, and that no secret stays."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from probe.cache.store import Store
from probe.core.urls import hide, is_url, public, text_of, typed_command
from probe.datasets.mirror import mirror
from probe.screen import console
from tests.cli.command import probe
from tests.datasets.web import Web, serving

NET = "--backbone squeezenet1_1 --weights random:0 --size 32"


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(mirror, "PAUSES", (0.01, 0.01, 0.01, 0.01))
    with serving(Web()) as running:
        yield running


def jpegs_asked(web: Web) -> list[tuple[str, int]]:
    return [(path, status) for path, status, _ in web.asked if path.endswith(".jpg")]


def test_an_entry_of_a_url_and_what_is_done_with_it(
    web: Web,
    cifar_jpegs: dict[str, bytes],
    tmp_path: Path,
) -> None:
    web.login = "ann:s3cret"
    web.files |= {f"photos/{name}": data for name, data in cifar_jpegs.items()}
    given = web.url.replace("://", "://ann:s3cret@") + "/photos/"
    found = probe(f"extract {NET} --json --dataset", given, cwd=tmp_path)
    assert json.loads(found.stdout)["forwarded"] == 30
    (entry,) = Store(tmp_path / "my cache").entries()
    about = entry.provenance
    assert about["root"] == f"{web.url}/photos"
    assert about["request"]["dataset"] == f"{web.url}/photos/"
    assert about["command"].endswith(f"--dataset {web.url}/photos/")
    web.forget()
    again = probe(f"extract {NET} --json --dataset", given, cwd=tmp_path)
    assert json.loads(again.stdout)["forwarded"] == 0
    assert {status for _, status in jpegs_asked(web)} == {304}

    refused = probe("cache sync", cwd=tmp_path, code=2)  # the password is not remembered
    assert "HTTP 401" in refused.stderr
    web.files["photos/cat/new.jpg"] = cifar_jpegs["cat/0000.jpg"] + b" "
    synced = probe("cache sync --json --dataset-root", given, cwd=tmp_path)
    assert (json.loads(synced.stdout)["new"], json.loads(synced.stdout)["kept"]) == (1, 30)
    web.login = ""
    assert "HTTP" not in probe("cache sync", cwd=tmp_path).stderr
    shown = probe("dataset show --read files --json", f"{web.url}/photos/", cwd=tmp_path)
    assert json.loads(shown.stdout)["root"] == f"{web.url}/photos"
    probe("dataset show", f"{web.url}/none/", cwd=tmp_path, code=2)

    every = [path for path in tmp_path.rglob("*") if path.is_file()]
    said = found.stderr + again.stderr + refused.stderr + synced.stdout + synced.stderr
    assert "s3cret" not in said
    assert not [path for path in every if b"s3cret" in path.read_bytes()]


def test_an_error_says_no_secret(web: Web, tmp_path: Path) -> None:
    for command in (f"extract {NET} --dataset", "dataset show", "dataset split --val 0.5"):
        done = probe(command, f"{web.url}/x.tar?X-Amz-Signature=s3cret", cwd=tmp_path, code=2)
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"probe: {web.url}/x.tar: there is no such file (HTTP 404")
    done = probe("dataset show", "http://a:s3cret@host/x/../../../..%2f..", cwd=tmp_path, code=2)
    assert "s3cret" not in done.stderr


def test_a_list_called_by_url_with_a_split_that_is_stored(
    web: Web,
    cifar_jpegs: dict[str, bytes],
    tmp_path: Path,
) -> None:
    web.files |= cifar_jpegs
    lines = "".join(f"{one},{one[:3]}\n" for one in cifar_jpegs)
    web.files["list.csv"] = f"path,label\n{lines}".encode()
    url = f"{web.url}/list.csv?sig=s3cret"
    probe("dataset split --val 0.3 --test 0 --export split.csv", url, cwd=tmp_path)
    (stored,) = (tmp_path / "my cache" / "splits").iterdir()
    assert "s3cret" not in stored.read_text()
    shown = json.loads(probe("dataset show --read names --json", url, cwd=tmp_path).stdout)
    assert {*shown["counts"]} == {"train", "val"}
    exported = (tmp_path / "split.csv").read_text()
    assert f"{web.url}/cat/0000.jpg,cat," in exported
    assert "list.csv" not in exported


def test_lists_of_mxnet_are_made_and_packed_from_a_url(
    web: Web,
    cifar_jpegs: dict[str, bytes],
    tmp_path: Path,
) -> None:
    web.files |= {f"photos/{name}": data for name, data in cifar_jpegs.items()}
    made = probe("dataset index", f"{web.url}/photos/", cwd=tmp_path).stdout
    (packing,) = [line.split("probe ", 1)[1] for line in made.splitlines() if "pack" in line]
    probe(packing.replace("'", "").split(" --dataset-root")[0], "--dataset-root",
          next((tmp_path / "my cache" / "remote").rglob("photos")), cwd=tmp_path)  # fmt: skip
    assert (tmp_path / "photos.rec").stat().st_size > sum(map(len, cifar_jpegs.values()))


def test_a_read_only_cache_is_read(
    web: Web,
    cifar_jpegs: dict[str, bytes],
    tmp_path: Path,
) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    web.files |= {f"photos/{name}": data for name, data in cifar_jpegs.items()}
    probe("dataset show", f"{web.url}/photos/", cwd=tmp_path)
    places = [tmp_path / "my cache", *(tmp_path / "my cache").rglob("*")]
    for place in places:
        place.chmod(0o555 if place.is_dir() else 0o444)
    try:
        probe("dataset show", f"{web.url}/photos/", cwd=tmp_path)
        web.files["photos/cat/0000.jpg"] += b" "
        done = probe("dataset show", f"{web.url}/photos/", cwd=tmp_path, code=2)
        assert "cannot be written" in done.stderr
    finally:
        for place in places:
            place.chmod(0o755)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("https://u:p@h.org:8/a%20b/c.csv?x=1&sig=2#f", "https://h.org:8/a%20b/c.csv"),
        ("https://token@h/a", "https://h/a"),
        ("s3://bucket/a?b#c", "s3://bucket/a?b#c"),
        ("sftp://user:pw@h/a", "sftp://user@h/a"),
        ("abfs://box@account.dfs.core.windows.net/a", "abfs://box@account.dfs.core.windows.net/a"),
        ("memory:///a", "memory:///a"),
        ("a/b?c", "a/b?c"),
    ],
)
def test_what_is_public_of_a_url(given: str, shown: str) -> None:
    assert public(given) == shown
    assert is_url(given) == ("://" in given)


def test_the_bar_of_a_pattern_is_drawn() -> None:
    bar = console.download_bar("data-{000..002}.tar [x]")
    with contextlib.closing(bar):
        assert "data-{000..002}.tar [x]" in str(list(Console().render(bar._bar.get_renderable())))


def test_texts_and_commands_with_urls() -> None:
    assert hide("see https://u:p@h/x?y, 's3://k:s@b/c'") == "see https://h/x 's3://k@b/c'"
    command = typed_command(["extract", "--dataset=https://u:p@h/a b?c='1'", "-v", "x y"])
    assert command == "probe extract '--dataset=https://h/a b' -v 'x y'"
    assert text_of(Path("https://h/a")) == "https://h/a"
    assert text_of("file:///a%20b") == "/a b"
    assert text_of(Path("/a/https:/b")) == "/a/https:/b"


def test_nothing_of_this_is_logged(web: Web, tmp_path: Path) -> None:
    web.files["x.csv"] = b"path,label\na.jpg,x\n"
    web.faults["x.csv"] = ["500", "half"]
    done = probe("dataset show -v --read names", f"{web.url}/x.csv?sig=s3cret", cwd=tmp_path)
    assert "trying again" in done.stderr
    assert "s3cret" not in done.stderr + done.stdout
