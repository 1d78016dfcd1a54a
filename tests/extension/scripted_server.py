"""A small real HTTP server that answers by script: a failure can be provoked, a wait be timed.

Test helper. It speaks protocol 1 by default; `script[method, path]` replaces one answer.
"""

import hashlib
import json
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import SimpleITK

API = "/bird/v1"


class ScriptedServer:
    """Listens on a free port of this machine until `close()`; `requests` keeps what was asked."""

    def __init__(self, token=None):
        self.token = token
        self.script = {}  # (method, path after /bird/v1) -> function(handler, body)
        self.requests = []  # (method, path, headers, body)
        self.released = threading.Event()  # what a scripted answer may wait for
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self._http.server_address[1]}"

    def says(self, method, path, status, answer):
        """From now on `method path` is answered with this status and JSON (or raw bytes)."""
        self.script[method, path] = lambda handler, body: handler.answer(status, answer)

    def serves_file(self, path, file, name, lacking=0):
        """From now on GET `path` is answered with a file under this name.

        The last `lacking` bytes never come.
        """
        self.script["GET", path] = lambda handler, body: handler.file(file, name, lacking)

    def grounds(self, *events):
        """From now on /ground streams these events."""
        self.script["POST", "/ground"] = lambda handler, body: handler.stream(events)

    def asked(self, path):
        """The JSON bodies that came to a path."""
        return [json.loads(body) for _, p, _, body in self.requests if p == path]

    def count(self, method, path):
        return sum(request[:2] == (method, path) for request in self.requests)

    def close(self):
        self.released.set()
        self._http.shutdown()
        self._http.server_close()


def error(code, detail="what went wrong", hint="what to do"):
    return {"error": code, "detail": detail, "hint": hint}


HEALTH = {
    "status": "ok",
    "version": "0.1.0",
    "api": 1,
    "model": {"id": "bird-mini", "labels": {"ct": ["liver", "spleen"]}, "device": "cpu"},
    "planes": ["axial", "coronal", "sagittal"],
    "limits": {"upload_bytes": 1 << 30, "labels": 64},
}


def stored_volume(data, suffix=".nrrd"):
    """What the real server answers to an upload: the geometry as another library reads it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "volume" + suffix)
        path.write_bytes(data)
        image = SimpleITK.ReadImage(str(path))
    ijk_to_ras = np.eye(4)
    directions = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    ijk_to_ras[:3, :3], ijk_to_ras[:3, 3] = directions, image.GetOrigin()
    ijk_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ijk_to_ras
    volume = {"shape_ijk": list(image.GetSize()), "ijk_to_ras": ijk_to_ras.tolist()}
    return {"volume_id": hashlib.sha256(data).hexdigest(), "volume": volume}


def _protocol(handler, method, path, body):
    if (method, path) == ("GET", "/health"):
        handler.answer(200, HEALTH)
    elif (method, path) == ("PUT", "/volumes"):
        handler.answer(201, stored_volume(body))
    else:
        handler.answer(404, error("unknown", f"nothing at {path}"))


def _handler(server):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def serve(self):
            path = urlsplit(self.path).path.removeprefix(API)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            server.requests.append((self.command, path, dict(self.headers), body))
            if server.token and self.headers.get("Authorization") != f"Bearer {server.token}":
                self.answer(401, error("unauthorized", "The token is missing or wrong."))
            elif (self.command, path) in server.script:
                server.script[self.command, path](self, body)
            else:
                _protocol(self, self.command, path, body)

        do_GET = do_PUT = do_POST = serve  # noqa: N815

        def answer(self, status, answer):
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def file(self, path, name, lacking):
            data = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Disposition", f'attachment; filename="../{name}"')
            self.end_headers()
            self.wfile.write(data[: len(data) - lacking])
            self.close_connection = bool(lacking)

        def stream(self, events):
            """One JSON object per chunk; a function among the events is called, as for a wait."""
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for event in events:
                if callable(event):
                    event()
                else:
                    self.chunk(event if isinstance(event, bytes) else json.dumps(event).encode())
            self.wfile.write(b"0\r\n\r\n")

        def chunk(self, line):
            self.wfile.write(b"%x\r\n%s\n\r\n" % (len(line) + 1, line))
            self.wfile.flush()

        def log_message(self, *arguments):
            """Tests read `requests`, not a log."""

    return Handler
