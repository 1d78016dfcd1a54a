"""MONAI Label's routes that change things or ask, repaired: same requests, same answers.

The stock ones block the event loop, unpack archives, trust file names, leave temporary files
behind, and answer mistakes with a bare 500. `KEPT` are stock routes that are fine as they are.
Inference, and the tasks that take long, have modules of their own.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, UploadFile
from fastapi.responses import FileResponse
from monailabel.endpoints import activelearning, datastore, info
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import file_checksum, get_mime_type

from bird_server.access.names import check_plain, sent_name, split_suffix
from bird_server.access.texts import check_json
from bird_server.errors import ApiError
from bird_server.volumes.datastore import LABEL_SUFFIXES, image_suffixes

KEPT = {
    ("GET", "/info/"),
    ("GET", "/datastore/"),
    ("GET", "/datastore/image"),
    ("GET", "/datastore/image/info"),
    ("GET", "/datastore/label"),
    ("HEAD", "/datastore/label"),
    ("GET", "/datastore/label/info"),
}
FILES_IN_A_SESSION = 5_000
_SESSION_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CHECKSUM = re.compile(r"(?:(SHA256|SHA512|MD5):)?([0-9a-fA-F]{32,128})")
_DETACHED = (".mhd", ".nhdr")  # headers that may name any file of the server as their voxels
_OWN_FILE = "meta.info"  # MONAI Label keeps a session's description under this name

router = APIRouter()
JsonText = Annotated[str, Form(examples=["{}"])]
Ok = dict[str, Any]


def kept_routes() -> list[Any]:
    """The stock routes that stay as they are."""
    stock = [r for m in (info, datastore) for r in m.router.routes]
    return [route for route in stock if any((m, route.path) in KEPT for m in route.methods)]


@router.put("/datastore/", tags=["Datastore"], include_in_schema=False)
@router.put("/datastore/image", tags=["Datastore"], summary="Add an image to the studies")
def put_image(
    file: Annotated[UploadFile, File()], image: str | None = None, params: JsonText = "{}"
) -> Ok:
    """Keeps the file as IMAGE; without that, under its own name."""
    stem, suffix = split_suffix(sent_name(file.filename), image_suffixes())
    image_id = check_plain("image", image or stem)
    values = json_object("params", params)
    with received(file, f"image{suffix}") as path:
        return {"image": app_instance().datastore().add_image(image_id, str(path), values)}


@router.delete("/datastore/", tags=["Datastore"], include_in_schema=False)
@router.delete("/datastore/image", tags=["Datastore"], summary="Remove an image and its labels")
def delete_image(id: str) -> Ok:
    app_instance().datastore().remove_image(id)
    return {}


@router.head("/datastore/image", tags=["Datastore"], summary="Whether an image is there")
def head_image(image: str, check_sum: str | None = None) -> Ok:
    """With `check_sum`, as `SHA256:HEX`, also whether it is the same file."""
    path = app_instance().datastore().get_image_uri(image)
    if not path:
        raise ApiError(404, "unknown_image", "there is no such image", "GET /datastore/ counts.")
    if check_sum:
        check_checksum(path, check_sum)
    return {}


def check_checksum(path: str, check_sum: str) -> None:
    given = _CHECKSUM.fullmatch(check_sum)
    if given is None:
        raise ApiError(422, "bad_request", "check_sum: must be SHA256:HEX", "Leave it out.")
    kind, digest = given[1] or "SHA256", given[2].lower()
    if file_checksum(path, algo=kind) != f"{kind}:{digest}":
        raise ApiError(404, "other_image", "the image there is another one", "Upload yours.")


@router.put("/datastore/image/info", tags=["Datastore"], summary="Note something about an image")
def put_image_info(image: str, info: JsonText = "{}") -> None:
    app_instance().datastore().update_image_info(image, json_object("info", info))


@router.put("/datastore/label", tags=["Datastore"], summary="Save a label of an image")
def put_label(
    label: Annotated[UploadFile, File()], image: str, params: JsonText = "{}", tag: str = "final"
) -> Ok:
    """Keeps the file as the image's label `tag`."""
    _, suffix = split_suffix(sent_name(label.filename), LABEL_SUFFIXES)
    values, tag = json_object("params", params), tag or "final"
    app = app_instance()
    with received(label, f"label{suffix}") as path:
        label_id = app.datastore().save_label(image, str(path), tag, values)
    return (app.on_save_label(image, label_id) or {}) | {"image": image, "label": label_id}


@router.delete("/datastore/label", tags=["Datastore"], summary="Remove a label of an image")
def delete_label(id: str, tag: str) -> Ok:
    app_instance().datastore().remove_label(id, tag)
    return {}


