"""The guard: who may ask, and what no request may name, asserted on the file system too."""

from __future__ import annotations

import asyncio
import http.client
import json

import pytest

from bird_server.access.guard import Guard, Rules
from bird_server.access.names import is_inside
from bird_server.access.origins import ListedOrigins
from bird_server.access.tokens import Tokens, is_loopback

RULES = Rules(upload_bytes=1000)


async def an_app(scope, receive, send):
    """Reads the whole body and answers with its length."""
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message["body"]), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


def through(app, method="GET", path="/info/", peer="127.0.0.1", **headers) -> list[dict]:
    """What is sent where `app` gets a request without a body."""
    headers = {"host": "127.0.0.1:8000"} | headers
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "client": (peer, 5000),
        "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
    }
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent


def ask(rules=RULES, **request) -> tuple[int, dict | int]:
    """Status and JSON of a request that passes through the guard to `an_app`."""
    start, body = through(Guard(an_app, rules), **request)
    return start["status"], json.loads(body["body"])


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1"])
@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:8000"])
def test_without_a_token_this_machine_may_ask(peer, host):
    assert ask(peer=peer, host=host)[0] == 200


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        pytest.param("192.168.1.5", "127.0.0.1:8000", id="other machine"),
        pytest.param("127.0.0.1", "evil.example:8000", id="DNS rebinding"),
        pytest.param("127.0.0.1", "", id="no host"),
        pytest.param("somewhere", "localhost", id="peer without address"),
    ],
)
def test_without_a_token_nobody_else_may_ask(peer, host):
    status, problem = ask(peer=peer, host=host)

    assert (status, problem["error"]) == (403, "token_required")
    assert "BIRD_TOKEN" in problem["hint"]


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        pytest.param("Bearer s3cret", 200, id="right"),
        pytest.param("bearer s3cret", 200, id="scheme in lower case"),
        pytest.param("Bearer s3cre", 401, id="shorter"),
        pytest.param("Bearer s3crett", 401, id="longer"),
        pytest.param("Bearer ", 401, id="empty"),
        pytest.param("Basic s3cret", 401, id="wrong scheme"),
        pytest.param("s3cret", 401, id="no scheme"),
        pytest.param("Bearer ümlaut", 401, id="not ASCII"),
        pytest.param("", 401, id="none"),
    ],
)
def test_with_a_token_everybody_needs_it(authorization, status):
    rules = Rules(upload_bytes=1000, tokens=Tokens(write="s3cret"))

    got, answer = ask(rules, peer="192.168.1.5", host="server:8000", authorization=authorization)

    assert got == status
    assert status == 200 or answer["error"] == "unauthorized"


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        pytest.param("http://127.0.0.1:8000", 200, id="own page"),
        pytest.param("http://127.0.0.1:9000", 403, id="other port"),
        pytest.param("https://evil.example", 403, id="other site"),
        pytest.param("null", 403, id="sandboxed page"),
    ],
)
def test_foreign_web_pages_may_not_ask(origin, status):
    assert ask(origin=origin)[0] == status


LISTED = "https://viewer.example"


@pytest.mark.parametrize(
    ("origin", "method", "status"),
    [
        pytest.param(LISTED, "GET", 200, id="listed"),
        pytest.param(LISTED, "OPTIONS", 200, id="listed, preflight"),
        pytest.param("https://evil.example", "GET", 403, id="other"),
        pytest.param("https://evil.example", "OPTIONS", 403, id="other, preflight"),
        pytest.param(f"{LISTED}.evil.example", "GET", 403, id="other that begins so"),
    ],
)
def test_listed_web_pages_may_ask(origin, method, status):
    rules = Rules(upload_bytes=1000, tokens=Tokens(write="s3cret"), origins=(LISTED,))
    app = ListedOrigins(Guard(an_app, rules), rules.origins)
    headers = {"origin": origin, "authorization": "Bearer s3cret"}
    if method == "OPTIONS":
        headers = {"origin": origin, "access-control-request-method": "PUT"}

    start, body = through(app, method=method, **headers)

    allowed = dict(start["headers"]).get(b"access-control-allow-origin", b"").decode()
    assert (start["status"], allowed) == (status, LISTED if status == 200 else "")
    assert status == 200 or json.loads(body["body"])["error"] == "cross_origin"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/bird/v1/cases", 200, id="look"),
        pytest.param("POST", "/bird/v1/ask", 200, id="ask"),
        pytest.param("POST", "/bird/v1/refer/", 200, id="refer"),
        pytest.param("POST", "/bird/v1/ground", 403, id="ground proposes"),
        pytest.param("PUT", "/bird/v1/volumes", 403, id="upload"),
        pytest.param("DELETE", "/session/x", 403, id="remove"),
    ],
)
def test_the_read_token_only_looks(method, path, status):
    rules = Rules(upload_bytes=1000, tokens=Tokens(write="change", read="look"))

    start, _ = through(Guard(an_app, rules), method, path, authorization="Bearer look")

    assert start["status"] == status


