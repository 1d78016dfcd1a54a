"""Schemathesis over a running server's OpenAPI: python scripts/fuzz_api.py --minutes 10.

Starts a real server with bird-mini in a folder of its own, gives it a volume and a study to be
asked about, sends generated requests to every route until the time is over, and reports each 5xx.
Exit code 1 where there was one, apart from 503 and 507, which tell that the server is busy or full.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings

START_SECONDS = 300
EXAMPLES_PER_ROUND = 15
TOLD_TROUBLE = {503, 507}  # refusals with a reason, not failures
REQUEST_SECONDS = 120
TOKEN = "fuzz-token"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
_ADDRESS = re.compile(r" at (http://\S+), studies in ")


@dataclass
class Report:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    routes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, route: str, status: int, request: str, answer: str) -> None:
        self.statuses[status] += 1
        self.routes[route] += 1
        if status >= 500 and status not in TOLD_TROUBLE:
            self.failures.append(f"{status} {route}\n  {request}\n  {answer[:500]}")

    def told(self) -> str:
        by_status = ", ".join(f"{status}: {n}" for status, n in sorted(self.statuses.items()))
        lines = [f"{self.statuses.total()} requests to {len(self.routes)} routes; {by_status}"]
        lines += [f"  {n:6d} {route}" for route, n in sorted(self.routes.items())]
        lines += [f"{len(self.failures)} failures", *dict.fromkeys(self.failures)]
        return "\n".join(lines)


def start(folder: Path) -> tuple[subprocess.Popen, str, list[str]]:
    """The server process, its URL, and its log as it comes."""
    for name in ("studies", "tmp"):
        (folder / name).mkdir()
    command = [sys.executable, "-u", "-m", "bird_server", "--studies", str(folder / "studies")]
    environment = os.environ | {"BIRD_TOKEN": TOKEN, "BIRD_UPLOAD_BYTES": str(8 << 20)}
    process = subprocess.Popen(
        [*command, "--port", "0", "--log-format", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=environment | {"TMPDIR": str(folder / "tmp")},
    )
    lines: list[str] = []
    threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True).start()
    for _ in range(START_SECONDS * 10):
        found = _ADDRESS.search("".join(lines))
        if found:
            return process, found[1], lines
        if process.poll() is not None:
            break
        time.sleep(0.1)
    process.kill()
    raise SystemExit(f"the server did not start:\n{''.join(lines)}")


def a_scan(folder: Path) -> Path:
    """A small volume."""
    path = folder / "scan.nii"
    values = np.random.default_rng(1).normal(size=(16, 16, 6)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([3.0, 3.0, 4.0, 1.0])), path)
    return path


def ask(url: str, method: str, path: str, body: bytes, kind: str) -> Any:
    """The JSON of a plain request."""
    headers = AUTHORIZED | {"Content-Type": kind}
    request = urllib.request.Request(url + path, body, headers, method=method)
    with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
        return json.load(answer)


def known_ids(url: str, scan: Path) -> dict[str, str]:
    """Ids of things that there are, by the names of the parameters that take them."""
    path = f"/bird/v1/volumes?name={scan.name}"
    volume_id = ask(url, "PUT", path, scan.read_bytes(), "application/octet-stream")["volume_id"]
    drawn = {"label": "liver", "boxes": [{"slice": 2, "box_pixel": [2, 2, 9, 9]}], "reviewer": "a"}
    body = json.dumps(drawn).encode()
    path = f"/bird/v1/cases/{volume_id}/findings"
    finding_id = ask(url, "POST", path, body, "application/json")["finding_id"]
    question = {"kind": "ask", "volume_id": volume_id, "question": "What?", "slice": 1}
    body = json.dumps(question).encode()
    job_id = ask(url, "POST", "/bird/v1/jobs", body, "application/json")["job_id"]
    return {
        "volume_id": volume_id,
        "case": volume_id,
        "finding_id": finding_id,
        "job_id": job_id,
        "model": "bird_grounding",
        "strategy": "random",
    }


def fuzz(url: str, scan: Path, end: float) -> Report:
    """Rounds over all routes until `end` (time.monotonic), each with another seed."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", headers=AUTHORIZED)
    report, number = Report(), 0
    operations = [found.ok() for found in schema.get_all_operations()]
    while time.monotonic() < end:
        number, known = number + 1, known_ids(url, scan)  # earlier rounds delete things
        for operation in operations:
            if time.monotonic() >= end:
                break
            fuzz_operation(operation, url, known, number, end, report)
    return report


def fuzz_operation(operation, url, known: dict[str, str], number, end, report: Report) -> None:
    """Some generated requests to one route; half of the ids are of things there are."""

    @seed(number)
    @settings(
        max_examples=EXAMPLES_PER_ROUND,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def send(case) -> None:
        if time.monotonic() >= end:
            return
        if report.statuses.total() % 2:
            make_known(case, known)
        answer = case.call(base_url=url, headers=AUTHORIZED, timeout=REQUEST_SECONDS)
        report.add(operation.label, answer.status_code, case.as_curl_command(), answer.text)

    send()


def make_known(case: schemathesis.Case, known: dict[str, str]) -> None:
    """Puts ids of things that there are in the places of generated ones."""
    for place in (case.path_parameters, case.query, case.body):
        if isinstance(place, dict):
            place.update({name: known[name] for name in place if name in known})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="(%(default)s)")
    return parser.parse_args()


def main() -> int:
    seconds = arguments().minutes * 60
    with tempfile.TemporaryDirectory(prefix="bird_fuzz_") as folder:
        process, url, log = start(Path(folder))
        try:
            report = fuzz(url, a_scan(Path(folder)), time.monotonic() + seconds)
        finally:
            process.terminate()
            process.wait(120)
    print(report.told())
    tracebacks = [line for line in log if '"traceback"' in line]
    print(f"{len(tracebacks)} tracebacks in the log", *tracebacks[:5], sep="\n")
    return 1 if report.failures or tracebacks else 0


if __name__ == "__main__":
    sys.exit(main())
