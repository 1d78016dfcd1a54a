"""The HTTP client: what it sends, what it makes of answers, and how each failure reads."""

import http.server
import json
import socket
import threading
import time

import pytest

from BiRDLib import errors
from BiRDLib.address import Address
from BiRDLib.client import Client
from scripted_server import HEALTH, error

RESULT = {
    "model": "m",
    "plane": "axial",
    "window": None,
    "findings": [],
    "absent": ["liver"],
    "volume": {},
    "timing_s": {},
}
BOX = {
    "label": "liver",
    "slice": 3,
    "score": 0.8,
    "box_pixel": [0, 0, 9, 9],
    "corners_ras": [[0, 0, 3], [9, 0, 3], [9, 9, 3], [0, 9, 3]],
}


@pytest.fixture
def a_client(a_server):
    return Client(a_server.address, timeout_s=2)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        pytest.param("localhost", "http://localhost:8000", id="host-only"),
        pytest.param(" 127.0.0.1:8123/ ", "http://127.0.0.1:8123", id="no-scheme"),
        pytest.param("http://a.b", "http://a.b:80", id="http"),
        pytest.param("https://a.b/bird/", "https://a.b:443/bird", id="https-with-path"),
        pytest.param("[::1]:9", "http://[::1]:9", id="ipv6"),
    ],
)
def test_address_is_read_with_or_without_scheme(text, url):
    assert Address(text).url == url


@pytest.mark.parametrize(
    "text", ["", "ftp://a", "a:port", "a:99999", "a b", "http://", "http://me:secret@a"]
)
def test_nonsense_is_no_address(text):
    with pytest.raises(errors.BadAddress) as caught:
        Address(text)
    assert "secret" not in caught.value.advice


def test_loopback_bypasses_the_proxy_and_other_hosts_use_it(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "")
    direct, prefix = Address("127.0.0.1:8000").connect(1)
    assert (direct.host, direct.port, prefix) == ("127.0.0.1", 8000, "")
    proxied, prefix = Address("bird.example").connect(1)
    assert (proxied.host, proxied.port, prefix) == (
        "proxy.example",
        3128,
        "http://bird.example:8000",
    )


def test_health_says_what_the_server_is(a_client):
    health = a_client.health()
    assert (health.model, health.device, health.max_labels) == ("bird-mini", "cpu", 64)
    assert health.labels == {"ct": ["liver", "spleen"]}


def test_token_is_sent_and_a_wrong_one_refused(a_server_with_token):
    address = a_server_with_token.address
    assert Client(address, "open sesame").health().model == "bird-mini"
    with pytest.raises(errors.Refused, match="token is missing"):
        Client(address, "wrong").health()


def test_upload_streams_the_file_and_tells_progress(a_server, a_client, tmp_path):
    stored = {"volume_id": "abc", "volume": {"shape_ijk": [1, 2, 3], "ijk_to_ras": [[1] * 4] * 4}}
    a_server.says("PUT", "/volumes", 201, stored)
    path = tmp_path / "scan 1.nrrd"
    path.write_bytes(bytes(range(256)) * 4000)
    told = []
    assert a_client.upload(path, lambda done, total: told.append((done, total))).volume_id == "abc"
    assert a_server.requests[-1][3] == path.read_bytes()
    assert len(told) > 2
    assert told[-1] == (1024000, 1024000)


@pytest.mark.parametrize("before", [None, b"an earlier report"], ids=["new", "there before"])
def test_a_download_that_breaks_off_leaves_the_file_as_it_was(a_server, a_client, tmp_path, before):
    served, report = tmp_path / "served", tmp_path / "report.html"
    served.write_bytes(bytes(600_000))
    if before is not None:
        report.write_bytes(before)
    a_server.serves_file("/cases/1/export", served, "report.html", lacking=1)
    with pytest.raises(errors.ServerDown, match="broke off"):
        a_client.download("/cases/1/export", report)
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path != served}
    assert left == ({} if before is None else {"report.html": before})
    a_server.serves_file("/cases/1/export", served, "report.html")
    assert a_client.download("/cases/1/export", report).read_bytes() == served.read_bytes()


def test_grounding_reads_events_as_they_come(a_server, a_client):
    a_server.grounds(
        {"event": "progress", "done": 1, "total": 2, "boxes": [BOX]},
        {"event": "progress", "done": 2, "total": 2, "boxes": []},
        {"event": "result", "result": RESULT},
    )
    events = []
    grounding = a_client.ground("abc", ["liver"], slices=(3, 4), near=3, on_event=events.append)
    assert grounding.absent == ("liver",)
    assert [(event.done, len(event.boxes)) for event in events] == [(1, 1), (2, 0)]
    assert events[0].boxes[0].corners_ras[2] == (9, 9, 3)
    assert a_server.asked("/ground")[0] == {
        "volume_id": "abc",
        "labels": ["liver"],
        "plane": "axial",
        "slices": [3, 4],
        "window": None,
        "threshold": 0.5,
        "near": 3,
    }


