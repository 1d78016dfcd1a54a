"""Bodies of requests: how large they may be, how slowly they may come, what JSON may hold.

Works on ASGI's messages; knows nothing about who asks, nor about routes beyond the one that takes
raw uploads.
"""

from __future__ import annotations

import json
import logging
import time

import anyio
import anyio.to_thread
from starlette.datastructures import Headers
from starlette.types import Message, Receive

from bird_server.access.texts import check_json
from bird_server.errors import ApiError
from bird_server.operations.logs import logs_questions

JSON_LIMIT_BYTES = 1 << 20
UPLOAD_PATH = "/bird/v1/volumes"
PATIENCE_S = 30.0  # a body may pause this long in all ...
SLOWEST_BYTES_PER_S = 10_000  # ... and longer only where it has brought so much
LONG_BODY_BYTES = 1 << 14  # from here on looking through it would hold up other answers
LOGGED_CHARACTERS = 2_000
logger = logging.getLogger(__name__)


def is_upload(path: str, headers: Headers) -> bool:
    """Whether the body is a file, or a form that may hold one."""
    is_form = headers.get("content-type", "").lower().startswith("multipart/")
    ours = path.startswith("/bird/")
    return path.rstrip("/") == UPLOAD_PATH or (is_form and not ours)


def is_form(headers: Headers) -> bool:
    kind = headers.get("content-type", "").lower()
    return kind.startswith(("multipart/", "application/x-www-form-urlencoded"))


def body_limit(path: str, headers: Headers, upload_bytes: int) -> int:
    """The largest body in bytes: JSON and plain forms need little, uploads much."""
    return upload_bytes if is_upload(path, headers) else min(JSON_LIMIT_BYTES, upload_bytes)


def check_length(headers: Headers, limit: int) -> None:
    """The announced length; a body that announces none is counted as it comes."""
    announced = headers.get("content-length", "0")
    if not announced.isascii() or not announced.isdigit():
        raise ApiError(400, "bad_request", "Content-Length is no number", "Send a valid length.")
    if int(announced) > limit:
        raise _too_large(limit)


def limited(receive: Receive, limit: int, patience_s: float) -> Receive:
    """`receive` that stops a body after `limit` bytes, and one that pauses for `patience_s`."""
    received, is_whole, start = 0, False, time.monotonic()

    async def receive_limited() -> Message:
        nonlocal received, is_whole
        if is_whole:
            return await receive()
        message = await _in_time(receive, start + patience_s + received / SLOWEST_BYTES_PER_S)
        received += len(message.get("body", b""))
        is_whole = not message.get("more_body", False)
        if received > limit:
            raise _too_large(limit)
        return message

    return receive_limited


async def _in_time(receive: Receive, end: float) -> Message:
    try:
        with anyio.fail_after(max(0.0, end - time.monotonic())):
            return await receive()
    except TimeoutError as error:
        raise ApiError(
            408,
            "too_slow",
            "the request's body came too slowly",
            "Send it again over a faster connection.",
            headers={"Connection": "close"},
        ) from error


async def with_checked_json(receive: Receive) -> Receive:
    """Reads a whole body and gives it back to be read again, its texts and numbers checked.

    What is no JSON passes: the route knows whether it wants any, and says so better. Raises
    ApiError 422.
    """
    messages, body = [], b""
    while not messages or messages[-1].get("more_body", False):
        messages.append(await receive())
        body += messages[-1].get("body", b"")
    if len(body) > LONG_BODY_BYTES:
        await anyio.to_thread.run_sync(_check_body, body)
    elif body:
        _check_body(body)
    messages.reverse()

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


def _check_body(body: bytes) -> None:
    try:
        value = check_json("body", body)
    except ValueError:
        return
    if logs_questions():
        logger.info("asked: %s", json.dumps(value)[:LOGGED_CHARACTERS])


def _too_large(limit: int) -> ApiError:
    return ApiError(413, "too_large", f"at most {limit} bytes are taken here", "Send less.")
