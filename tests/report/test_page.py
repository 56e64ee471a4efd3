"""The page: complete, valid, closed to hostile names, and useful where much is missing."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.bench.record import Agreement, Bench, Comparison, Protocol, Score, load_bench, save_bench
from probe.core.records import write_record
from probe.errors import ProbeError, UnknownNameError, UsageError
from probe.report.markup import VOID
from probe.report.material import (
    Material,
    named_runs,
    newest_bench,
    of_bench,
    of_runs,
    on_other_classes,
    read_runs,
    without_repeats,
)
from probe.report.page import Page, read_views, write_page
from probe.report.pairing import compared
from probe.report.pictures import Options, make_pictures
from tests.commands import invoke
from tests.report.world import CLASSES, COMMAND, make_entry, make_images, make_run, make_world


class Parsed(HTMLParser):
    """What a browser's parser sees: elements, ids, addresses, and whether all is closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.elements: Counter[str] = Counter()
        self.handlers: list[str] = []
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        if tag not in VOID | {"link"}:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "action", "data"):
                self.addresses.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        within = self.open[-1] if self.open else ""
        (self.scripts if within in ("script", "style") else self.words).append(data)


def build(cache: Path, out: Path, *names: str, **options: Any) -> tuple[Page, Material]:
    runs = named_runs(names, cache / "runs") if names else read_runs(cache / "runs")
    material = of_runs(cache, runs, "these runs")
    views = read_views(material, lambda *_: None)
    material = compared(material, views)
    pictures = make_pictures(
        material, views, Options(**options), cache_dir=cache, advance=lambda *_: None
    )
    return write_page(out, material, views, pictures, command="probe report <x>"), material


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def text(world: Path) -> str:
    page, _ = build(world, world.parent / "page.html")
    assert page.notes == ()
    return page.path.read_text(encoding="utf-8")


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert found
    parsed: dict[str, Any] = json.loads(found[1])
    return parsed


def test_the_page_is_valid_and_loads_nothing(text: str) -> None:
    parsed = Parsed(text)
    assert parsed.open == []
    assert [one for one, count in Counter(parsed.ids).items() if count > 1] == []
    assert [one for one in parsed.addresses if not one.startswith(("#", "data:"))] == []
    inside = {one[1:] for one in parsed.addresses if one.startswith("#")}
    assert inside <= set(parsed.ids)
    assert "url(http" not in text


def test_hostile_names_stay_text(text: str) -> None:
    parsed = Parsed(text)
    assert parsed.elements["script"] == 4  # theme, data, Plotly, the page's own
    assert parsed.elements["img"] == parsed.elements["i"] == 0
    assert parsed.handlers == []
    data = data_of(text)
    assert tuple(data["classes"]) == tuple(sorted(CLASSES))
    assert any(one.startswith("train/</script>") for one in data["items"]["ids"])
    assert COMMAND in parsed.words


def test_only_the_scripts_of_the_page_may_run(text: str) -> None:
    import base64
    import hashlib

    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    sums = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts]
    assert re.findall(r"sha256-([A-Za-z0-9+/=]+)", policy[1]) == sums
    assert "default-src &#x27;none&#x27;" in policy[1]


