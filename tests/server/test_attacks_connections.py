"""What is no HTTP, and requests past their limits."""

from __future__ import annotations

import pytest

from attacked import Attacked, ask, ask_json, assert_refused, exchange, parsed, settled, tree

pytestmark = pytest.mark.slow


@pytest.fixture
def a_server(an_attacked_server) -> Attacked:
    return an_attacked_server


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"GET\r\n\r\n", id="no target"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
        pytest.param(b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", id="other version"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", id="two hosts"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 90_000, id="endless header"),
        pytest.param(b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", id="control character"),
        pytest.param(
            b"POST /bird/v1/ask HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
            b"Content-Length: 6\r\n\r\nhello!",
            id="two lengths",
        ),
        pytest.param(
            b"POST /bird/v1/ask HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            id="bad chunk",
        ),
    ],
)
def test_what_is_no_http_is_told_so_in_json(a_server, request_bytes):
    before = settled(a_server)

    answer = parsed(exchange(a_server, request_bytes))

    assert_refused(answer, 400, 401)
    assert tree(a_server.home) == before


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        pytest.param("/info/?" + "a=b&" * 101, {}, 400, id="query fields"),
        pytest.param("/info/?a=" + "b" * 9000, {}, 431, id="long query"),
        pytest.param("/" + "p" * 3000, {}, 431, id="long path"),
        pytest.param("/info/", {f"X{i}": "y" for i in range(101)}, 431, id="headers"),
        pytest.param("/bird/v1/ask", {"Content-Length": "9" * 30}, 400, id="endless length"),
    ],
)
def test_requests_have_their_limits(a_server, target, headers, status):
    answer = ask(a_server, "GET", target, **headers)

    assert_refused(answer, status, 413)


def test_numbers_that_no_database_holds_are_refused(a_server):
    fields = {"volume_id": "0" * 64, "question": "What?", "slice": 2**63}

    assert_refused(ask_json(a_server, "POST", "/bird/v1/ask", fields), 422)