def test_refer_and_ask_return_words(a_server, a_client):
    told = {"model": "m", "text": "liver", "slice": 7, "plane": "axial"}
    a_server.says("POST", "/refer", 200, dict(told, task="roc", score=0.75, box_pixel=[0, 0, 1, 1]))
    a_server.says("POST", "/ask", 200, told)
    referring = a_client.refer("abc", (0, 1, 2, 3, 4, 5), window=(40.0, 400.0))
    assert (referring.text, referring.score, referring.slice) == ("liver", 0.75, 7)
    assert a_server.asked("/refer")[0]["box_ras"] == [0, 1, 2, 3, 4, 5]
    assert a_client.ask("abc", "what?", slice_index=7).text == "liver"
    assert a_server.asked("/ask")[0]["slice"] == 7


HTTP_FAILURES = [
    pytest.param(401, error("unauthorized"), errors.Refused, id="401"),
    pytest.param(403, b"no", errors.Forbidden, id="403"),
    pytest.param(404, error("unknown_volume"), errors.NotFound, id="404"),
    pytest.param(404, {"detail": "Not Found"}, errors.NotFound, id="404-of-another-server"),
    pytest.param(413, error("too_large"), errors.BadRequest, id="413"),
    pytest.param(422, error("unknown_label"), errors.BadRequest, id="422"),
    pytest.param(302, b"", errors.NotFound, id="redirect"),
    pytest.param(500, b"Internal Server Error", errors.ServerFault, id="500"),
    pytest.param(502, b"<html>bad gateway", errors.ServerDown, id="502"),
    pytest.param(503, error("busy"), errors.ServerFault, id="503"),
    pytest.param(200, b"<html>", errors.ServerFault, id="html"),
    pytest.param(200, [1], errors.ServerFault, id="no-object"),
    pytest.param(200, dict(HEALTH, api=2), errors.VersionMismatch, id="newer"),
    pytest.param(200, {"status": "ok"}, errors.VersionMismatch, id="no-version"),
    pytest.param(200, {"api": 1}, errors.ServerFault, id="lacks-fields"),
]


@pytest.mark.parametrize(("status", "answer", "kind"), HTTP_FAILURES)
def test_each_failure_has_its_type_and_says_what_to_do(a_server, a_client, status, answer, kind):
    a_server.says("GET", "/health", status, answer)
    with pytest.raises(errors.BirdError) as caught:
        a_client.health()
    assert type(caught.value) is kind
    assert caught.value.hint


def test_failures_read_differently(a_server, a_client):
    told = set()
    for parameters in HTTP_FAILURES:
        status, answer, _ = parameters.values
        a_server.says("GET", "/health", status, answer)
        with pytest.raises(errors.BirdError) as caught:
            a_client.health()
        told.add((type(caught.value).__name__, caught.value.advice))
    own_words = {advice for _, advice in told if "what went wrong" not in advice}
    assert len(own_words) == 10
    assert all(len(words) > 30 for words in own_words)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        pytest.param(401, "does not take this token", id="401"),
        pytest.param(403, "knows you, but does not allow this", id="403"),
        pytest.param(404, "knows no BiRD there", id="404"),
        pytest.param(409, "has something newer", id="409"),
        pytest.param(429, "declines", id="429"),
        pytest.param(500, "failed", id="500"),
        pytest.param(504, "cannot reach the BiRD server behind it", id="504"),
    ],
)
def test_a_failure_without_words_gets_ours_with_its_number(a_server, a_client, status, words):
    a_server.says("GET", "/health", status, b"")
    with pytest.raises(errors.BirdError, match=words) as caught:
        a_client.health()
    assert str(status) in str(caught.value)
    assert a_server.address in str(caught.value)


def test_https_to_a_server_without_it_is_told(a_server):
    with pytest.raises(errors.ServerDown, match="does not speak https"):
        Client("https://" + a_server.address).health()


def test_the_servers_own_words_and_code_are_kept(a_server, a_client):
    a_server.says("POST", "/ground", 422, error("unknown_label", "No 'livr'.", "Known: liver."))
    with pytest.raises(errors.BadRequest) as caught:
        a_client.ground("abc", ["livr"])
    assert (caught.value.code, caught.value.advice) == ("unknown_label", "No 'livr'. Known: liver.")