def test_ranks_come_from_held_out_rows_alone(world: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(world, cache)
    worst = sorted((cache / "runs").glob("20260101-*"))[-1]
    result = json.loads((worst / "result.json").read_text())
    result["metrics"]["test"]["top1"] = 1.0  # the best on test is the worst on validation
    write_record(worst / "result.json", result)
    _, material = build(cache, tmp_path / "page.html")
    assert [row.rank for row in material.rows] == [1, 1, 3]  # two are equal
    assert material.rows[-1].run == worst.name
    assert material.leader is not None
    assert material.tested is not None
    assert worst.name not in material.tested.tied


def test_figures_are_those_of_the_runs(world: Path, text: str) -> None:
    words = Parsed(text).words
    for run in read_runs(world / "runs"):
        for split in ("val", "test"):
            assert f"{100 * run.result.metrics[split]['top1']:.2f} %" in words
    data = data_of(text)
    first = data["runs"][0]
    split = first["splits"][0]
    pairs = np.frombuffer(_bytes(split["pairs"]), "<u4").reshape(-1, 3)
    assert pairs[:, 2].sum() == split["rows"] == 20
    right = pairs[pairs[:, 0] == pairs[:, 1], 2].sum() / 20
    assert right == pytest.approx(data["costs"][0]["score"])


def _bytes(text: str) -> bytes:
    import base64

    return base64.b64decode(text)


def test_without_images_there_is_a_map_and_a_note(world: Path, tmp_path: Path) -> None:
    images = make_images(tmp_path / "gone", per_class=4)
    cache = tmp_path / "cache"
    make_run(cache, make_entry(cache, images), "20260101-000000-001", right=0.8, held_out=8)
    shutil.rmtree(images)
    page, _ = build(cache, tmp_path / "page.html")
    assert page.points == 40
    assert page.thumbnails == 0
    assert any(note.startswith("No thumbnails: ") for note in page.notes)
    assert Parsed(page.path.read_text()).open == []


def test_an_image_that_changed_has_no_thumbnail(tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", per_class=4)
    cache = tmp_path / "cache"
    make_run(cache, make_entry(cache, images), "20260101-000000-001", right=0.8, held_out=8)
    one, other, *_ = sorted((images / "test" / "plain").iterdir())
    one.write_bytes(other.read_bytes())
    other.unlink()
    page, _ = build(cache, tmp_path / "page.html")
    assert page.thumbnails == 38
    assert any(note.startswith("2 of 40 images have no thumbnail") for note in page.notes)


def test_without_a_test_split_and_with_a_pruned_entry(tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", per_class=4, splits=("train",))
    cache = tmp_path / "cache"
    joined = make_entry(cache, images)
    make_run(cache, joined, "20260101-000000-001", right=0.8, held_out=8)
    page, material = build(cache, tmp_path / "page.html")
    assert page.points == 20
    assert material.test_evaluations == []
    joined.entry.path.unlink()
    page, _ = build(cache, tmp_path / "page.html")
    assert page.points == 0
    assert any("no longer in the cache" in note for note in page.notes)
    assert Parsed(page.path.read_text()).open == []


def test_a_run_that_held_nothing_out_is_not_ranked(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    joined = make_entry(cache, make_images(tmp_path / "images", per_class=4))
    make_run(cache, joined, "20260101-000000-001", right=0.8, held_out=0)
    page, material = build(cache, tmp_path / "page.html")
    assert material.leader is None
    assert "Test figures are not used for ranking" in page.path.read_text()


def test_damaged_predictions_cost_that_run_its_details_only(world: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(world, cache)
    (cache / "runs" / "20260101-000001-001" / "predictions.npz").write_bytes(b"PK")
    page, material = build(cache, tmp_path / "page.html")
    assert len(material.rows) == 3
    assert any("predictions.npz: damaged" in note for note in page.notes)
    assert page.points == 120


def test_a_thousand_classes_stay_small(tmp_path: Path) -> None:
    classes = [f"class {number:04d}" for number in range(1000)]
    images = make_images(tmp_path / "images", per_class=2, splits=("train",), classes=classes)
    cache = tmp_path / "cache"
    make_run(cache, make_entry(cache, images), "20260101-000000-001", right=0.5, held_out=900)
    page, _ = build(cache, tmp_path / "page.html", max_points=300)
    assert page.points == 300
    assert page.size < 6_500_000  # Plotly alone is 4.8
    assert len(data_of(page.path.read_text())["classes"]) == 1000


def test_points_are_shared_between_splits_or_all_of_one(world: Path, tmp_path: Path) -> None:
    page, _ = build(world, tmp_path / "page.html", max_points=30)
    data = data_of(page.path.read_text())
    parts = Counter(_bytes(data["items"]["part"])[:30])
    assert parts == {0: 10, 1: 10, 2: 10}
    page, _ = build(world, tmp_path / "page.html", max_points=1000, splits=("test",))
    assert page.points == 60
    with pytest.raises(UsageError, match="no split is called 'tset'"):
        Options(splits=("tset",))


def test_t_sne_comes_first_and_pca_stays(world: Path, tmp_path: Path) -> None:
    page, _ = build(world, tmp_path / "page.html", max_points=30, method="tsne")
    assert [one["method"] for one in data_of(page.path.read_text())["maps"]] == ["tsne", "pca"]


def test_runs_are_found_by_name_beginning_and_folder(world: Path, tmp_path: Path) -> None:
    runs = world / "runs"
    whole, beginning, folder = (
        named_runs([name], runs)[0].id
        for name in ("20260101-000000-001", "20260101-000000", str(runs / "20260101-000000-001"))
    )
    assert whole == beginning == folder
    with pytest.raises(UnknownNameError, match=r"more than one run in .* starts with 20260101"):
        named_runs(["20260101"], runs)
    with pytest.raises(UnknownNameError, match="x: no such folder, and no such run"):
        named_runs(["x"], runs)
    shutil.copytree(runs / "20260101-000000-001", tmp_path / "runs" / "20270101-000000-001")
    shutil.copytree(runs / "20260101-000000-001", tmp_path / "runs" / "20270101-000000-002")
    assert len(without_repeats(read_runs(tmp_path / "runs"))) == 1


def test_runs_on_other_classes_are_not_on_one_page(
    tmp_path: Path,
) -> None:
    cache = tmp_path / "cache"
    first = make_entry(cache, make_images(tmp_path / "a" / "photos", per_class=12))
    other = make_images(tmp_path / "b" / "photos", per_class=12, classes=("x", "y", "z", "u", "v"))
    second = make_entry(cache, other)
    make_run(cache, first, "20260101-000000-001", right=0.9)
    make_run(cache, first, "20260101-000000-002", right=0.8, seed=1)
    make_run(cache, second, "20260101-000000-003", right=0.7, seed=2)
    runs = read_runs(cache / "runs")
    assert [run.id[-3:] for run in on_other_classes(cache, runs)] == ["001", "002"]
    with pytest.raises(UsageError, match="2 of these 3 runs are on other classes"):
        of_runs(cache, runs, "all")
    assert len(of_runs(cache, runs[:2], "two").rows) == 2
    page = tmp_path / "page.html"
    invoke("report", "--out", page, "--cache-dir", cache)
    said = page.read_text(encoding="utf-8")
    assert "20260101-000000-003" in said
    assert "20260101-000000-001" not in said
    shutil.rmtree(cache / "features")  # classes are known from the recalls then
    assert [run.id[-3:] for run in on_other_classes(cache, runs)] == ["001", "002"]


def test_runs_with_other_labels_for_the_same_rows_are_not_tested(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    joined = make_entry(cache, make_images(tmp_path / "photos"))
    for number, right in enumerate((0.9, 0.5)):
        make_run(cache, joined, f"20260101-000000-00{number}", right=right, seed=number)
    material = of_runs(cache, read_runs(cache / "runs"), "both")
    views = read_views(material, lambda what, count, total: None)
    assert compared(material, views).tested is not None
    (name,) = [row.id for row in material.rows if row.rank == 2]
    view = views[name]["val"]
    turned = dataclasses.replace(view, labels=(view.labels + 1) % len(CLASSES))
    views = {**views, name: {**views[name], "val": turned}}
    assert compared(material, views).tested is None


def make_bench(cache: Path) -> Bench:
    """Keep a bench of the world's runs, one row of which failed and one of another dataset."""
    rows = of_runs(cache, read_runs(cache / "runs"), "").rows
    rows = tuple(dataclasses.replace(row, letters="<b>"[number]) for number, row in enumerate(rows))
    failed = dataclasses.replace(
        rows[0], id="f", status="failed", reason="no <weights>", run=None, metrics={}, intervals={},
        rank=None, letters="",
    )  # fmt: skip
    other = dataclasses.replace(rows[0], id="o", dataset="other")
    score = Score(name="logme", features=rows[0].name, value=0.5, seconds=1.0, n_rows=40)
    agreed = Agreement(score="logme", n=3, kendall=1.0, weighted=1.0, p=0.3, best="x", loss=0.0)
    comparison = Comparison(
        dataset=rows[0].dataset, n_classes=5, images={}, rows=tuple(row.id for row in rows),
        pairs=(), tied=(rows[0].id,), verdict="Take <b>the first</b>.", scores=(score,),
        agreement=(agreed,), winner=rows[0].id,
    )  # fmt: skip
    protocol = Protocol(heads=("ridge",), split="val", val_size=0.3, folds=0, repeats=1, seed=42)
    bench = Bench(
        id="20260103-000000-001", command="probe bench", created="2026", seconds=1.0,
        protocol=protocol, rows=(failed, *rows, other), comparisons=(comparison,), versions={},
    )  # fmt: skip
    save_bench(cache / "benches" / bench.id, bench)
    return bench


def test_a_bench_has_its_verdict_its_groups_and_its_failures(world: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(world, cache)
    bench = make_bench(cache)
    folder = newest_bench(cache / "benches")
    assert folder is not None
    material = of_bench(cache, load_bench(folder), None, "the newest bench")
    views = read_views(material, lambda *_: None)
    assert compared(material, views) is material  # a bench has its own tests
    assert [row.rank for row in material.rows] == [1, 1, 3, None]
    pictures = make_pictures(material, views, Options(), cache_dir=cache, advance=lambda *_: None)
    page = write_page(tmp_path / "page.html", material, views, pictures, command="probe report")
    parsed = Parsed(page.path.read_text(encoding="utf-8"))
    assert parsed.open == []
    (tmp_path / "file").touch()
    with pytest.raises(
        ProbeError, match=r"^[^()]*page: cannot be written \(File exists\); [^()]*$"
    ):
        write_page(tmp_path / "file/page", material, views, pictures, command="probe report")
    for words in ("Take <b>the first</b>.", "no <weights>", "LogME", f"Bench {bench.id}"):
        assert words in parsed.words
    assert any("The bench also used other: see --dataset" in note for note in page.notes)
    with pytest.raises(UnknownNameError, match="not toy"):
        of_bench(cache, bench, "toy", "")


def test_where_rows_tie_every_part_of_the_page_speaks_of_the_one_that_the_verdict_names(
    world: Path, tmp_path: Path
) -> None:
    """Of equals the bench takes the cheapest, whatever row comes first in its file."""
    cache = tmp_path / "cache"
    shutil.copytree(world, cache)
    bench = make_bench(cache)
    (own,) = bench.comparisons
    first, second, third = own.rows
    ranks = {first: 1, second: 1, third: 3}
    rows = [dataclasses.replace(row, rank=ranks.get(row.id)) for row in bench.rows]
    told = dataclasses.replace(own, winner=second, rows=(second, first, third))
    tied = dataclasses.replace(bench, rows=tuple(rows), comparisons=(told,))
    material = of_bench(cache, tied, None, "the newest bench")
    assert material.leader is not None
    assert material.leader.id == second
    assert [row.id for row in material.rows if row.rank is not None] == [second, first, third]
    assert [row.rank for row in material.rows][:3] == [1, 1, 3]


def test_equal_runs_share_a_rank_and_a_chosen_epoch_is_said(world: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(world, cache)
    runs = sorted((cache / "runs").glob("20260101-*"))
    results = [json.loads((run / "result.json").read_text()) for run in runs]
    results[1]["metrics"]["val"]["top1"] = results[0]["metrics"]["val"]["top1"]
    results[1]["params"]["best_epoch"] = 3
    for run, result in zip(runs, results, strict=True):
        write_record(run / "result.json", result)
    page, material = build(cache, tmp_path / "page.html")
    ranks = {row.run: row.rank for row in material.rows}
    assert ranks[runs[0].name] == ranks[runs[1].name]
    assert sorted(ranks.values()) in ([1, 1, 3], [1, 2, 2])
    label = material.labels[runs[1].name]
    words = Parsed(page.path.read_text(encoding="utf-8")).words
    told = f"the best epoch of {label} was chosen on the same images"
    assert any(told in word for word in words)
