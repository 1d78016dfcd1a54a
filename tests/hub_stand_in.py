"""A hub of one model on localhost: the few routes of the hub's HTTP API that a fetch needs.

What it does wrong is set by its fields. Speaks HTTP; knows nothing about bird_vlm.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "5" * 40
LARGE = (".safetensors", ".bin")  # kept by the hub with a sha256; other files with git's sha1


@dataclass
class HubStandIn:
    """One repository, and how the hub treats those who ask for it."""

    model_id: str
    files: dict[str, bytes]
    refuse: tuple[int, str] | None = None  # status and X-Error-Code for every download
    listing: str | None = None  # instead of JSON
    sizes: dict[str, int] = field(default_factory=dict)  # said instead of the true ones
    sent: dict[str, bytes] = field(default_factory=dict)  # instead of the true bytes
    cut_once: dict[str, int] = field(default_factory=dict)  # hang up after so many bytes
    broken: set[str] = field(default_factory=set)  # 503 instead of the bytes
    downloads: list[tuple[str, str | None]] = field(default_factory=list)  # name, Range
    requests: int = 0
    url: str = ""

    @property
    def downloaded(self) -> set[str]:
        return {name for name, _ in self.downloads}

    def info(self) -> dict:
        files = [self._entry(name) for name in self.files]
        siblings = [
            {"rfilename": f["path"], "size": f["size"], "blobId": f["oid"], "lfs": _lfs_info(f)}
            for f in files
        ]
        return {"id": self.model_id, "sha": COMMIT, "siblings": siblings, "private": False}

    def tree(self) -> list[dict]:
        return [self._entry(name) for name in self.files]

    def _entry(self, name: str) -> dict:
        content = self.files[name]
        size = self.sizes.get(name, len(content))
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry = {"type": "file", "path": name, "size": size, "oid": blob}
        if name.endswith(LARGE):
            digest = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": digest, "size": size, "pointerSize": 130}
        return entry

    def etag(self, name: str) -> str:
        entry = self._entry(name)
        return entry.get("lfs", entry)["oid"]


def _lfs_info(entry: dict) -> dict | None:
    lfs = entry.get("lfs")
    return lfs and {"sha256": lfs["oid"], "size": lfs["size"], "pointerSize": 130}


@contextmanager
def serving(hub: HubStandIn) -> Iterator[HubStandIn]:
    """Serve `hub` on a free port of localhost; its address is in `hub.url`."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: HubStandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.hub.requests += 1
        path = unquote(urlsplit(self.path).path)
        api, files = f"/api/models/{self.hub.model_id}", f"/{self.hub.model_id}/resolve/"
        if path.startswith(f"{api}/tree/"):
            self._json(json.dumps(self.hub.tree()))
        elif path == api or path.startswith(f"{api}/revision/"):
            self._json(self.hub.listing or json.dumps(self.hub.info()))
        elif path.startswith(files):
            self._file(path.removeprefix(files).partition("/")[2])
        else:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *args):
        """Quiet."""

    def _json(self, text: str) -> None:
        self._answer(200, text.encode(), {"Content-Type": "application/json"})

    def _file(self, name: str) -> None:
        hub = self.hub
        if hub.refuse:
            return self._answer(hub.refuse[0], b"", {"X-Error-Code": hub.refuse[1]})
        if name in hub.broken and self.command == "GET":
            return self._answer(503, b"", {})
        asked = self.headers.get("Range")
        if self.command == "GET":
            hub.downloads.append((name, asked))
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        content = hub.sent.get(name, hub.files[name]) if self.command == "GET" else hub.files[name]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hub.etag(name)}"', "Accept-Ranges": "bytes"}
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut = hub.cut_once.pop(name, None) if self.command == "GET" else None
        return self._answer(206 if asked else 200, content[start:], headers, cut)

    def _answer(self, status: int, body: bytes, headers: dict, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        self.close_connection = cut is not None