@pytest.mark.parametrize("length", ["1001", "-1", "many", "1" * 30])
def test_a_bad_or_large_announced_length_is_refused(length):
    assert ask(**{"content-length": length})[0] in (400, 413)


@pytest.mark.parametrize("path", ["scan.nii", "case 1/scan.nii.gz", "a..b", "...", "ünï.nii", "C"])
def test_names_inside_the_folder_pass(path):
    assert is_inside(path)


LEAD_ELSEWHERE = {
    "up": ["..", "../x", "a/../../b", "a\\..\\b"],
    "itself": [".", "a/./b", "a//b", "a/"],
    "absolute": ["/etc", "\\\\host\\x", "C:\\x", "c:x"],
    "control characters": ["a\0b", "a\nb", "\x7f"],
}


@pytest.mark.parametrize("path", [path for paths in LEAD_ELSEWHERE.values() for path in paths])
def test_names_that_lead_elsewhere_do_not(path):
    assert not is_inside(path)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.org", ""])
def test_other_hosts_are_not_this_machine(host):
    assert not is_loopback(host)


# --- on the running server, MONAI Label's own routes included


def raw(server, method, target, body=None, headers=None) -> tuple[int, dict]:
    """A request whose target is sent as it stands, without anybody tidying it up."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest(method, target, skip_accept_encoding=True)
    for key, value in ({"content-length": str(len(body or b""))} | (headers or {})).items():
        connection.putheader(key, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content)


BOUNDARY = "frontier"


def form(name: str, filename: str) -> tuple[bytes, dict[str, str]]:
    body = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\nevil\r\n--{BOUNDARY}--\r\n"
    )
    return body.encode(), {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


ESCAPES = [
    pytest.param("PUT", "/datastore/image?image=../evil", "file", id="image up"),
    pytest.param("PUT", "/datastore/image?image=a%2F..%2F..%2Fevil", "file", id="image encoded"),
    pytest.param("PUT", "/datastore/?image=..%5Cevil", "file", id="image backslash"),
    pytest.param("PUT", "/datastore/label?image=a&tag=../../evil", "label", id="tag"),
    pytest.param("DELETE", "/datastore/label?id=a&tag=../..", None, id="remove tag"),
    pytest.param("DELETE", "/session/%2e%2e", None, id="session up"),
    pytest.param("DELETE", "/session/%2e", None, id="session store itself"),
    pytest.param("GET", "/session/..%2f..%2fetc", None, id="session read"),
    pytest.param("GET", "/datastore/image?image=/etc/passwd", None, id="absolute image"),
    pytest.param("GET", "/datastore/image?image=a%00b", None, id="NUL"),
    pytest.param("GET", "/datastore/image?image=a%0ab", None, id="new line"),
    pytest.param("GET", "/ohif//etc/passwd", None, id="absolute in the path"),
    pytest.param("GET", "/static/../../config.py", None, id="static up"),
    pytest.param("GET", "/static/%2e%2e/%2e%2e/config.py", None, id="static up encoded"),
    pytest.param("POST", "/infer/bird_grounding?image=/etc/passwd", "file", id="infer absolute"),
    pytest.param("POST", "/infer/bird_grounding?session_id=../..", "file", id="infer session"),
    pytest.param("POST", "/infer/bird_grounding?image=C%3A%5Cx", "file", id="infer drive"),
    pytest.param("PUT", "/bird/v1/volumes?name=../evil.nii", None, id="our upload"),
    pytest.param("PUT", "/bird/v1/volumes?name=/tmp/evil.nii", None, id="our upload absolute"),
]


@pytest.mark.parametrize(("method", "target", "field"), ESCAPES)
def test_no_name_leads_out_of_the_studies_folder(a_server, method, target, field):
    body, headers = form(field, "evil.nii.gz") if field else (b"", {})
    before = sorted(a_server.studies.parent.rglob("*"))

    status, problem = raw(a_server, method, target, body, headers)

    assert (status, problem["error"]) == (400, "bad_path")
    assert sorted(a_server.studies.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("GET", "/datastore/dataset", id="archive of everything"),
        pytest.param("GET", "/proxy/dicom/wado/x", id="proxy"),
        pytest.param("GET", "/logs/", id="logs"),
        pytest.param("POST", "/reload", id="reload"),
        pytest.param("POST", "/infer/wsi/bird_grounding", id="pathology"),
        pytest.param("PUT", "/model/bird_grounding", id="replace weights"),
        pytest.param("DELETE", "/model/bird_grounding", id="delete weights"),
    ],
)
def test_routes_that_nobody_uses_are_closed(a_server, method, path):
    status, problem = raw(a_server, method, path)

    assert (status, problem["error"]) == (404, "closed")


def test_no_web_page_gets_leave_to_read_answers(a_session):
    answer = a_session.get("/info/", headers={"Origin": "https://evil.example"})

    assert answer.status_code == 403
    assert not [key for key in answer.headers if key.lower().startswith("access-control")]


def test_a_preflight_is_refused(a_session):
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "PUT"}

    answer = a_session.request("OPTIONS", "/bird/v1/volumes", headers=headers)

    assert answer.status_code == 403
