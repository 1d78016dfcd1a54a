"""MONAI Label's `/train`, `/batch/infer` and `/scoring`: same requests, same answers.

The stock ones start a second server process, which would load the model once more and could not
put a new one in its place. Here a task is a thread of this process. What it does is the app's.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Path
from monailabel.interfaces.utils.app import app_instance

from bird_server.errors import ApiError
from bird_server.learning.tasks import BOARD, Kind, Task, Work
from bird_server.routes.route_errors import failures

router = APIRouter()
Params = Annotated[dict[str, Any] | None, Body(examples=[{"max_minutes": 30}])]
Name = Annotated[str, Path(max_length=100, examples=["bird"])]
_CALLS: dict[Kind, str] = {"train": "train", "batch_infer": "batch_infer", "scoring": "scoring"}
_FORBIDDEN = {"image", "session", "gpus", "local_rank"}  # what stock tasks would take from outside


@router.get("/train/", tags=["Train"], responses=failures(404))
def train_status(all: bool = False, check_if_running: bool = False) -> Any:
    """The last training, all of them, or the one that runs; 404 where there is none."""
    return _status("train", all, check_if_running)


@router.post("/train/", tags=["Train"], include_in_schema=False)
def train_all(params: Params = None, run_sync: bool = False) -> Any:
    """Starts every training task of the app."""
    made = {}
    for model in app_instance().info()["trainers"]:
        own = (params or {}).get(model) or params
        own = own if isinstance(own, dict) else {}
        made[model] = {"result": _start("train", {"model": model}, own, run_sync, True)}
    return made


@router.post("/train/{model}", tags=["Train"], responses=failures(404, 422, 429))
def train(model: Name, params: Params = None, run_sync: bool = False, enqueue: bool = False) -> Any:
    """Trains on what reviewers accepted and edited; a better version answers from then on."""
    _check_known("trainers", model)
    return _start("train", {"model": model}, params, run_sync, enqueue)


@router.delete("/train/", tags=["Train"])
def train_stop() -> Any:
    """Stops the training that runs; the model in use stays."""
    return _stop("train")


@router.get("/batch/infer", tags=["Infer"], responses=failures(404))
def batch_status(all: bool = False, check_if_running: bool = False) -> Any:
    """As for trainings."""
    return _status("batch_infer", all, check_if_running)


@router.post("/batch/infer/{model}", tags=["Infer"], responses=failures(404, 422, 429))
def batch(
    model: Name,
    images: Literal["all", "labeled", "unlabeled"] = "all",
    params: Annotated[
        dict[str, Any] | None, Body(examples=[{"prompt": "liver, spleen", "max_batch_size": 10}])
    ] = None,
    run_sync: bool = False,
) -> Any:
    """Asks a model about many images of the studies, one after the other."""
    _check_known("models", model)
    return _start("batch_infer", {"model": model, "images": images}, params, run_sync)


@router.delete("/batch/infer", tags=["Infer"])
def batch_stop() -> Any:
    """Stops after the image under way."""
    return _stop("batch_infer")


@router.get("/scoring/", tags=["Scoring"], responses=failures(404))
def scoring_status(all: bool = False, check_if_running: bool = False) -> Any:
    """As for trainings."""
    return _status("scoring", all, check_if_running)


@router.post("/scoring/", tags=["Scoring"], include_in_schema=False)
def score_all(params: Params = None, run_sync: bool = False) -> Any:
    """Runs every scoring method."""
    methods = app_instance().info()["scoring"]
    return {
        m: {"result": _start("scoring", {"method": m}, params, run_sync, True)} for m in methods
    }


@router.post("/scoring/{method}", tags=["Scoring"], responses=failures(404, 422, 429))
def score(method: Name, params: Params = None, run_sync: bool = False) -> Any:
    """What the reviews say of the models' answers."""
    _check_known("scoring", method)
    return _start("scoring", {"method": method}, params, run_sync)


@router.delete("/scoring/", tags=["Scoring"])
def scoring_stop() -> Any:
    """Stops the scoring that runs."""
    return _stop("scoring")


def _start(
    kind: Kind,
    named: dict[str, str],
    params: dict[str, Any] | None,
    run_sync: bool,
    enqueue: bool = False,
) -> Any:
    """`params` may add options; what names the task they may not change."""
    taken = sorted(_FORBIDDEN & set(params or {}))
    if taken:
        raise ApiError(
            422, "bad_request", f"params: may not hold {', '.join(taken)}", "Send options only."
        )
    request = (params or {}) | named
    work: Work = getattr(app_instance(), _CALLS[kind])
    if run_sync:
        return work(request)
    task = BOARD.start(kind, request, work, enqueue)
    if task is None:
        raise ApiError(
            429, "busy", f"a {kind} task runs already", "Wait for it, or stop it with DELETE."
        )
    return task.json()


def _status(kind: Kind, every: bool, if_running: bool) -> Any:
    tasks, running = BOARD.tasks(kind), BOARD.running(kind)
    found: Task | None = running if if_running else (tasks[-1] if tasks else None)
    if found is None:
        state = "runs" if if_running else "was started"
        raise ApiError(404, "no_task", f"no {kind} task {state}", "Start one with POST.")
    return [task.json() for task in tasks] if every and not if_running else found.json()


def _stop(kind: Kind) -> Any:
    """MONAI Label answers null where nothing runs."""
    asked = BOARD.stop(kind)
    return asked and asked.json()


def _check_known(what: str, name: str) -> None:
    known = sorted(app_instance().info()[what])
    if name not in known:
        raise ApiError(
            404, "unknown_task", f"no such task as {name[:80]!r}", f"Here: {', '.join(known)}."
        )
