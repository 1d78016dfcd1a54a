"""Nothing scripted: `bird view` on a brain, its own server with the shipped model, a real client.

The browser's part is played over trame's own websocket; test_view_browser.py has a browser.
"""

import asyncio
import re
import signal
import time
from urllib.request import urlopen

import psutil
import pytest

from page_client import PageClient
from view_process import ViewProcess

pytestmark = pytest.mark.slow
START_SECONDS = 60


@pytest.fixture(scope="module")
def a_view(mni152_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("view")
    view = ViewProcess(mni152_file, "--studies", folder / "studies", log=folder / "log.txt")
    yield view
    if view.process.poll() is None:
        view.stop()


def own_server(view):
    """The process of the server that `bird view` starts; waits until there is one."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        for child in psutil.Process(view.process.pid).children(recursive=True):
            if "bird_server" in " ".join(child.cmdline()):
                return child
        time.sleep(0.05)
    raise TimeoutError(view.said())


async def asked_and_accepted(view):
    page = await PageClient().open(view.address, view.key)
    try:
        await page.until(lambda it: it.shows("connected") and not it.shows("busy"), "connected")
        await page.resize("Red", 300, 300)
        await page.type(labels="left thalamus\nright thalamus\nleft lung", reviewer="Dr A")
        await page.press("ground")
        await page.until(lambda it: it.shows("lines") and not it.shows("busy"), "answered")
        lines = {line["cells"][0]: line for line in page.shows("lines")}
        await page.press("select", lines["left thalamus"]["key"])
        await page.press("accept")
        await page.until(lambda it: it.shows("tally").startswith("1 of"), "decided")
        await page.until(lambda it: "not sent" not in it.shows("tally"), "stored")
        return lines, page.shows("kept"), page.frames, await page.press("report")
    finally:
        await page.close()


def test_the_page_is_served_to_who_has_its_address(a_view):
    with urlopen(a_view.url, timeout=30) as answer:
        assert answer.status == 200
        assert "<html" in answer.read().decode().lower()


def test_a_query_is_answered_reviewed_and_reported(a_view):
    lines, kept, frames, report = asyncio.run(asked_and_accepted(a_view))
    assert lines["left lung"]["cells"][1] == "absent"
    assert re.fullmatch(r"\d+-\d+", lines["left thalamus"]["cells"][3])
    assert kept == 1
    assert frames["Red"] > 0
    assert "left thalamus" in report
    assert "Dr A" in report


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT], ids=lambda by: by.name)
def test_its_server_ends_with_it(a_scan, tmp_path, by):
    view = ViewProcess(a_scan, "--studies", tmp_path / "studies", log=tmp_path / "log.txt")
    server = own_server(view)
    assert view.stop(by) == 0, view.said()
    assert not server.is_running()
    assert "Traceback" not in view.said()
