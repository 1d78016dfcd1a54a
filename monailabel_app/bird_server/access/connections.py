"""HTTP connections that may not hang: headers must come in time, bad HTTP is answered as JSON.

uvicorn waits forever for a request that never comes, and answers malformed ones in plain text.
Knows nothing about requests that are whole.
"""

from __future__ import annotations

import asyncio
import json

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from bird_server.errors import Problem

HEADERS_S = 15.0  # from the connection, or the last answer, to the end of a request's headers
MAX_CONNECTIONS = 1000
_MALFORMED = Problem(400, "bad_http", "this is no HTTP request", "Send HTTP/1.1.")


class HurriedProtocol(H11Protocol):
    """uvicorn's connection with a clock that runs whenever no request is under way."""

    headers_s = HEADERS_S
    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.close()
            return
        self._wind()

    def data_received(self, data: bytes) -> None:
        if not self._is_answering() and self._clock is None:
            self._wind()  # the next request of a kept connection has begun
        super().data_received(data)
        if self._is_answering():
            self._stop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Malformed HTTP. Where an answer is under way there is nothing to add but the end."""
        if self._is_answering():  # in the middle of a body: the route must not answer as well
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        body = json.dumps(_MALFORMED.body()).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        events = (
            h11.Response(status_code=_MALFORMED.status, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )
        for event in events:
            self.transport.write(self.conn.send(event))
        self.transport.close()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wind(self) -> None:
        self._clock = self.loop.call_later(self.headers_s, self.transport.close)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
