"""Fixtures: a page on a scan, a browser's connection to it, servers by script and with a store."""

import asyncio
import importlib.util
import itertools
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "extension"))  # its servers and voxel grids

if importlib.util.find_spec("trame_slicer") is None:  # the extra `view` is not installed
    collect_ignore = [
        "test_view_browser.py",
        "test_view_page.py",
        "test_view_process.py",
        "test_view_review.py",
        "test_view_scan.py",
    ]
else:
    from vtkmodules.vtkCommonCore import vtkObject

    vtkObject.GlobalWarningDisplayOff()  # a machine without a screen: VTK says so for each view

_names = itertools.count()


@pytest.fixture(scope="session")
def a_scan(tmp_path_factory):
    """A file of 60 x 50 x 12 voxels that are all different, in LPS-like axes, 2 x 2 x 5 mm."""
    from grounding_json import IJK_TO_RAS, SHAPE_IJK

    array = np.arange(np.prod(SHAPE_IJK), dtype=np.int32).reshape(SHAPE_IJK)
    path = tmp_path_factory.mktemp("scan") / "abdomen.nii.gz"
    nibabel.save(nibabel.Nifti1Image(array, IJK_TO_RAS), path)
    return path


@pytest.fixture
def a_loop():
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    loop.close()
    asyncio.set_event_loop(None)


@pytest.fixture
def a_server():
    from scripted_server import ScriptedServer

    server = ScriptedServer()
    yield server
    server.close()


@pytest.fixture
def a_review_server(tmp_path):
    """Real routes and a real store around a model that finds liver and spleen by script."""
    from review_server import ReviewServer

    server = ReviewServer(tmp_path)
    yield server
    server.close()


async def ready(server):
    await server.ready


class OpenPage:
    """A Viewer whose page is served, and a browser's connection to it."""

    def __init__(self, loop, viewer, address, key):
        self.viewer, self.address, self.key = viewer, address, key
        self._loop = loop
        self._clients = []
        self.client = self.another_browser()

    def run(self, coroutine):
        return self._loop.run_until_complete(coroutine)

    def another_browser(self, key=None):
        from page_client import PageClient

        self._clients.append(PageClient())
        return self.run(self._clients[-1].open(self.address, self.key if key is None else key))

    def until(self, condition, what):
        self.run(self.client.until(condition, what))

    def type(self, **values):
        self.run(self.client.type(**values))

    def press(self, action, *arguments):
        return self.run(self.client.press(action, *arguments))

    def shows(self, name):
        return self.client.shows(name)

    def said(self, words):
        """Waits for words in the log."""
        self.until(lambda page: any(words in line for line in page.shows("log")), words)

    def connected(self):
        self.until(lambda page: page.shows("connected") and not page.shows("busy"), "connected")
        return self

    def close(self):
        self.viewer.close()
        for client in self._clients:
            self.run(client.close())
        self.run(self.viewer.server.stop())


@pytest.fixture
def open_page(a_loop, a_scan):
    """open_page(chosen, scan=a_scan): the page of a scan, as a browser has it."""
    pages = []

    def open_it(chosen, scan=a_scan):
        from trame.app import get_server

        from bird_view.run import make_page

        server = get_server(f"test {next(_names)}", client_type="vue3")
        viewer = make_page(server, scan, chosen, key="open sesame")
        server.start(
            port=0,
            host="127.0.0.1",
            timeout=0,
            thread=True,
            exec_mode="task",
            open_browser=False,
            show_connection_info=False,
        )
        a_loop.run_until_complete(ready(server))
        pages.append(OpenPage(a_loop, viewer, f"127.0.0.1:{server.port}", "open sesame"))
        pages[-1].press("connect")
        return pages[-1]

    yield open_it
    for page in pages:
        page.close()


@pytest.fixture
def a_page(open_page, a_server):
    """Connected to the server by script."""
    from bird_view.servers import RunningServer

    return open_page(RunningServer(a_server.address)).connected()
