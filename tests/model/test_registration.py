"""`import bird_vlm` is light, and the Auto classes know BiRD whatever is imported first."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bird_vlm.modeling_bird import BirdForConditionalGeneration
from tiny_bird import a_config


def python(code: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_importing_the_package_loads_neither_torch_nor_transformers():
    loaded = python("import sys, bird_vlm; print(*sys.modules)").split()
    assert {"torch", "transformers"}.isdisjoint(loaded)


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports",
    [
        pytest.param("import bird_vlm, transformers", id="package first"),
        pytest.param("import transformers, bird_vlm", id="transformers first"),
        pytest.param("import bird_vlm.tokenization_bird", id="one of its modules first"),
        pytest.param("import bird_vlm.vision_bird", id="the layers first"),
        pytest.param(
            "import bird_vlm, importlib.util as u; u.find_spec('transformers')",
            id="only looked for",
        ),
    ],
)
def test_auto_classes_load_a_bird_folder(imports, tmp_path):
    BirdForConditionalGeneration(a_config()).save_pretrained(tmp_path)
    out = python(
        f"{imports}\n"
        "from transformers import AutoModelForImageTextToText as Auto\n"
        f"print(type(Auto.from_pretrained({str(tmp_path)!r})).__name__)"
    )
    assert out.split()[-1] == "BirdForConditionalGeneration"
