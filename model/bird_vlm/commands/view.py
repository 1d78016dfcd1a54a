"""`bird view`: a scan in Slicer's views in a browser, asked and reviewed there.

Knows only where the page is made (bird_view) and what it needs installed.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bird_vlm.commands.arguments import Model
from bird_vlm.commands.running import arguments_of, runs_a_model
from bird_vlm.console import plain_errors
from bird_vlm.errors import BirdError
from bird_vlm.running import Running

if TYPE_CHECKING:
    from bird_view.servers import OwnServer, RunningServer

EPILOG = "bird view scan.nii.gz"
_NEEDED = ("trame_slicer", "slicer", "trame_vuetify", "trame_rca")
_ELSEWHERE = "A server that runs already"


@plain_errors
@runs_a_model
def view(
    running: Running,
    volume: Annotated[
        Path, typer.Argument(help="NIfTI, NRRD or MetaImage file, or a folder of DICOM files.")
    ],
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of the page; 0 takes a free one.")
    ] = 8080,
    model: Model = "bird-mini",
    studies: Annotated[
        Path, typer.Option(help="Where our own server keeps your decisions; made where absent.")
    ] = Path("studies"),
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the page's address and open nothing.")
    ] = False,
    server: Annotated[
        str | None,
        typer.Option(
            help="Its address, such as http://gpu:8000; without it one is started for this scan.",
            rich_help_panel=_ELSEWHERE,
        ),
    ] = None,
    token: Annotated[
        str, typer.Option(envvar="BIRD_TOKEN", help="It wants it.", rich_help_panel=_ELSEWHERE)
    ] = "",
) -> None:
    """Show a scan in a browser with the views of 3D Slicer: ask, see boxes, accept or reject.

    The page is for this computer only; its address holds a key, so keep it to yourself. It starts
    a server of its own with the model and stops it at the end (Ctrl+C), unless --server names one.
    On the page write one name per line and press Ask; draw a box and ask what is in it. Images go
    to another computer only after you have allowed it there.
    """
    check_installed()
    from bird_view.BiRDLib.errors import BirdError as ViewError

    from bird_view.run import run

    try:
        run(volume, _chosen(server, token, model, studies, running), port, not no_browser)
    except ViewError as error:
        raise BirdError(error.advice) from error


def check_installed() -> None:
    """Raises BirdError unless the extra `view` is installed."""
    missing = [package for package in _NEEDED if importlib.util.find_spec(package) is None]
    if missing:
        raise BirdError(
            f"bird view needs {missing[0]}, which is not installed: pip install 'bird-slicer[view]'"
        )


def _chosen(
    server: str | None, token: str, model: str, studies: Path, running: Running
) -> RunningServer | OwnServer:
    from bird_view.servers import OwnServer, RunningServer

    if server is not None:
        return RunningServer(server, token)
    return OwnServer(model, studies, tuple(arguments_of(running)))
