"""`medgrit predict`: a test set and a model in, a folder of predictions out.

Parses arguments; the work is done by `predict.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bird_vlm.backend import Backend
from bird_vlm.console import console, progress
from bird_vlm.errors import BirdError
from bird_vlm.running import USUAL, Running

if TYPE_CHECKING:
    from bird_training.evaluation.answering import Answerer
    from bird_training.evaluation.questions import Question

EPILOG = "medgrit predict --data OUT/test --out runs/mini/predictions"


def predict(
    out: Annotated[Path, typer.Option(help="Folder for VG, ROC, RC and MIA.jsonl; goes on there.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of VG, ROC, RC and MIA.json, such as OUT/test.")
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="A LLaVA-Med question file instead of --data.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the pictures, where they lie elsewhere.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="A shipped model's name, a folder, or the endpoint's model.")
    ] = "bird-mini",
    device: Annotated[str | None, typer.Option(help="cpu or cuda.")] = None,
    precision: Annotated[
        str, typer.Option(help="float32, bfloat16 or float16; auto: bfloat16 on cuda.")
    ] = "auto",
    quantize: Annotated[str | None, typer.Option(help="int8 or int4 weights.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Questions at once.")] = 32,
    endpoint: Annotated[
        str | None, typer.Option(help="Ask an OpenAI-compatible server, http://host:port/v1.")
    ] = None,
    dialect: Annotated[
        str | None,
        typer.Option(
            help="With --endpoint: ask as the product asks models that write boxes so (`bird "
            "models` names them), not in the words of the test set."
        ),
    ] = None,
    key_variable: Annotated[
        str, typer.Option(help="Environment variable with the endpoint's key.")
    ] = "OPENAI_API_KEY",
    concurrency: Annotated[
        int, typer.Option(min=1, help="Questions that the endpoint works on at a time.")
    ] = 8,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for one answer.")] = 120,
    keep_failed: Annotated[
        bool,
        typer.Option("--keep-failed", help="Go on where a model cannot be asked a question."),
    ] = False,
) -> None:
    """Ask a model all questions of a test set; run again to go on after an interruption."""
    from bird_training.evaluation.predict import predict as ask_all

    asked, test_set = _test_set(data, questions, images)
    running = Running(device, precision, quantize)
    if endpoint and running != USUAL:
        raise BirdError("endpoint: --device, --precision and --quantize are for local models")
    if endpoint and dialect:
        running = Running(backend=Backend(endpoint, dialect, key_variable, concurrency, timeout))
    elif dialect:
        raise BirdError("dialect: is for models elsewhere; name their --endpoint too")
    limits = (key_variable, concurrency, timeout)
    with (
        _answerer(model, running, batch, endpoint, limits, keep_failed) as answerer,
        progress("questions") as show,
    ):
        failed = ask_all(asked, answerer, out, test_set, show)
    if failed:
        console.print(f"{failed} of {len(asked)} questions got no answer", style="yellow")
    print(out)


def _test_set(
    data: Path | None, questions: Path | None, images: Path | None
) -> tuple[list[Question], str]:
    from bird_training.evaluation.questions import read_qa_set, read_test_set

    if (data is None) == (questions is None):
        raise BirdError("data: give either --data or --questions")
    if questions is not None:
        return read_qa_set(questions, images), questions.stem
    folder = data.resolve()
    return read_test_set(data, images), f"{folder.parent.name}/{folder.name}"


@contextmanager
def _answerer(
    model: str,
    running: Running,
    batch: int,
    endpoint: str | None,
    limits: tuple[str, int, float],
    keep_failed: bool,
) -> Iterator[Answerer]:
    if endpoint is None or running.backend:
        yield _engine_answerer(model, running, batch, keep_failed)
        return
    from bird_training.evaluation.answering import EndpointAnswerer
    from bird_vlm.endpoint import Endpoint, EndpointSettings

    key_variable, concurrency, timeout = limits
    settings = EndpointSettings(
        endpoint, model, key_variable=key_variable, timeout_s=timeout, concurrency=concurrency
    )
    with Endpoint(settings) as server:
        yield EndpointAnswerer(server, keep_failed)


def _engine_answerer(model: str, running: Running, batch: int, keep_failed: bool) -> Answerer:
    """BiRD on this machine in the words of the test set, all others as the product asks them."""
    from bird_vlm.catalogue.names import model_config, model_path

    if not running.backend and model_config(model_path(model)).get("model_type") == "bird":
        from bird_training.evaluation.answering_engine import EngineAnswerer

        return EngineAnswerer(model, running, batch)
    from bird_training.evaluation.answering_seam import SeamAnswerer

    return SeamAnswerer(model, running, batch, keep_failed)
