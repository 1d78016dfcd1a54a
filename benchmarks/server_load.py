"""How the server bears up: many clients at once, and many jobs one after the other.

    python benchmarks/server_load.py [--clients 8] [--each 20] [--jobs 500] [--json OUT]

Starts a real server process with bird-mini on a folder of its own. First every question is asked
alone; then `clients` clients ask `each` of them at the same time, mixed (ground, refer, caption,
ask, batch), while /bird/v1/health is timed; their answers must be those from before. At last
`jobs` jobs run one after the other, and the server's memory is measured at their start and end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import psutil
import requests
from rich.console import Console
from rich.table import Table

from bird_server import serve
from bird_server.client import Client, ClientError

START_S = 300
WAIT_S = 600  # for room in the queue
PROBE_EVERY_S = 0.05
WARM_UP_JOBS = 20  # fill the caches before the memory is measured
Question = dict[str, Any]


def a_head(path: Path, seed: int) -> Path:
    """A round head with a bright core, in 64 x 64 x 40 voxels of 3 mm, and noise."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in (64, 64, 40)), indexing="ij"))
    radius = np.sqrt((grid**2).sum(0))
    noise = np.random.default_rng(seed).normal(scale=20, size=radius.shape)
    values = np.where(radius < 0.8, 500, 0) + np.where(radius < 0.3, 300, 0) + noise
    image = nibabel.Nifti1Image(values.astype(np.int16), np.diag([3.0, 3.0, 3.0, 1.0]))
    nibabel.save(image, path)
    return path


def questions_about(volume_ids: list[str], labels: list[str]) -> list[Question]:
    """Five kinds about each volume."""
    found = []
    for volume_id in volume_ids:
        about = {"volume_id": volume_id}
        box = about | {"box_ras": [60, 60, 45, 120, 120, 75]}
        where = about | {"kind": "ground", "labels": labels[:2], "slices": [16, 24]}
        asked = about | {"kind": "ask", "question": "What is shown?", "slice": 20}
        batch = {"kind": "batch", "questions": [where | {"slices": [10, 14]}, asked]}
        found += [where, box | {"kind": "refer"}, box | {"kind": "caption"}, asked, batch]
    return found


def told(result: Any) -> Any:
    """A result without what differs from run to run: seconds, and ids in the review store."""
    if isinstance(result, dict):
        changing = ("timing_s", "review")
        return {key: told(value) for key, value in result.items() if key not in changing}
    return [told(item) for item in result] if isinstance(result, list) else result


@contextmanager
def a_server(studies: Path) -> Iterator[tuple[str, psutil.Process]]:
    """URL and process of a server that answers."""
    with serve.bound_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    outer = {n: v for n, v in os.environ.items() if not n.startswith(("MONAI_LABEL_", "BIRD_"))}
    command = [sys.executable, "-m", "bird_server", "--studies", str(studies), "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with (studies.parent / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=outer)
        try:
            wait_for(url, process)
            yield url, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(60)


def wait_for(url: str, process: subprocess.Popen) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode} before it answered")
        try:
            if requests.get(f"{url}/bird/v1/health", timeout=10).ok:
                return
        except requests.RequestException:
            time.sleep(0.2)
    raise TimeoutError(f"{url} did not answer within {START_S} s")


@contextmanager
def health_timed(url: str) -> Iterator[list[float]]:
    """Seconds of each answer of /health meanwhile; a failed one counts as infinite."""
    seconds: list[float] = []
    over = threading.Event()

    def probe() -> None:
        with requests.Session() as session:
            while not over.wait(PROBE_EVERY_S):
                begin = time.perf_counter()
                answer = session.get(f"{url}/bird/v1/health", timeout=30)
                took = time.perf_counter() - begin
                seconds.append(took if answer.ok else float("inf"))

    prober = threading.Thread(target=probe)
    prober.start()
    try:
        yield seconds
    finally:
        over.set()
        prober.join()


def together(
    url: str, questions: list[Question], alone: list[Any], clients: int, each: int
) -> dict:
    """Every client asks `each` questions, beginning at another one; what came of it."""

    def ask(number: int) -> tuple[int, int, list[str]]:
        client, different, errors = Client(url, name=f"client {number}"), 0, []
        for step in range(each):
            place = (number + step) % len(questions)
            try:
                different += told(client.answer(questions[place], WAIT_S)) != alone[place]
            except ClientError as error:
                errors.append(str(error))
        client.close()
        return each, different, errors

    begin = time.perf_counter()
    with health_timed(url) as seconds, ThreadPoolExecutor(clients) as pool:
        outcomes = list(pool.map(ask, range(clients)))
    taken = time.perf_counter() - begin
    errors = [error for *_, found in outcomes for error in found]
    return {
        "jobs": sum(count for count, *_ in outcomes),
        "errors": len(errors),
        "first_error": errors[0] if errors else None,
        "different_from_serial": sum(different for _, different, _ in outcomes),
        "seconds": round(taken, 1),
        "health_p50_ms": round(1000 * float(np.percentile(seconds, 50)), 1),
        "health_p95_ms": round(1000 * float(np.percentile(seconds, 95)), 1),
        "health_max_ms": round(1000 * max(seconds), 1),
        "health_probes": len(seconds),
    }


def one_after_the_other(
    url: str, process: psutil.Process, questions: list[Question], jobs: int
) -> dict:
    """The server's memory before and after so many jobs."""
    client = Client(url, name="endurance")

    def run(count: int) -> None:
        for number in range(count):
            client.answer(questions[number % len(questions)], WAIT_S)

    run(min(WARM_UP_JOBS, jobs))
    start_mb = process.memory_info().rss / 2**20
    run(jobs)
    end_mb = process.memory_info().rss / 2**20
    client.close()
    return {"jobs": jobs, "rss_start_mb": round(start_mb, 1), "rss_end_mb": round(end_mb, 1)}


def measured(clients: int, each: int, jobs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        studies = Path(folder) / "studies"
        studies.mkdir()
        with a_server(studies) as (url, process):
            client = Client(url)
            heads = [a_head(Path(folder) / f"head{seed}.nii.gz", seed) for seed in (1, 2)]
            known = client.health()["model"]["labels"]
            labels = sorted({label for names in known.values() for label in names})
            questions = questions_about([client.upload(h).volume_id for h in heads], labels)
            alone = [told(client.answer(question)) for question in questions]
            load = together(url, questions, alone, clients, each)
            memory = one_after_the_other(url, process, questions, jobs) if jobs else None
            return {"clients": clients, "load": load, "memory": memory}


def table_of(found: dict[str, Any]) -> Table:
    table = Table("what", "value", title=f"{found['clients']} clients at once")
    for part in ("load", "memory"):
        for name, value in (found[part] or {}).items():
            table.add_row(f"{part}: {name.replace('_', ' ')}", str(value))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--each", type=int, default=20, help="jobs of each client")
    parser.add_argument("--jobs", type=int, default=500, help="for the memory; 0 leaves it out")
    parser.add_argument("--json", type=Path, help="also write the numbers there")
    given = parser.parse_args()
    found = measured(given.clients, given.each, given.jobs)
    Console().print(table_of(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
