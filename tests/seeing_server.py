"""A server of chat completions that really looks at the pictures, and behaves as a test scripts it.

It finds a white block by its grey values and answers in the words of a model family.
"""

from __future__ import annotations

import base64
import io
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

from bird_vlm.boxes import BoxNorm, mask_to_box_pixel, pixel_to_norm
from bird_vlm.dialects import BoxDialect

MODEL = "Qwen/Qwen3-VL-4B-Instruct"
Reply = tuple[int, str, dict[str, str]]  # status, body, headers


def completion(text: str, logprobs: list[dict] | None = None) -> Reply:
    choice: dict[str, Any] = {"message": {"content": text}, "finish_reason": "stop"}
    if logprobs:
        choice["logprobs"] = {"content": logprobs}
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    return 200, json.dumps({"choices": [choice], "usage": usage}), {}


def refusal(status: int, message: str = "scripted", **headers: str) -> Reply:
    return status, json.dumps({"error": {"message": message}}), headers


def token(text: str, probability: float, **others: float) -> dict[str, Any]:
    top = [{"token": t, "logprob": math.log(p)} for t, p in ({text: probability} | others).items()]
    return {"token": text, "logprob": math.log(probability), "top_logprobs": top}


@dataclass
class Sight:
    """What one question shows."""

    prompt: str
    picture: np.ndarray  # (height, width)
    body: dict[str, Any]

    @property
    def box_norm(self) -> BoxNorm | None:
        height, width = self.picture.shape
        box_pixel = mask_to_box_pixel(self.picture > 200)
        return box_pixel and pixel_to_norm(box_pixel, width, height)

    @property
    def asks_for_boxes(self) -> bool:
        return "Locate" in self.prompt


@dataclass
class ModelServer:
    """Answers `answer(sight)`; may be told to do something else first, or to die."""

    url: str = ""
    answer: Callable[[Sight], Reply] = lambda sight: completion("no")
    models: list[str] = field(default_factory=lambda: [MODEL])
    before: list[Reply | float] = field(default_factory=list)  # replies, or seconds to sleep
    dies_after: int | None = None
    asked: list[Sight] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    under_way: int = 0
    most_under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def seen(body: dict[str, Any]) -> Sight:
    picture, text = body["messages"][0]["content"]
    data = base64.b64decode(picture["image_url"]["url"].partition(",")[2])
    return Sight(text["text"], np.asarray(Image.open(io.BytesIO(data)).convert("L")), body)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    world: ModelServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.reply(200, json.dumps({"data": [{"id": name} for name in self.world.models]}), {})

    def do_POST(self) -> None:
        sight = seen(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        world = self.world
        with world.lock:
            world.asked.append(sight)
            world.times.append(time.monotonic())
            world.keys.add(self.headers.get("Authorization", ""))
            if world.dies_after is not None and len(world.asked) > world.dies_after:
                self.close_connection = True
                return
            world.under_way += 1
            world.most_under_way = max(world.most_under_way, world.under_way)
            first = world.before.pop(0) if world.before else None
        if isinstance(first, float):
            time.sleep(first)
        answer = first if isinstance(first, tuple) else world.answer(sight)
        with world.lock:
            world.under_way -= 1
        self.reply(*answer)

    def reply(self, status: int, text: str, headers: dict[str, str]) -> None:
        data = text.encode()
        try:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(data))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client had enough


def a_knowing_model(
    dialect: BoxDialect, label: str = "the block", says: tuple[str, str] = ("Yes.", "No.")
) -> Callable[[Sight], Reply]:
    """A family's model that sees the block, and says so in its own language of boxes."""

    def answer(sight: Sight) -> Reply:
        box_norm = sight.box_norm
        if not sight.asks_for_boxes:
            return completion(says[0] if box_norm else says[1])
        height, width = sight.picture.shape
        shown = dialect.sent(width, height)
        return completion(dialect.format(label, (box_norm,) if box_norm else (), shown))

    return answer


@contextmanager
def a_seeing_server() -> Iterator[ModelServer]:
    """A server in a thread of this process."""
    world = ModelServer()
    handler = type("Handler", (Handler,), {"world": world})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    world.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield world
    finally:
        server.shutdown()
        server.server_close()
