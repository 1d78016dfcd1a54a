"""A small OpenAI-compatible server in a process of its own, which behaves as the test scripts it.

Test helper. `POST /script` gives it a list of behaviours for the next chat completions; after them
it is good. `GET /log` tells what it was asked. A good answer does what the prompts of `LlmWriter`
ask for, in words of its own; to any other question it answers "pong".

    {"do": "good"}  {"do": "say", "text": ...}  {"do": "say", "text": ..., "finish": "length"}
    {"do": "status", "status": 429, "body": {...}, "headers": {...}}
    {"do": "raw", "text": "<html>"}  {"do": "sleep", "seconds": 3}  {"do": "cut"}
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.request import Request, urlopen

ITEM = re.compile(r"^\[?\s*(\{\"n\".*\})[,\]]*$", re.MULTILINE)


class ScriptedLlm:
    """Starts the server and speaks to it; use as a context manager."""

    def __enter__(self) -> ScriptedLlm:
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdout=subprocess.PIPE, text=True
        )
        port = self.process.stdout.readline().strip()
        self.address = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()

    @property
    def url(self) -> str:
        return f"{self.address}/v1"

    def script(self, *behaviours: dict[str, Any]) -> None:
        """From now on it behaves like this, once each, then well; the log starts anew."""
        data = json.dumps(behaviours).encode()
        with urlopen(Request(f"{self.address}/script", data, method="POST")):
            pass

    def log(self) -> list[dict[str, Any]]:
        """What was asked since the script: body, key, time and how many were under way."""
        with urlopen(f"{self.address}/log") as reply:
            return json.load(reply)


class _State:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.behaviours: list[dict[str, Any]] = []
        self.log: list[dict[str, Any]] = []
        self.round = 1  # counts scripts; questions of earlier ones no longer count as under way
        self.under_way = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state = _State()
    inside = 0  # the round of the question that is being answered

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._reply(200, json.dumps(self.state.log))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/script":
            with self.state.lock:
                self.state.behaviours, self.state.log[:] = list(body), []
                self.state.round += 1
                self.state.under_way = 0
            self._reply(200, "{}")
        elif self.path == "/v1/chat/completions":
            self._complete(body)
        else:
            self._reply(404, json.dumps({"error": {"message": f"no route {self.path}"}}))

    def _complete(self, body: dict[str, Any]) -> None:
        with self.state.lock:
            behaviour = self.state.behaviours.pop(0) if self.state.behaviours else {"do": "good"}
            asked = self.state.round
            self.state.under_way += 1
            entry = {"time": time.monotonic(), "under_way": self.state.under_way, "body": body}
            self.state.log.append(entry | {"key": self.headers.get("Authorization", "")})
        self.inside = asked
        try:
            self._behave(behaviour, body)
        finally:
            self._leave()

    def _leave(self) -> None:
        with self.state.lock:
            self.state.under_way -= self.inside == self.state.round
        self.inside = 0

    def _behave(self, behaviour: dict[str, Any], body: dict[str, Any]) -> None:
        kind = behaviour["do"]
        if kind == "sleep":
            time.sleep(behaviour["seconds"])
        if kind == "status":
            text = json.dumps(behaviour.get("body", {"error": {"message": "scripted"}}))
            self._reply(behaviour["status"], text, behaviour.get("headers", {}))
        elif kind == "raw":
            self._reply(200, behaviour["text"])
        elif kind == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "10000")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
            self.close_connection = True
        else:
            said = behaviour.get("text") or good_answer(body["messages"][-1]["content"])
            self._reply(200, json.dumps(_completion(said, behaviour.get("finish", "stop"))))

    def _reply(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        self._leave()  # before the answer: the next question may come with its first byte
        data = text.encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
        except BrokenPipeError:
            self.close_connection = True  # the client had enough


def good_answer(prompt: object) -> str:
    """What a language model that keeps to the rules would say."""
    if not isinstance(prompt, str):
        return "pong"
    items = [json.loads(item) for item in ITEM.findall(prompt)]
    if items:
        worded = [_worded(item) for item in items]
        return f"Here you are:\n```json\n{json.dumps({'items': worded})}\n```"
    if '{"caption"' in prompt:
        facts = json.loads(next(line for line in prompt.splitlines() if line[:2] == '{"'))
        return json.dumps({"caption": _caption(facts)})
    return "pong"


def _caption(facts: dict[str, Any]) -> str:
    names = sorted({placed["name"] for placed in facts["objects"]})
    region = f" of the {facts['body region']}" if "body region" in facts else ""
    seen = f"In it we can see {', '.join(f'the {name}' for name in names)}." if names else ""
    return f"Here we have one {facts['modality']} study{region}. {seen}".strip()


def _worded(item: dict[str, Any]) -> dict[str, Any]:
    box = re.search(r"<box>.*?</box>", item["question"])
    questions = {"ROC": "Would you name what is inside {}, please?"}
    questions["RC"] = "Would you describe what is inside {}, please?"
    question = questions[item["task"]].format(box[0]) if box else f"Please: {item['question']}"
    return {"n": item["n"], "question": question, "answer": item["answer"]}


def _completion(text: str, finish: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "scripted",
        "object": "chat.completion",
        "created": 0,
        "model": "scripted",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
