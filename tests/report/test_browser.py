"""The page in a real browser: Chromium without a window, one for all tests of this file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from probe.audit.record import Audit, save_audit
from probe.cache.joining import Joined
from probe.cache.store import Store
from probe.datasets.copies import Copies
from probe.report.material import of_entry
from probe.report.page import write_page
from probe.report.pictures import Options, make_pictures
from tests.axe import SCREENS, violations
from tests.report.test_page import build
from tests.report.world import (
    CLASSES,
    SITES,
    make_entry,
    make_images,
    make_several,
    make_world,
)
from tests.several import LABELS, make_list

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-unsafe-swiftshader",
]
READY = "document.documentElement.dataset.ready"
AT = """() => {
  const at = document.activeElement, box = at.getBoundingClientRect();
  const seen = box.width > 0 && box.bottom > 0 && box.top < innerHeight;
  return [at.tagName, getComputedStyle(at).outlineStyle, seen];
}"""
# what a pointer can click and the keyboard cannot; but for the names in a plot's legend
OUT_OF_REACH = """[...document.querySelectorAll("body *")].filter((one) =>
  getComputedStyle(one).cursor === "pointer" && one.getClientRects().length &&
  !one.matches(".legendtoggle") && !one.closest("label, [tabindex], a, button, summary, select")
).map((one) => one.outerHTML.slice(0, 200))"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on the PATH")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("world")
    page, _ = build(make_world(folder), folder / "page #1.html")
    return page.path.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    with opened_page(browser, address) as opened:
        yield opened


