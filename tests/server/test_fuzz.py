"""Schemathesis for some seconds; `scripts/fuzz_api.py --minutes 10` is the long run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("schemathesis", reason="schemathesis is not installed")
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "fuzz_api.py"


@pytest.mark.slow
def test_generated_requests_find_no_server_error():
    command = [sys.executable, str(SCRIPT), "--minutes", "0.25"]

    run = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)

    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 failures" in run.stdout
    sent = re.search(r"(\d+) requests to (\d+) routes", run.stdout)
    assert int(sent[1]) > 20
