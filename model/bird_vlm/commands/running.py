"""The options that say how a model is run, here or by a server elsewhere; and the model, loaded.

Every command that runs a model takes the same ones. Knows nothing about questions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bird_vlm.backend import CONCURRENCY, TIMEOUT_S, Backend
from bird_vlm.console import console
from bird_vlm.dialects import DIALECTS
from bird_vlm.endpoint_settings import KEY_VARIABLE
from bird_vlm.errors import BadRequestError
from bird_vlm.running import Running

if TYPE_CHECKING:
    from bird_vlm.engine import Engine

_ELSEWHERE = "A model on another server"


def running_of(
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda; cuda where there is one.")
    ] = None,
    precision: Annotated[
        str,
        typer.Option(help="float32, bfloat16 or float16; auto: bfloat16 on cuda, else float32."),
    ] = "auto",
    quantize: Annotated[
        str | None, typer.Option(help="int8 or int4 weights, for a card that is too small.")
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            help="OpenAI-compatible address that runs the model, such as http://gpu:8000/v1.",
            rich_help_panel=_ELSEWHERE,
        ),
    ] = None,
    dialect: Annotated[
        str | None,
        typer.Option(
            help=f"How it writes boxes; known for the names of `bird models`, else one of "
            f"{', '.join(DIALECTS)}.",
            rich_help_panel=_ELSEWHERE,
        ),
    ] = None,
    key_variable: Annotated[
        str,
        typer.Option(help="Environment variable with the key.", rich_help_panel=_ELSEWHERE),
    ] = KEY_VARIABLE,
    concurrency: Annotated[
        int,
        typer.Option(min=1, help="Questions under way at a time.", rich_help_panel=_ELSEWHERE),
    ] = CONCURRENCY,
    timeout: Annotated[
        float, typer.Option(help="Seconds for one answer.", rich_help_panel=_ELSEWHERE)
    ] = TIMEOUT_S,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder for its answers: the same command goes on where it was interrupted.",
            rich_help_panel=_ELSEWHERE,
        ),
    ] = None,
) -> Running:
    """Raises BirdError for choices that there cannot be."""
    if backend is None:
        if dialect is not None:
            raise BadRequestError("dialect: is for models elsewhere; name their --backend too")
        return Running(device, precision, quantize)
    elsewhere = Backend(backend, dialect, key_variable, concurrency, timeout, cache)
    return Running(device, precision, quantize, elsewhere)


def arguments_of(running: Running) -> list[str]:
    """The command line that `running_of` reads as `running`."""
    here = {"device": running.device, "precision": running.precision, "quantize": running.quantize}
    elsewhere = running.backend
    given = here | {
        "backend": elsewhere and elsewhere.url,
        "dialect": elsewhere and elsewhere.dialect,
        "key-variable": elsewhere and elsewhere.key_variable,
        "concurrency": elsewhere and elsewhere.concurrency,
        "timeout": elsewhere and elsewhere.timeout_s,
        "cache": elsewhere and elsewhere.cache,
    }
    return [part for name, value in given.items() if value for part in (f"--{name}", str(value))]


def runs_a_model(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `running_of`; it gets them as its argument `running`."""
    options = inspect.signature(running_of, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True).parameters

    @wraps(command)
    def run(**given: object) -> None:
        choices = {name: given.pop(name) for name in options}
        command(**given, running=running_of(**choices))

    taken = [*(own[name] for name in own if name != "running"), *options.values()]
    run.__signature__ = inspect.Signature(
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in taken]
    )
    return run


@contextmanager
def loaded(model: str, running: Running) -> Iterator[Engine]:
    """The model, fetched where it is not here; in the end tells what a server elsewhere took."""
    if running.backend is None:
        from bird_vlm.catalogue.names import model_path

        model_path(model, console.print)  # shows its own progress
    with console.status(f"loading {model} ..."):
        from bird_vlm.engine import load_engine

        engine = load_engine(model, running)
    try:
        yield engine
    finally:
        if running.backend:
            console.print(
                f"{running.backend.url}: {engine.used}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
