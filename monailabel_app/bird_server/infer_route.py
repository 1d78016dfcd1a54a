"""MONAI Label's `/infer/{model}`, answered without freezing the server.

The stock route runs the inference on the event loop; this one runs the same function on a worker
thread, and turns the mistakes that the stock one answers with a bare 500 into clear refusals.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, BackgroundTasks, File, Form, Response, UploadFile
from monailabel.endpoints.infer import run_inference
from monailabel.interfaces.utils.app import app_instance

from bird_server.errors import ApiError

router = APIRouter(tags=["Infer"])
# Keys that MONAI Label would let `params` override, past the rules for names in the query.
FORBIDDEN_PARAMS = {"image", "model", "label", "session", "save_label", "label_tag"}


@router.post("/infer/{model}", response_model=None)
def infer(
    background_tasks: BackgroundTasks,
    model: str,
    image: str = "",
    session_id: str = "",
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    output: Literal["image", "json", "all"] | None = None,
) -> Response | dict[str, Any] | None:
    """Runs a model on an image of the studies folder, of a session, or in the request."""
    check_model(model)
    check_params(params)
    if not (image or session_id or file):
        raise ApiError(422, "bad_request", "no image is named", "Give image, session_id or file.")
    if session_id and app_instance().sessions().get_session(session_id) is None:
        raise ApiError(
            404, "unknown_session", f"no session {session_id[:80]!r}", "Upload the image again."
        )
    return run_inference(background_tasks, model, image, session_id, params, file, None, output)


def check_model(model: str) -> None:
    models = sorted(app_instance().info()["models"])
    if model not in models:
        raise ApiError(
            404, "unknown_model", f"no model {model[:80]!r}", f"Models here: {', '.join(models)}."
        )


def check_params(params: str) -> None:
    """A JSON object whose keys do not reach past the request."""
    try:
        values = json.loads(params or "{}")
    except (ValueError, RecursionError) as error:
        raise _bad_params(f"params: is no JSON ({error})") from error
    if not isinstance(values, dict):
        raise _bad_params("params: must be a JSON object")
    forbidden = sorted(FORBIDDEN_PARAMS & set(values))
    if forbidden:
        raise _bad_params(f"params: may not hold {', '.join(forbidden)}")


def _bad_params(detail: str) -> ApiError:
    return ApiError(422, "bad_request", detail, 'Send options only, e.g. {"prompt": "liver"}.')
