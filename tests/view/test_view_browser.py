"""A real browser: a query typed, boxes drawn, a box drawn with the mouse and named.

Needs Playwright and a Chromium (its own, or the program that BIRD_CHROMIUM names);
`BIRD_PICTURES=docs pytest -k view_browser` also writes the pictures of the documentation.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from bird_view.BiRDLib.colors import label_color
from PIL import Image

from view_process import ViewProcess

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
pytestmark = pytest.mark.slow
MINUTES_MS = 180_000


@pytest.fixture(scope="module")
def a_browser():
    program = os.environ.get("BIRD_CHROMIUM")
    with playwright.sync_playwright() as player:
        if not Path(program or player.chromium.executable_path).is_file():
            pytest.skip("needs Chromium: playwright install chromium, or BIRD_CHROMIUM")
        browser = player.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def a_view(mni152_file, tmp_path):
    view = ViewProcess(mni152_file, "--studies", tmp_path / "studies", log=tmp_path / "log.txt")
    yield view
    view.stop()


@pytest.fixture
def a_page(a_browser, a_view):
    page = a_browser.new_page(viewport={"width": 1400, "height": 860})
    page.set_default_timeout(MINUTES_MS)
    page.outside, page.errors = [], []
    page.on("request", lambda request: page.outside.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(a_view.url)
    yield page
    page.close()


def view_pixels(page, number):
    """(the place of a view on the page, its pixels (height, width, 3)); 0 is the axial one."""
    box = page.locator(".layout-grid-item").nth(number).bounding_box()
    shot = page.screenshot(clip=box)
    path = Path(os.environ.get("TMPDIR", "/tmp"), f"view-{os.getpid()}.png")
    path.write_bytes(shot)
    try:
        return box, np.asarray(Image.open(path).convert("RGB"))
    finally:
        path.unlink()


def colored(pixels, label):
    """How many pixels have about the colour of a label."""
    distance = np.abs(pixels.astype(int) - np.round(255 * np.array(label_color(label))))
    return int((distance.max(axis=2) <= 40).sum())


def test_a_query_typed_in_a_browser_becomes_boxes_and_a_drawn_box_a_name(a_page, tmp_path):
    pictures = Path(os.environ.get("BIRD_PICTURES", tmp_path))
    a_page.get_by_text("bird-mini on cpu").wait_for()
    _, before = view_pixels(a_page, 0)
    assert before.max() > 100, "no scan in the view"
    assert colored(before, "right thalamus") == 0

    names = a_page.get_by_label("One name per line").first
    names.fill("left thalamus\nright thalamus\nbrain stem\nleft lung")
    names.press("Control+Enter")
    a_page.get_by_text("Not found: left lung").wait_for()
    a_page.get_by_role("cell", name="right thalamus").last.click()
    a_page.wait_for_timeout(1500)
    place, after = view_pixels(a_page, 0)
    assert colored(after, "right thalamus") > 100

    a_page.get_by_role("button", name="Accept").click()
    a_page.get_by_text("1 of", exact=False).first.wait_for()
    a_page.get_by_role("button", name="Draw a box").click()
    middle_x, middle_y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    a_page.mouse.click(middle_x + 8, middle_y - 25)
    a_page.mouse.move(middle_x + 30, middle_y)
    a_page.mouse.click(middle_x + 48, middle_y + 20)
    a_page.get_by_role("button", name="What is this?").click()
    a_page.get_by_text("axial slice", exact=False).first.wait_for()
    a_page.wait_for_timeout(1500)
    a_page.screenshot(path=pictures / "view.png")

    assert all("//127.0.0.1:" in url or url.startswith("data:") for url in a_page.outside)
    assert a_page.errors == []
