"""A server for the self-test inside Slicer, where no other can be counted on.

It speaks protocol 1 and finds one thing: the bright voxels, under the name "block". It reads the
NRRD files that `scene.writeVolume` writes without compression, of 16-bit voxels.
"""

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import urlsplit

import numpy as np

NAME = "block"
SCORE = 0.9
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
_NUMBER = r"[-+0-9.eE]+"


@contextmanager
def rehearsal():
    """Serves on a free port of this computer; gives the address."""
    server = HTTPServer(("127.0.0.1", 0), _Answers)
    server.volumes = {}  # volume_id -> _Scan
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield "127.0.0.1:{}".format(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


class _Scan:
    """An uploaded volume: `ijk` voxels (I, J, K) and `ijk_to_ras` (4, 4)."""

    def __init__(self, data):
        header, _separator, voxels = data.partition(b"\n\n")
        text = header.decode("ascii")
        sizes = [int(size) for size in re.search(r"sizes: (.*)", text).group(1).split()]
        kji = np.frombuffer(voxels, "<i2").reshape(sizes[::-1])
        self.ijk = kji.transpose(2, 1, 0)
        self.ijk_to_ras = np.eye(4)
        directions = _vectors(re.search(r"space directions: (.*)", text).group(1))
        self.ijk_to_ras[:3, :3] = (directions * _LPS_TO_RAS).T
        self.ijk_to_ras[:3, 3] = _vectors(re.search(r"space origin: (.*)", text).group(1))[0]
        self.ijk_to_ras[:3, 3] *= _LPS_TO_RAS

    def ras(self, ijk):
        return (self.ijk_to_ras @ [*ijk, 1.0])[:3].tolist()

    def block(self):
        """(low, high) edges of the bright voxels, in voxel indices."""
        bright = np.argwhere(self.ijk > self.ijk.max() / 2)
        return bright.min(0) - 0.5, bright.max(0) + 0.5

    def finding(self):
        """The block as a finding on axial slices, in the words of the protocol."""
        low, high = self.block()
        slices = range(int(low[2] + 0.5), int(high[2] + 0.5))
        size_mm = (high - low) * np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)
        roi = {"center_ras": self.ras((low + high) / 2), "size_mm": size_mm.tolist()}
        return {
            "label": NAME,
            "score": SCORE,
            "slices": [slices[0], slices[-1]],
            "roi": dict(roi, axes_ras=np.eye(3).tolist()),
            "boxes": [self._box(low, high, k) for k in slices],
        }

    def _box(self, low, high, k):
        around = ((low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1]))
        return {"slice": k, "score": SCORE, "corners_ras": [self.ras((i, j, k)) for i, j in around]}


def _vectors(text):
    """The vectors of a NRRD field, (n, 3)."""
    numbers = [float(number) for number in re.findall(_NUMBER, text)]
    return np.array(numbers).reshape(-1, 3)


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        model = {"id": "rehearsal", "labels": {}, "device": "cpu"}
        limits = {"labels": 8}
        self._say({"api": 1, "version": "rehearsal", "model": model, "limits": limits})

    def do_PUT(self):
        data = self._body()
        scan, volume_id = _Scan(data), hashlib.sha256(data).hexdigest()
        self.server.volumes[volume_id] = scan
        place = {"shape_ijk": scan.ijk.shape, "ijk_to_ras": scan.ijk_to_ras.tolist()}
        self._say({"volume_id": volume_id, "volume": place})

    def do_POST(self):
        asked = json.loads(self._body())
        if not urlsplit(self.path).path.endswith("/ground"):
            self.send_error(404)
            return
        found = [self.server.volumes[asked["volume_id"]].finding()]
        known = NAME in asked["labels"]
        result = {"model": "rehearsal", "plane": asked["plane"], "window": asked["window"]}
        result["findings"] = found if known else []
        result["absent"] = [name for name in asked["labels"] if name != NAME]
        self._say({"event": "result", "result": result})

    def _body(self):
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _say(self, answer):
        data = json.dumps(answer).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        """The self-test says itself what went wrong."""
