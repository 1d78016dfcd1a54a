"""The real server's routes and review store on a socket, around a model that answers by script.

Test helper. Needs the server's packages, but neither MONAI Label nor weights.
"""

import socket
import threading
import time

import uvicorn
from fastapi import FastAPI

from bird_server import service
from bird_server.errors import answer_as_json
from bird_server.review.review import Review
from bird_server.routes import api, reviews
from bird_server.volumes.volumes_store import StoreLimits, VolumesStore
from bird_vlm.contract import AskingResult, GroundingResult, Progress, SliceBox
from bird_vlm.linking import link_findings
from bird_vlm.slices import slice_stack

LEFT, RIGHT = (5.0, 8.0, 20.0, 25.0), (35.0, 10.0, 50.0, 30.0)
FOUND_ON = range(4, 9)


class Card:
    id = "scripted"
    labels = {"ct": ["liver", "spleen", "gallbladder"]}  # noqa: RUF012
    device = "cpu"
    note = ""


class TwoOrgans:
    """Finds liver and spleen on `FOUND_ON`, never a gallbladder."""

    card = Card()
    version = "0123456789abcdef"

    def grounding_events(self, volume, request):
        stack = slice_stack(volume.geometry(), request.plane)
        places = {"liver": (LEFT, 0.9), "spleen": (RIGHT, 0.6)}
        findings, boxes = [], []
        for label in request.labels:
            if label in places:
                box, score = places[label]
                own = [SliceBox(k, score, box, stack.corners_ras(k, box)) for k in FOUND_ON]
                boxes += [(label, each) for each in own]
                findings += link_findings(label, own, stack)
        yield Progress(1, 1, tuple(boxes))
        found = {finding.label for finding in findings}
        yield GroundingResult(
            volume=volume.geometry(),
            model=self.card.id,
            plane=request.plane,
            window=request.window,
            findings=tuple(findings),
            absent=tuple(label for label in request.labels if label not in found),
        )

    def ask(self, volume, question, plane, index, window):
        text = "The <ref>liver</ref><box>(83,160),(333,500)</box> is here."
        return AskingResult(self.card.id, text, 0.9, index, plane)


class ReviewServer:
    """Listens until `close()`; `store` is its review store."""

    def __init__(self, studies):
        self._review = Review.open(studies)
        self.store = self._review.store
        volumes = VolumesStore(studies / ".bird" / "volumes", StoreLimits(1 << 28))
        model = TwoOrgans()
        self._service = service.Service(volumes, lambda *ignored: model, review=self._review)
        service.use(self._service)
        app = FastAPI()
        app.include_router(api.router)
        app.include_router(reviews.router)
        answer_as_json(app)
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{listener.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        run = {"sockets": [listener]}
        self._thread = threading.Thread(target=self._server.run, kwargs=run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.02)

    def close(self):
        self._server.should_exit = True
        self._thread.join(10)
        self._service.close()
        service.use(None)
