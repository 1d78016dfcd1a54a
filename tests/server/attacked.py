"""A real server process to attack, requests byte by byte, and a hash of everything on its disk."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

START_SECONDS = 180
WRITE_TOKEN, READ_TOKEN = "write-s3cret", "read-s3cret"
BOUNDARY = "frontier"
_ADDRESS = re.compile(r" at http://\S+?:(\d+), studies in ")


@dataclass
class Attacked:
    """A running process, its folders, and what it has logged."""

    process: subprocess.Popen
    home: Path  # holds `studies`, `outside`, the working folder and the temporary files
    lines: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def studies(self) -> Path:
        return self.home / "studies"

    @property
    def outside(self) -> Path:
        return self.home / "outside"

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


@dataclass(frozen=True)
class Answer:
    """What came back over the socket."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict:
        return json.loads(self.body)


def started(home: Path, *options: str, **environment: str) -> Attacked:
    """`python -m bird_server` with bird-mini, in a home of its own, when it answers."""
    for name in ("studies", "outside", "work", "tmp"):
        (home / name).mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MONAI_LABEL_", "BIRD_"))}
    command = [sys.executable, "-u", "-m", "bird_server", "--studies", str(home / "studies")]
    process = subprocess.Popen(
        [*command, "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=home / "work",
        env=kept | {"TMPDIR": str(home / "tmp")} | environment,
    )
    server = Attacked(process, home)
    threading.Thread(target=_read, args=(server,), daemon=True).start()
    _wait_for_port(server)
    return server


def _read(server: Attacked) -> None:
    for line in server.process.stdout:
        server.lines.append(line)


def _wait_for_port(server: Attacked) -> None:
    for _ in range(START_SECONDS * 10):
        found = _ADDRESS.search(server.log)
        if found:
            server.port = int(found[1])
            return
        assert server.process.poll() is None, server.log
        time.sleep(0.1)
    server.process.kill()
    raise TimeoutError(server.log)


def tree(folder: Path) -> dict[str, str]:
    """Path -> hash of the bytes, or where a link leads, for everything below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "folder"
    return found


def settled(server: Attacked) -> dict[str, str]:
    """The tree of the server's home, when it has done what earlier requests left to do."""
    before, now = None, tree(server.home)
    while before != now:
        time.sleep(0.05)
        before, now = now, tree(server.home)
    return now


def forgets(server: Attacked, image: str) -> bool:
    """Whether the list of images, which follows the folder a moment later, lacks it by now."""
    return f'"{image}"' not in (server.studies / "datastore_v2.json").read_text()


def exchange(server: Attacked, request: bytes, timeout_s: float = 60) -> bytes:
    """Sends bytes as they stand; the whole answer to them."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=timeout_s) as connection:
        connection.sendall(request)
        return received(connection, has_body=not request.startswith(b"HEAD "))


def received(connection: socket.socket, has_body: bool = True) -> bytes:
    """One answer, to the end of its body, or what came until the server closed."""
    answer = bytearray()
    while not _is_whole(bytes(answer), has_body) and (chunk := connection.recv(65536)):
        answer += chunk
    return bytes(answer)


def _is_whole(answer: bytes, has_body: bool) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
    if not end or not has_body or b" 204 " in head[:20]:
        return bool(end)
    return len(body) == int(length[1]) if length else body.endswith(b"0\r\n\r\n")


def send_until_closed(connection: socket.socket, piece: bytes, times: int) -> None:
    """Sends a piece again and again, as long as the server listens."""
    for _ in range(times):
        try:
            connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            return


def ask(
    server: Attacked,
    method: str,
    target: str,
    body: bytes = b"",
    token: str | None = WRITE_TOKEN,
    **headers: str,
) -> Answer:
    """One request whose target and headers are sent as they stand; `_` in names becomes `-`."""
    lines = {"Host": f"127.0.0.1:{server.port}", "Content-Length": str(len(body))}
    lines |= {k.replace("_", "-"): v for k, v in headers.items()}
    if token is not None:
        lines["Authorization"] = f"Bearer {token}"
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
    return parsed(exchange(server, head.encode("latin-1") + b"\r\n" + body))


def parsed(answer: bytes) -> Answer:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = _joined(body)
    return Answer(int(first.split()[1]), headers, body)


def _joined(body: bytes) -> bytes:
    whole = bytearray()
    while body:
        size, _, rest = body.partition(b"\r\n")
        whole += rest[: int(size, 16)]
        body = rest[int(size, 16) + 2 :]
    return bytes(whole)


def ask_json(server: Attacked, method: str, target: str, value: object, **headers: str) -> Answer:
    body = json.dumps(value).encode()
    return ask(server, method, target, body, content_type="application/json", **headers)


def form(fields: dict[str, str], **files: tuple[str, bytes]) -> tuple[bytes, str]:
    """A multipart body and its content type; file names are written as they stand."""
    parts = [f'name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    for name, (filename, content) in files.items():
        kind = b"Content-Type: application/octet-stream"
        head = f'name="{name}"; filename="{filename}"\r\n'.encode("utf-8", "surrogateescape")
        parts.append(head + kind + b"\r\n\r\n" + content)
    start = f"--{BOUNDARY}\r\nContent-Disposition: form-data; ".encode()
    body = b"".join(start + part + b"\r\n" for part in parts)
    return body + f"--{BOUNDARY}--\r\n".encode(), f"multipart/form-data; boundary={BOUNDARY}"


def assert_refused(answer: Answer, *statuses: int) -> dict:
    """A JSON problem with one of the statuses, which hides nothing in HTML."""
    assert answer.status in statuses, (answer.status, answer.body[:500])
    assert answer.headers["content-type"] == "application/json"
    problem = answer.json()
    assert {"error", "detail", "hint"} <= set(problem)
    assert problem["detail"]
    return problem
