"""Headers and bodies that never end, against the running app, whose patience is short here."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import uvicorn

from attacked import ask, assert_refused, parsed, received, send_until_closed, tree
from bird_server import serve
from bird_server.access import bodies, connections
from bird_server.access.guard import Guard, Rules
from scripted import UPLOAD_LIMIT_BYTES, wait_until

HEADERS_S, BODY_S = 3.0, 1.0


class ShortOfTime(connections.HurriedProtocol):
    headers_s = HEADERS_S


@pytest.fixture
def an_impatient_server(a_server) -> Iterator:
    """The same app, with the connections of a started server and a guard that waits less."""
    from bird_server.asgi import app

    rules = Rules(UPLOAD_LIMIT_BYTES, patience_s=BODY_S)
    config = uvicorn.Config(Guard(app, rules), http=ShortOfTime, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    with serve.bound_socket("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        wait_until(lambda: server.started, seconds=60)
        port = listener.getsockname()[1]
        yield replace(a_server, url=f"http://127.0.0.1:{port}", port=port)
        server.should_exit = True
        thread.join(10)


def test_a_started_server_has_more_patience():
    assert Rules(UPLOAD_LIMIT_BYTES).patience_s == bodies.PATIENCE_S > 10 * BODY_S
    assert connections.HurriedProtocol.headers_s == connections.HEADERS_S > HEADERS_S


def test_headers_that_never_end_are_cut_off(an_impatient_server):
    with socket.create_connection(("127.0.0.1", an_impatient_server.port), timeout=60) as slow:
        slow.sendall(b"GET /bird/v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        begin = time.perf_counter()

        for _ in range(int(HEADERS_S / 0.25) - 1):
            time.sleep(0.25)
            send_until_closed(slow, b"X: y\r\n", 1)
        assert slow.recv(100) == b""

    assert HEADERS_S - 1 < time.perf_counter() - begin < HEADERS_S + 20
    assert ask(an_impatient_server, "GET", "/bird/v1/live").status == 200


def test_a_body_that_drips_is_cut_off(an_impatient_server):
    before = tree(an_impatient_server.studies)
    host = f"127.0.0.1:{an_impatient_server.port}"
    head = f"PUT /bird/v1/volumes?name=a.nii HTTP/1.1\r\nHost: {host}\r\n"
    with socket.create_connection(("127.0.0.1", an_impatient_server.port), timeout=60) as slow:
        slow.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode())
        for _ in range(int(BODY_S / 0.1) + 5):
            time.sleep(0.1)
            send_until_closed(slow, b"x", 1)
        answer = parsed(received(slow))

    assert_refused(answer, 408)
    assert tree(an_impatient_server.studies) == before