@contextmanager
def opened_page(browser: Any, address: str) -> Iterator[Any]:
    """Yield the open page; whatever the browser complained of, or asked the network for, fails."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme="light", reduced_motion="reduce"
    )
    opened = context.new_page()
    complaints: list[str] = []
    requests: list[str] = []
    opened.on(
        "console", lambda said: complaints.append(said.text) if said.type == "error" else None
    )
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(address)
    opened.wait_for_function(READY, timeout=60_000)
    yield opened
    context.close()
    assert complaints == []
    assert [one for one in requests if not one.startswith(("file:", "data:", "blob:"))] == []


def point_at_the_map(page: Any) -> tuple[float, float]:
    """Move the mouse over a point of the map and return where that is."""
    plot = page.locator("#map-plot")
    plot.scroll_into_view_if_needed()
    x, y = page.evaluate(
        """() => {
          const plot = document.getElementById("map-plot"), box = plot.getBoundingClientRect();
          const trace = plot.data.find((one) => one.x.length > 1), l = plot._fullLayout;
          return [box.left + l.xaxis._offset + l.xaxis.d2p(trace.x[0]),
                  box.top + l.yaxis._offset + l.yaxis.d2p(trace.y[0])];
        }"""
    )
    for attempt in range(50):  # a hand does not stop at once either
        page.mouse.move(x + attempt % 2, y)
        page.wait_for_timeout(100)
        if page.locator("#tip").is_visible():
            return x + attempt % 2, y
    raise AssertionError("no point answered")


def test_sorting(page: Any) -> None:
    def names() -> list[str]:
        return page.locator("#leaderboard-table tbody tr td:first-child").all_text_contents()

    assert names() == ["1", "1", "3"]  # two of the runs are equal
    header = page.locator("#leaderboard-table th", has_text="log loss")
    button = header.locator("button")
    button.focus()
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    losses = page.eval_on_selector_all(
        "#leaderboard-table tbody tr", f"(rows) => rows.map((r) => +r.cells[{6}].dataset.value)"
    )
    assert losses == sorted(losses)
    button.click()
    assert header.get_attribute("aria-sort") == "descending"


def test_the_leaderboard_is_whole_on_a_laptop(page: Any) -> None:
    wide, room = page.eval_on_selector(
        "#leaderboard-table", "(table) => [table.scrollWidth, table.parentElement.clientWidth]"
    )
    assert wide <= room


def test_hover_shows_a_picture_and_a_click_its_neighbours(page: Any) -> None:
    at = point_at_the_map(page)
    image = page.eval_on_selector(
        "#tip .thumb", "(one) => getComputedStyle(one).backgroundImage.slice(0, 22)"
    )
    assert image == 'url("data:image/webp;b'
    page.mouse.click(*at, delay=60)
    page.wait_for_selector("#chosen:not([hidden]) #neighbours")
    assert page.locator("#neighbours li").count() == 8
    first = page.locator("#chosen h3").first.text_content()
    page.locator("#neighbours button").first.click()
    assert page.locator("#chosen h3").first.text_content() != first
    page.keyboard.press("Escape")
    assert page.locator("#chosen").is_hidden()


def test_the_keyboard_walks_over_the_map(page: Any) -> None:
    page.locator("#map-plot").focus()
    page.keyboard.press("ArrowRight")
    said = page.locator("#status").text_content()
    page.keyboard.press("ArrowRight")
    assert page.locator("#status").text_content() != said
    page.keyboard.press("Enter")
    assert page.locator("#chosen").is_visible()


def test_colours_and_filters_of_the_map(page: Any) -> None:
    def traces() -> list[str]:
        return page.evaluate("document.getElementById('map-plot').data.map((one) => one.name)")

    assert sum(one is not None for one in traces()) == len(CLASSES)
    page.select_option("#map-by", "split")
    assert {one.split(" (")[0] for one in traces() if one} == {"trained on", "validation", "test"}
    options = page.locator("#map-by option").all_text_contents()
    assert options == ["class", "error of the run", "split", "<b>site", "age"]
    page.select_option("#map-by", label="<b>site")
    shown = [one for one in traces() if one]
    assert [one.split(" (")[1] for one in shown] == ["40)"] * 3  # the first is unknown
    assert shown[0] == "unknown (40)"
    page.select_option("#map-by", label="age")
    ages = [one.split(" (")[0] for one in traces() if one]
    assert ages == ["41.5 to 56.25", "56.25 to 71", "71 to 85.75", "85.75 to 100.5"]
    page.select_option("#map-by", "error")
    assert any(one.startswith("right") for one in traces() if one)
    page.fill("#map-class", CLASSES[3])
    page.keyboard.press("Enter")
    shown = page.evaluate(
        "document.getElementById('map-plot').data.reduce((sum, one) => sum + one.x.length, 0)"
    )
    assert shown == 24


def test_the_theme_is_kept(page: Any) -> None:
    def ground() -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    assert ground() == "rgb(255, 255, 255)"
    page.click("#theme")
    assert ground() == "rgb(21, 24, 28)"
    page.reload()
    page.wait_for_function(READY, timeout=60_000)
    assert ground() == "rgb(21, 24, 28)"
    assert page.get_attribute("#theme", "aria-pressed") == "true"


def test_runs_splits_and_the_images_of_a_confusion(page: Any) -> None:
    page.select_option("#run", "2")
    page.select_option("#split", "1")
    assert "of 60 right" in page.locator("#confusion-list caption").text_content()
    page.locator("#confusion-list button").first.click()
    pictures = page.locator("#cell li").count()
    assert pictures == int(page.locator("#confusion-list tbody td").nth(2).text_content())
    assert page.locator("#worst li").count() > 0


def test_a_link_of_the_table_opens_the_provenance(page: Any) -> None:
    page.locator("#leaderboard-table a").first.click()
    assert page.locator("details[open] code").first.is_visible()


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_scrolls_one_way(browser: Any, address: str, width: int) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 800}, is_mobile=True, has_touch=True
    )
    opened = context.new_page()
    opened.goto(address)
    opened.wait_for_function(READY, timeout=60_000)
    assert opened.evaluate("document.documentElement.scrollWidth") == width
    context.close()


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_axe_finds_nothing(browser: Any, address: str, width: int, scheme: str) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    opened = context.new_page()
    opened.goto(address)
    opened.wait_for_function(READY, timeout=60_000)
    opened.locator("#confusion-list button").first.click()
    opened.locator("#worst [data-item]").first.click()
    opened.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    assert violations(opened) == []
    context.close()


def test_every_stop_of_the_keyboard_is_seen(page: Any) -> None:
    stops = 0
    while True:
        page.keyboard.press("Tab")
        tag, outline, seen = page.evaluate(AT)
        if tag == "BODY":
            break
        stops += 1
        assert (outline, seen) == ("solid", True), page.evaluate("document.activeElement.outerHTML")
    assert stops > 40
    assert page.evaluate(OUT_OF_REACH) == []


def test_paper_has_the_tables_open(page: Any, tmp_path: Path) -> None:
    page.pdf(path=tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").stat().st_size > 50_000
    assert page.locator("#provenance details:not([open])").count() == 0


def test_labels_are_drawn_listed_and_shown(browser: Any, tmp_path: Path) -> None:
    """A page about images that may have several labels: bars, a table, mistakes and a map."""
    page, _ = build(make_several(tmp_path), tmp_path / "several.html")
    with opened_page(browser, page.path.as_uri()) as opened:
        bars = "document.getElementById('labels-plot').data[0].x.length"
        assert opened.evaluate(bars) == len(LABELS)
        rows = opened.locator("#labels-list tbody tr")
        assert sorted(rows.locator("th").all_text_contents()) == list(LABELS)
        opened.locator("#labels-list th button", has_text="threshold").click()
        limits = rows.locator("td:nth-child(4)").all_text_contents()
        assert limits == sorted(limits)
        wrong = opened.locator("#false .gallery li").count()
        assert wrong > 0
        opened.locator("#false [data-item]").first.click()
        opened.locator("#chosen").wait_for()
        assert "labels" in opened.locator("#chosen").inner_text()
        opened.keyboard.press("Escape")
        rows.first.locator("button").click()
        assert "given, and not there" in opened.locator("#cell").inner_text()
        names = "document.getElementById('map-plot').data.map((one) => one.name ?? '')"
        for chosen in ("0", "1"):
            opened.select_option("#map-label", chosen)
            assert any(f"with {LABELS[int(chosen)]}" in one for one in opened.evaluate(names))
        opened.select_option("#map-by", "error")
        assert any("all labels right" in one for one in opened.evaluate(names))
        assert violations(opened) == []


NAMES = "document.getElementById('map-plot').data.map((one) => one.name ?? '')"
COLOURS = "[...document.querySelectorAll('#map-by option')].map((one) => one.textContent)"


def audit_entry(cache: Path, joined: Joined) -> None:
    """Write what an audit says of two copies among images without labels."""
    folder = cache / "runs" / "20260101-000000-001"
    folder.mkdir(parents=True)
    ids = tuple(joined.splits["train"].ids[:2])
    copies = Copies(ids=ids, splits=("train",) * 2, labels=("unlabeled",) * 2)
    audit = Audit(
        entry=joined.entry.name, dataset=joined.entry.dataset, command="probe audit", created="now",
        threshold=0.9, n_train=24, n_test=0, copies=(copies,), every_pair=True,
        undoubted="the images have no labels",
    )  # fmt: skip
    save_audit(folder, audit)


def page_of_entry(browser: Any, cache: Path, out: Path) -> AbstractContextManager[Any]:
    """Open the page about the only entry of a cache folder, which has no runs."""
    material = of_entry(cache, Store(cache).choose(None), "an entry")
    pictures = make_pictures(material, {}, Options(), cache_dir=cache, advance=lambda *_: None)
    page = write_page(out, material, {}, pictures, command="probe report <x>")
    assert page.notes == ()
    return opened_page(browser, page.path.as_uri())


def test_images_without_labels_are_coloured_by_columns(browser: Any, tmp_path: Path) -> None:
    make_images(tmp_path, splits=["train"], classes=["<b>loose"], per_class=24)
    joined = make_entry(tmp_path / "cache", tmp_path / "train" / "<b>loose", columns=True)
    audit_entry(tmp_path / "cache", joined)
    with page_of_entry(browser, tmp_path / "cache", tmp_path / "page.html") as opened:
        assert "As the images have no labels" in opened.locator("p.lead").inner_text()
        headings = opened.locator("h2").all_text_contents()
        assert headings == ["Images", "Feature map", "Audit", "Provenance"]
        assert opened.evaluate(COLOURS) == ["split", "<b>site", "age"]
        assert not opened.locator("#map-class").is_visible()
        opened.select_option("#map-by", label="<b>site")
        assert len([one for one in opened.evaluate(NAMES) if one]) == len(SITES)
        point_at_the_map(opened)
        opened.locator("#map-plot").focus()
        opened.keyboard.press("ArrowRight")
        opened.keyboard.press("Enter")
        said = opened.locator("#chosen").inner_text()
        assert opened.locator("#neighbours li").count() > 0
        assert "<b>site" in said
        assert any(site in said for site in (*filter(None, SITES), "unknown"))
        assert "unlabeled" not in opened.locator("body").inner_text()
        assert "1 exact copy" in opened.locator("dl.key").inner_text()
        assert opened.locator("#audit .thumb:not(.none)").count() == 2
        assert violations(opened) == []


def test_the_page_of_an_entry_without_runs(browser: Any, tmp_path: Path) -> None:
    make_entry(tmp_path / "cache", make_images(tmp_path / "images"))
    with page_of_entry(browser, tmp_path / "cache", tmp_path / "page.html") as opened:
        headings = opened.locator("h2").all_text_contents()
        assert headings == ["Images", "Feature map", "Provenance"]
        rows = opened.locator("#images tbody tr")
        assert sorted(rows.locator("th").all_text_contents()) == sorted(CLASSES)
        assert set(rows.locator("td:nth-child(2)").all_text_contents()) == {"12"}
        assert opened.evaluate(COLOURS) == ["class", "split"]
        assert len([one for one in opened.evaluate(NAMES) if one]) == len(CLASSES)
        opened.select_option("#map-by", "split")
        assert opened.evaluate(NAMES)[:2] == ["train (60)", "test (60)"]


def test_the_page_of_an_entry_of_several_labels_without_runs(browser: Any, tmp_path: Path) -> None:
    make_entry(tmp_path / "cache", make_list(tmp_path / "<b>data"))
    with page_of_entry(browser, tmp_path / "cache", tmp_path / "page.html") as opened:
        rows = opened.locator("#images tbody tr")
        assert sorted(rows.locator("th").all_text_contents()) == list(LABELS)
        opened.select_option("#map-label", "1")
        assert any(f"with {LABELS[1]}" in one for one in opened.evaluate(NAMES))
