"""`medgrit`: train BiRD and measure it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    help="Train BiRD on Med-GRIT-style data and measure what it learned.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
console = Console(stderr=True)

Source = Annotated[Path, typer.Argument(help="Folder in the SA-Med2D-20M layout.")]
TestFraction = Annotated[
    float, typer.Option(min=0.01, max=0.9, help="Share of each dataset's cases that is held out.")
]
