"""The page in a browser without a window: no error, no request, every image, at two widths."""

import os
import shutil

import pytest

from nplp.report.page import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def browser():
    # As root, in a container, chromium has no sandbox.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=BROWSER, args=options)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def page_path(finished_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "run"
    shutil.copytree(finished_run, folder, ignore=shutil.ignore_patterns("*.pth"))
    return write_report(folder)


@pytest.fixture(params=[(390, "light"), (390, "dark"), (1440, "light"), (1440, "dark")], ids=str)
def opened(browser, page_path, request):
    """The page, opened from disk, what its console said, and what it asked the network for."""
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda each: asked.append(each.url) if not each.url.startswith("data:") else None)
    page.goto(page_path.as_uri())
    yield page, said, asked
    context.close()


def test_it_opens_without_an_error_and_without_a_request(opened, page_path):
    page, said, asked = opened
    page.wait_for_load_state("networkidle")
    assert said == []
    assert asked == [page_path.as_uri()]


def test_every_image_loads(opened):
    page, _, _ = opened
    page.wait_for_function("[...document.images].every(image => image.complete)")
    assert page.evaluate("document.images.length") > 50
    assert page.evaluate("[...document.images].filter(image => !image.naturalWidth).length") == 0


def test_nothing_sticks_out(opened):
    page, _, _ = opened
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    wider = (
        "[...document.querySelectorAll('.card')].filter(card => card.scrollWidth > card.clientWidth).length"
    )
    assert page.evaluate(wider) == 0


def test_text_stands_out_from_its_ground(opened):
    page, _, _ = opened
    contrast = page.evaluate(
        """() => {
          const light = text => {
            const part = text.match(/[0-9.]+/g).slice(0, 3).map(v => v / 255)
              .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
          };
          const ground = light(getComputedStyle(document.body).backgroundColor);
          return ['body', '.soft', 'nav a'].map(name => {
            const ink = light(getComputedStyle(document.querySelector(name)).color);
            return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
          });
        }"""
    )
    assert min(contrast) >= 4.5


def test_an_image_of_the_map_is_shown_by_mouse_and_by_keyboard(opened):
    page, said, _ = opened
    peek = page.locator("#peek")
    assert not peek.is_visible()
    page.locator("svg.map .dot").first.dispatch_event("mouseover", {"bubbles": True})
    assert peek.is_visible()
    assert "person" in peek.inner_text()
    page.locator("svg.map").first.focus()
    page.keyboard.press("Escape")
    assert not peek.is_visible()
    page.keyboard.press("ArrowRight")
    first = peek.inner_text()
    page.keyboard.press("ArrowRight")
    assert peek.is_visible()
    assert page.locator(".dot.on").count() == 3
    page.keyboard.press("ArrowLeft")
    assert peek.inner_text() == first
    assert said == []


def test_the_keyboard_reaches_everything(opened):
    page, _, _ = opened
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    kinds = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        kinds.add(page.evaluate("document.activeElement.tagName.toLowerCase()"))
    assert {"a", "summary", "svg"} <= kinds


def test_it_is_whole_without_scripts(browser, page_path):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_path.as_uri())
    assert page.locator("section").count() == 8
    assert page.locator("svg.map circle").count() > 100
    context.close()
