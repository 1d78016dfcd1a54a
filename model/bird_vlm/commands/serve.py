"""`bird serve`: hands its options to the server, which runs in this process's place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from bird_vlm.commands.arguments import Model
from bird_vlm.commands.running import arguments_of, runs_a_model
from bird_vlm.console import plain_errors
from bird_vlm.running import Running

EPILOG = "bird serve --studies ~/studies"


@plain_errors
@runs_a_model
def serve(
    running: Running,
    studies: Annotated[Path, typer.Option(help="Folder of images; made where absent.")] = Path(
        "studies"
    ),
    host: Annotated[str, typer.Option(help="Other than loopback needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    model: Model = "bird-mini",
    token: Annotated[
        str | None, typer.Option(envvar="BIRD_TOKEN", help="What clients must send.")
    ] = None,
) -> None:
    """Start the MONAI Label server with BiRD in it, for 3D Slicer."""
    command = [sys.executable, "-m", "bird_server", "--studies", str(studies), "--host", host]
    command += ["--port", str(port), "--model", model, *arguments_of(running)]
    environment = {**os.environ, "BIRD_TOKEN": token or ""}
    if os.name == "posix":  # the server takes this process's place, and its signals
        os.execve(command[0], command, environment)
    raise typer.Exit(subprocess.run(command, check=False, env=environment).returncode)
