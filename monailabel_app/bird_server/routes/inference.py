"""MONAI Label's `/infer/{model}`, answered without freezing the server.

The stock route runs the inference on the event loop; this one runs the same function on a worker
thread, and turns the mistakes that the stock one answers with a bare 500 into clear refusals. The
stock one also opens any file of the server's working folder that `image` names; here an image is
one of the studies, a session's, or in the request.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, BackgroundTasks, File, Form, Response, UploadFile
from monailabel.endpoints.infer import run_inference
from monailabel.interfaces.utils.app import app_instance

from bird_server.access.names import sent_name, split_suffix
from bird_server.errors import ApiError
from bird_server.routes.stock import json_object, known_session, received
from bird_server.volumes.uploads import SUFFIXES

router = APIRouter(tags=["Infer"])
# Keys that MONAI Label would let `params` override, past the rules for names in the query.
FORBIDDEN_PARAMS = {"image", "model", "label", "session", "save_label", "label_tag", "bundle_path"}
_ONE_FILE = [suffix for suffix in SUFFIXES if suffix != ".zip"]


@router.post("/infer/{model}", response_model=None, summary="Ask a model about an image")
def infer(
    background_tasks: BackgroundTasks,
    model: str,
    image: str = "",
    session_id: str = "",
    params: Annotated[str, Form(examples=['{"prompt": "liver"}'])] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    output: Literal["image", "json", "all"] | None = None,
) -> Response | dict[str, Any] | None:
    """Runs a model on an image of the studies folder, of a session, or in the request."""
    check_model(model)
    check_params(params)
    with asked_image(image, session_id, file) as path:
        return run_inference(background_tasks, model, path, "", params, None, None, output)


@contextmanager
def asked_image(image: str, session_id: str, file: UploadFile | None) -> Iterator[str]:
    """The path of the image that a request is about. Raises ApiError."""
    if session_id:
        yield known_session(session_id, update_ts=True).image
    elif file is not None:
        _, suffix = split_suffix(sent_name(file.filename), _ONE_FILE)
        with received(file, f"image{suffix}") as path:
            yield str(path)
    elif image:
        yield studied_image(image)
    else:
        raise ApiError(422, "bad_request", "no image is named", "Give image, session_id or file.")


def studied_image(image: str) -> str:
    path = app_instance().datastore().get_image_uri(image)
    if not path:
        raise ApiError(
            404,
            "unknown_image",
            "image: there is no such image among the studies",
            "GET /datastore/?output=all lists the images; upload one with PUT /session/.",
        )
    return path


def check_model(model: str) -> None:
    models = sorted(app_instance().info()["models"])
    if model not in models:
        raise ApiError(
            404, "unknown_model", f"no model {model[:80]!r}", f"Models here: {', '.join(models)}."
        )


def check_params(params: str) -> None:
    """A JSON object whose keys do not reach past the request. Raises ApiError 422."""
    forbidden = sorted(FORBIDDEN_PARAMS & set(json_object("params", params)))
    if forbidden:
        raise ApiError(
            422,
            "bad_request",
            f"params: may not hold {', '.join(forbidden)}",
            'Send options only, e.g. {"prompt": "liver"}.',
        )