@router.put("/datastore/label/info", tags=["Datastore"], summary="Note something about a label")
def put_label_info(label: str, tag: str, info: JsonText = "{}") -> None:
    app_instance().datastore().update_label_info(label, tag, json_object("info", info))


@router.put("/session/", tags=["Session"], summary="Keep an image for an hour")
def put_session(
    files: Annotated[list[UploadFile], File()], uncompress: bool = False, expiry: int = 0
) -> Ok:
    """One file, or the files of one DICOM series. Archives are not unpacked here."""
    if uncompress:
        raise ApiError(
            422, "bad_request", "uncompress: archives are not unpacked here", "Send the files."
        )
    names = [sent_name(file.filename) for file in files]
    check_session_files(names)
    with tempfile.TemporaryDirectory(prefix="bird_session_") as folder:
        for name, file in zip(names, files, strict=True):
            save(file, Path(folder, "files", name))
        kept = Path(folder, "files", names[0] if len(names) == 1 else "")
        session_id, session = app_instance().sessions().add_session(str(kept), expiry)
    return {"session_id": session_id, "session_info": session.to_json()}


def check_session_files(names: Sequence[str]) -> None:
    """Raises ApiError 422 for too many files, and for names that clash or hold no voxels."""
    if len(names) > FILES_IN_A_SESSION:
        raise ApiError(
            422, "bad_request", f"files: at most {FILES_IN_A_SESSION} are taken", "Send fewer."
        )
    if len(set(names)) < len(names) or _OWN_FILE in names:
        raise ApiError(
            422, "bad_name", f"files: names must differ, and not be {_OWN_FILE}", "Rename them."
        )
    if any(name.lower().endswith(_DETACHED) for name in names):
        raise ApiError(
            422, "bad_name", f"files: {' and '.join(_DETACHED)} hold no voxels", "Save one file."
        )


@router.get("/session/{session_id}", tags=["Session"], summary="A session", response_model=None)
def get_session(session_id: str, update_ts: bool = False, image: bool = False) -> Ok | FileResponse:
    """What is known of it, or its image where that is one file."""
    session = known_session(session_id, update_ts)
    if not image:
        return session.to_json()
    if not Path(session.image).is_file():
        raise ApiError(422, "bad_request", "image: this session has many files", "Ask without it.")
    name = Path(session.image).name
    return FileResponse(session.image, media_type=get_mime_type(name), filename=name)


@router.delete("/session/{session_id}", tags=["Session"], summary="End a session")
def delete_session(session_id: str) -> Ok:
    session = known_session(session_id)
    app_instance().sessions().remove_session(session_id)
    return session.to_json()


def known_session(session_id: str, update_ts: bool = False) -> Any:
    """Raises ApiError 404; only ids of the form that this server gives are looked up at all."""
    is_id = _SESSION_ID.fullmatch(session_id)
    session = app_instance().sessions().get_session(session_id, update_ts) if is_id else None
    if session is None:
        raise ApiError(
            404, "unknown_session", f"no session {session_id[:80]!r}", "Upload the image again."
        )
    return session


@router.post("/activelearning/{strategy}", tags=["ActiveLearning"], summary="The next image")
def post_sample(strategy: str, params: dict[str, Any] | None = None) -> Ok:
    """The image that `strategy` would have labelled next; {} where there is none."""
    known = sorted(app_instance().info()["strategies"])
    if strategy not in known:
        raise ApiError(
            404,
            "unknown_strategy",
            f"no strategy {strategy[:80]!r}",
            f"Strategies here: {', '.join(known)}.",
        )
    client_id = (params or {}).get("client_id")
    if client_id is not None and not isinstance(client_id, str):
        raise ApiError(422, "bad_request", "client_id: must be text", "Send a name.")
    return activelearning.sample(strategy, (params or {}) | {"strategy": strategy}, client_id)


@contextmanager
def received(file: UploadFile, name: str) -> Iterator[Path]:
    """An uploaded file on disk under a name of ours, until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="bird_upload_") as folder:
        path = Path(folder, name)
        save(file, path)
        yield path


def save(file: UploadFile, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as target:
        shutil.copyfileobj(file.file, target)


def json_object(name: str, text: str) -> dict[str, Any]:
    """A form field that holds a JSON object. Raises ApiError 422."""
    try:
        value = check_json(name, text or "{}")
    except ValueError as error:
        raise _bad_json(f"{name}: is no JSON ({str(error)[:80]})") from error
    if not isinstance(value, dict):
        raise _bad_json(f"{name}: must be a JSON object")
    return value


def _bad_json(detail: str) -> ApiError:
    return ApiError(422, "bad_request", detail, 'Send a JSON object, such as {"prompt": "liver"}.')
