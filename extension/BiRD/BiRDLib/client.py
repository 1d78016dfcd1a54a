"""HTTP to the BiRD server, protocol version 1. Standard library only.

Knows nothing about Slicer, MRML, Qt or threads of its caller: every call blocks until it is
answered, cancelled or failed, and fails with one of the errors of `errors.py`.
"""

import http.client
import json
import shutil
import socket
import threading
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from . import answers
from .address import Address
from .errors import BirdError, Cancelled, ServerDown, ServerFault, VersionMismatch
from .fields import json_object
from .i18n import tr as _
from .refusals import refusal, told_error, unreachable

API = 1
PREFIX = "/bird/v1"
CHUNK_BYTES = 1 << 18
CANCEL_POLL_S = 0.1


class Client:
    """One server and how to reach it; holds no connection between calls.

    `timeout_s` limits connecting and short answers, `patience_s` the silence while the server
    reads an upload or thinks about a batch.
    """

    def __init__(self, url, token=None, timeout_s=10.0, patience_s=300.0):
        self.address = Address(url)
        self._token = (token or "").strip()
        self._timeout_s = timeout_s
        self._patience_s = patience_s

    def health(self):
        """answers.Health of the server; raises VersionMismatch where it speaks another protocol."""
        answer = self.call("GET", "/health", patience_s=self._timeout_s)
        api = answer.get("api")
        if api != API:
            raise VersionMismatch(
                _("The server speaks BiRD protocol {!r}, this module speaks {}.").format(api, API)
            )
        return answers.read_health(answer)

    def upload(self, path, progress=None, cancelled=None):
        """Sends a volume file in pieces and returns answers.StoredVolume.

        `progress(sent, total)` is called in bytes after each piece; `cancelled()` is asked before.
        """
        path = Path(path)
        with path.open("rb") as stream:
            body = _pieces(stream, path.stat().st_size, progress, cancelled)
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(path.stat().st_size),
            }
            target = "/volumes?name=" + quote(path.name)
            return answers.read_stored_volume(
                self.call("PUT", target, body, headers, cancelled=cancelled)
            )

    def ground(self, volume_id, labels, plane="axial", slices=None, window=None, threshold=0.5,
               near=None, on_event=None, cancelled=None):  # fmt: skip
        """Where are these things? Returns answers.Grounding.

        `slices` is a half-open range of indices or None for all, `window` (level, width) or None
        for the server's choice. `on_event(answers.Progress)` is called per batch.
        """
        question = {
            "volume_id": volume_id,
            "labels": list(labels),
            "plane": plane,
            "slices": slices,
            "window": window,
            "threshold": threshold,
            "near": near,
        }
        with self._open("POST", "/ground", *json_body(question), cancelled=cancelled) as response:
            for event in _events(response):
                if event.get("event") == "result":
                    return answers.read_grounding(event.get("result"))
                if event.get("event") == "error":
                    raise told_error(ServerFault, event, _("The server stopped with an error."))
                if event.get("event") == "progress" and on_event is not None:
                    on_event(answers.read_progress(event))
            raise ServerDown(_("The server's answer ended without a result."), _("Ask again."))

    def refer(self, volume_id, box_ras, task="roc", plane="axial", window=None, cancelled=None):
        """What is in this box? Returns answers.Referring. `box_ras`: two opposite corners, mm."""
        question = {
            "volume_id": volume_id,
            "box_ras": list(box_ras),
            "task": task,
            "plane": plane,
            "window": window,
        }
        return answers.read_referring(
            self.call("POST", "/refer", *json_body(question), cancelled=cancelled)
        )

    def ask(self, volume_id, question, plane="axial", slice_index=0, window=None, cancelled=None):
        """A free question about one slice. Returns answers.Reply."""
        body = {
            "volume_id": volume_id,
            "question": question,
            "plane": plane,
            "slice": slice_index,
            "window": window,
        }
        return answers.read_reply(self.call("POST", "/ask", *json_body(body), cancelled=cancelled))

    def call(self, method, target, body=None, headers=(), patience_s=None, cancelled=None):
        """The JSON object that a request under /bird/v1 is answered with."""
        with self._open(method, target, body, headers, patience_s, cancelled) as response:
            return json_object(response.read())

    def download(self, target, path, cancelled=None, prefix=PREFIX):
        """Writes an answer that is a file to `path`, in pieces; returns the path.

        Where `path` is a folder, the file gets the name that the server gives it. The file is
        whole, or as it was before.
        """
        with self._open("GET", target, cancelled=cancelled, prefix=prefix) as response:
            path = Path(path)
            path = path / _file_name(response) if path.is_dir() else path
            with _replacing(path) as stream:
                shutil.copyfileobj(response, stream, CHUNK_BYTES)
                _require_whole(response)
        return path

    @contextmanager
    def _open(self, method, target, body=None, headers=(), patience_s=None, cancelled=None,
              prefix=PREFIX):  # fmt: skip
        """An answered request; every failure inside the `with` becomes one of our errors."""
        connection, where = self.address.connect(self._timeout_s)
        headers = dict(headers, Accept="application/json", Connection="close")
        if self._token:
            headers["Authorization"] = "Bearer " + self._token
        try:
            connection.connect()
            connection.sock.settimeout(patience_s or self._patience_s)
            with _breaking_off(connection.sock, cancelled):
                _send(connection, method, where + prefix + target, body, headers)
                response = connection.getresponse()
                if not 200 <= response.status < 300:
                    raise refusal(self.address, response)
                yield response
        except (BirdError, OSError, http.client.HTTPException) as error:
            if cancelled is not None and cancelled():
                raise Cancelled("Cancelled.") from error
            if isinstance(error, BirdError):
                raise
            raise unreachable(self.address, error) from error
        finally:
            connection.close()


@contextmanager
def _replacing(path):
    """A stream that becomes the file at its end; what fails before leaves no trace."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as stream:
            yield stream
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _require_whole(response):
    """`http.client` reads a file whose sender hung up in the middle as one that ends there."""
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)


def _file_name(response):
    """The name in Content-Disposition, without any folder in it."""
    name = response.headers.get_filename("") or "answer"
    return Path(name.replace("\\", "/")).name or "answer"


def _send(connection, method, target, body, headers):
    """Sends a request; where the server hangs up in the middle, its answer is still read."""
    try:
        connection.request(method, target, body=body, headers=headers)
    except (BrokenPipeError, ConnectionResetError):
        if body is None or connection.sock is None:
            raise


def _pieces(stream, total, progress, cancelled):
    sent = 0
    while True:
        if cancelled is not None and cancelled():
            raise Cancelled(_("Upload cancelled."))
        piece = stream.read(CHUNK_BYTES)
        if not piece:
            return
        yield piece
        sent += len(piece)
        if progress is not None:
            progress(sent, total)


@contextmanager
def _breaking_off(sock, cancelled):
    """Shuts the socket down as soon as `cancelled()` turns true: a blocked read then returns."""
    if cancelled is None:
        yield
        return
    over = threading.Event()

    def watch():
        while not over.wait(CANCEL_POLL_S):
            if cancelled():
                _shut_down(sock)
                return

    watcher = threading.Thread(target=watch, name="BiRD cancel", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _shut_down(sock):
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        sock.close()  # the server was faster


def json_body(question):
    return json.dumps(question).encode(), {"Content-Type": "application/json"}


def _events(response):
    for line in response:
        if line.strip():
            yield json_object(line)
