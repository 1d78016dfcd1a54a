"""What a browser says to the page's server, without a browser: trame's own protocol. Test helper.

State and triggers over a real websocket. Knows nothing about BiRD.
"""

import asyncio
import itertools

import aiohttp
import msgpack
from wslink.chunking import UnChunker, generate_chunks

PATIENCE_S = 120


class PageClient:
    """One connection; `state` follows the server's, `frames` counts the pictures per view."""

    def __init__(self):
        self.state = {}
        self.frames = {}
        self._sizes = {}
        self._session = self._socket = self._reader = None
        self._numbers = itertools.count()
        self._answers = {}
        self._unchunker = UnChunker()
        self._unchunker.set_max_message_size(1 << 30)

    async def open(self, address, key):
        """Connects to "host:port"; raises PermissionError where the server refuses the key."""
        self._session = aiohttp.ClientSession()
        self._socket = await self._session.ws_connect(f"ws://{address}/ws", max_msg_size=1 << 28)
        self._reader = asyncio.create_task(self._read())
        answer = await self._call("wslink.hello", {"secret": key}, kind="system")
        if "error" in answer:
            raise PermissionError(answer["error"]["message"])
        await self._call("trame.state.get")
        return self

    async def close(self):
        if self._socket is not None:
            await self._socket.close()
            await self._reader
        await self._session.close()

    async def type(self, **values):
        """Sets fields of the page."""
        changes = [{"key": f"Page__{name}", "value": value} for name, value in values.items()]
        self.state.update({change["key"]: change["value"] for change in changes})
        await self._call("trame.state.update", changes)
        await self._caught_up()

    async def press(self, action, *arguments):
        """Presses a button; returns what its action does."""
        answer = await self._call("trame.trigger", action, list(arguments), {})
        assert "error" not in answer, answer["error"]
        await self._caught_up()
        return answer["result"]

    async def resize(self, view, width, height):
        self._sizes[view] = {"w": width, "h": height}
        await self._call("trame.rca.size", view, "test", {"w": width, "h": height, "p": 1})

    async def mouse(self, view, kind, x, y):
        """A mouse event ("MouseMove", "LeftButtonPress" ...) at a pixel, from the lower left.

        The view must have its size.
        """
        event = {"type": kind, "x": x, "y": y, "z": 0, **self._sizes[view]}
        event.update(dict.fromkeys(("ctrlKey", "shiftKey", "altKey"), 0))
        await self._call("trame.rca.event", view, "test", event)

    async def click(self, view, x, y):
        for kind in ("MouseMove", "LeftButtonPress", "LeftButtonRelease", "MouseMove"):
            await self.mouse(view, kind, x, y)

    def shows(self, name):
        """A field of the page as this browser shows it."""
        return self.state[f"Page__{name}"]

    async def until(self, condition, what):
        """Waits until `condition(self)`; `what` is for the message of a failure."""
        end = asyncio.get_running_loop().time() + PATIENCE_S
        while not condition(self):
            page = {k: v for k, v in self.state.items() if k.startswith("Page__")}
            assert asyncio.get_running_loop().time() < end, f"never {what}: {page}"
            await asyncio.sleep(0.02)

    async def _caught_up(self):
        """What an answer's work changed is told after it, but before the next answer."""
        await self._call("trame.rca.reset", "no view")

    async def _call(self, method, *arguments, kind="rpc"):
        number = f"{kind}:test:{next(self._numbers)}"
        message = {"wslink": "1.0", "id": number, "method": method, "args": list(arguments)}
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        for chunk in generate_chunks(msgpack.packb(message), 0):
            await self._socket.send_bytes(chunk)
        return await asyncio.wait_for(answer, PATIENCE_S)

    async def _read(self):
        async for packet in self._socket:
            message = self._unchunker.process_chunk(packet.data)
            if message is not None:
                self._take(message)

    def _take(self, message):
        kind = message.get("id", "").partition(":")[0]
        if kind in ("rpc", "system"):
            answered = message.get("result")
            if isinstance(answered, dict) and "state" in answered:  # in order with what follows
                self.state.update(answered["state"])
            self._answers.pop(message["id"]).set_result(message)
        elif message["id"].startswith("publish:trame.state"):
            self.state.update(message["result"])
        elif message["id"].startswith("publish:trame.rca"):
            name = message["result"]["name"]
            self.frames[name] = self.frames.get(name, 0) + 1
