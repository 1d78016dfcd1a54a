"""Serving the page to a browser of this computer until the process is told to stop.

The page shows a patient's images, so only this computer can reach it, and only who has the key in
its address can talk to it.
"""

from __future__ import annotations

import os
import secrets
import socket
import webbrowser
from pathlib import Path

from trame.app import get_server
from trame_server import Server
from vtkmodules.vtkCommonCore import vtkObject

from bird_view.BiRDLib.errors import BirdError
from bird_view.servers import OwnServer, RunningServer
from bird_view.viewer import Viewer
from bird_view.widgets import build_page

HOST = "127.0.0.1"


class PortTaken(BirdError):  # noqa: N818 - as in BiRDLib, the errors say what happened
    """Something else listens on the page's port."""

    hint = "Choose another --port, or 0 for a free one."


def run(scan: Path, chosen: RunningServer | OwnServer, port: int, browser: bool) -> None:
    """Shows a scan; prints the page's address once it can be opened.

    Port 0 takes a free one. Raises one of BiRDLib's errors before anything is served.
    """
    _require_free(port)
    os.environ["TRAME_ARGS"] = ""  # trame would read our command line as its own
    os.environ.setdefault("WSLINK_READY_MSG", "")
    vtkObject.GlobalWarningDisplayOff()  # a computer without a screen: VTK says so for each view
    server = get_server("bird_view", client_type="vue3")
    key = secrets.token_urlsafe(24)
    viewer = make_page(server, scan, chosen, key)

    @server.controller.add("on_server_ready")
    def ready(**_state: object) -> None:
        here = f"{HOST}:{server.port}"
        url = f"http://{here}/index.html?sessionURL=ws://{here}/ws&secret={key}"
        print(f"BiRD shows {scan} at {url}", flush=True)
        with server.state:  # what a browser is told later is compared with what is told here
            viewer.connecting.connect()
        if browser:
            webbrowser.open(url)

    try:
        server.start(
            port=port, host=HOST, timeout=0, open_browser=False, show_connection_info=False
        )
    finally:
        viewer.close()


def make_page(server: Server, scan: Path, chosen: RunningServer | OwnServer, key: str) -> Viewer:
    """The page of a scan on a trame server that does not run yet; only `key` opens it.

    Raises BiRDLib's UnusableInput for a scan that cannot be shown.
    """
    server.cli.set_defaults(authKey=key)
    viewer = Viewer(server, scan, chosen)
    server.state.trame__title = f"BiRD: {viewer.page.scan}"
    build_page(viewer)
    return viewer


def _require_free(port: int) -> None:
    with socket.socket() as trial:
        if os.name == "posix":
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise PortTaken(f"Port {port} of this computer: {error}.") from error