@pytest.mark.parametrize(
    "field", ["model", "plane", "window", "findings", "absent"], ids=lambda name: f"no-{name}"
)
def test_a_result_that_lacks_a_field_is_a_server_fault(a_server, a_client, field):
    result = {key: value for key, value in RESULT.items() if key != field}
    a_server.grounds({"event": "result", "result": result})
    with pytest.raises(errors.ServerFault, match=field):
        a_client.ground("abc", ["liver"])


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"slice": "3"}, id="slice-is-text"),
        pytest.param({"score": None}, id="no-score"),
        pytest.param({"score": float("nan")}, id="score-nan"),
        pytest.param({"corners_ras": [[0, 0, 0]] * 3}, id="three-corners"),
        pytest.param({"corners_ras": [[0, 0]] * 4}, id="flat-corners"),
        pytest.param({"corners_ras": [[0, 0, 0]] * 4}, id="no-extent"),
        pytest.param({"label": 5}, id="label-is-number"),
    ],
)
def test_a_malformed_box_is_a_server_fault(a_server, a_client, change):
    boxes = [dict(BOX, **change)]
    a_server.grounds({"event": "progress", "done": 1, "total": 1, "boxes": boxes})
    with pytest.raises(errors.ServerFault):
        a_client.ground("abc", ["liver"], on_event=print)


def test_an_error_in_the_stream_is_a_server_fault(a_server, a_client):
    a_server.grounds({"event": "error", **error("out_of_memory", "No memory.", "Ask for less.")})
    with pytest.raises(errors.ServerFault, match="No memory"):
        a_client.ground("abc", ["liver"])


def test_a_stream_that_breaks_off_is_a_server_down(a_server, a_client):
    a_server.script["POST", "/ground"] = lambda handler, body: handler.connection.close()
    with pytest.raises(errors.ServerDown):
        a_client.ground("abc", ["liver"])


def test_a_stream_without_result_is_no_answer(a_server, a_client):
    a_server.grounds({"event": "progress", "done": 1, "total": 2, "boxes": []})
    with pytest.raises(errors.ServerDown, match="without a result"):
        a_client.ground("abc", ["liver"])


def test_nothing_at_the_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(errors.ServerDown, match="No server runs") as caught:
        Client(f"127.0.0.1:{port}").health()
    assert "bird serve" in caught.value.hint


def test_unknown_host_name():
    with pytest.raises(errors.ServerDown, match="no-such-host"):
        Client("no-such-host.invalid:8000", timeout_s=5).health()


def test_what_answers_is_no_web_server():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_shout, args=(listener,), daemon=True).start()
        with pytest.raises(errors.ServerDown, match="no web server"):
            Client(f"127.0.0.1:{listener.getsockname()[1]}").health()


def test_a_silent_server_times_out(a_server):
    a_server.script["GET", "/health"] = lambda handler, body: a_server.released.wait(10)
    started = time.monotonic()
    with pytest.raises(errors.ServerDown, match="in time"):
        Client(a_server.address, timeout_s=0.2).health()
    assert time.monotonic() - started < 2


def test_a_silent_stream_can_be_cancelled(a_server, a_client):
    progress = {"event": "progress", "done": 1, "total": 9, "boxes": []}
    a_server.grounds(progress, lambda: a_server.released.wait(10))
    stop = threading.Event()
    with pytest.raises(errors.Cancelled):
        a_client.ground("abc", ["x"], on_event=lambda event: stop.set(), cancelled=stop.is_set)


def test_an_upload_can_be_cancelled(a_client, tmp_path):
    path = tmp_path / "scan.nrrd"
    path.write_bytes(bytes(5_000_000))
    sent = []
    with pytest.raises(errors.Cancelled):
        a_client.upload(path, lambda *now: sent.append(now), cancelled=lambda: len(sent) >= 3)
    assert len(sent) == 3


def test_a_refusal_before_the_upload_has_ended_is_heard(tmp_path):
    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_PUT(self):
            data = json.dumps(error("too_large", "At most 1 MB.")).encode()
            self.send_response(413)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
            while self.rfile.read(65536):
                """The rest of the upload is thrown away, as web servers do."""

        def log_message(self, *arguments):
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        path = tmp_path / "scan.nrrd"
        path.write_bytes(bytes(3_000_000))
        with pytest.raises(errors.BadRequest, match="At most 1 MB"):
            Client(f"127.0.0.1:{server.server_address[1]}").upload(path)
        server.shutdown()


def _shout(listener):
    connection, _ = listener.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(b"SSH-2.0-nobody\r\n")
