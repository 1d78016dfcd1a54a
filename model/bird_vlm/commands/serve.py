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

_ACCESS = "Who may ask"
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
        str | None,
        typer.Option(
            envvar="BIRD_TOKEN",
            help="What clients must send; a file is better: others see options.",
            rich_help_panel=_ACCESS,
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="One line: the write token.", rich_help_panel=_ACCESS),
    ] = None,
    read_token_file: Annotated[
        Path | None,
        typer.Option(
            help="One line: the read token (or BIRD_READ_TOKEN).", rich_help_panel=_ACCESS
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Web pages that may ask; none by default.", rich_help_panel=_ACCESS),
    ] = None,
    log_format: Annotated[str, typer.Option(help="text or json, one line per event.")] = "text",
    log_questions: Annotated[
        bool, typer.Option("--log-questions", help="Log free text too, which may name patients.")
    ] = False,
) -> None:
    """Start the MONAI Label server with BiRD in it, for 3D Slicer.

    The write token may do everything.
    The read token may look (GET), refer and ask: of these nothing is kept.
    Without tokens only this machine may ask.
    /bird/v1/live and /bird/v1/ready need no token.
    """
    command = [sys.executable, "-m", "bird_server", "--studies", str(studies), "--host", host]
    command += ["--port", str(port), "--model", model, *arguments_of(running)]
    command += _access_arguments(token_file, read_token_file, allow_origin or [])
    command += ["--log-format", log_format, *["--log-questions"] * log_questions]
    environment = {**os.environ, "BIRD_TOKEN": token or ""}
    if os.name == "posix":  # the server takes this process's place, and its signals
        os.execve(command[0], command, environment)
    raise typer.Exit(subprocess.run(command, check=False, env=environment).returncode)


def _access_arguments(
    token_file: Path | None, read_token_file: Path | None, origins: list[str]
) -> list[str]:
    files = (("--token-file", token_file), ("--read-token-file", read_token_file))
    given = [[option, str(file)] for option, file in files if file is not None]
    given += [["--allow-origin", origin] for origin in origins]
    return [word for words in given for word in words]
