"""Layers: who may import whom, read from the source of every module.

bird_vlm <- bird_training, bird_server <- monailabel_app/{main.py, lib};
the extension shares no code with them.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
VLM = REPOSITORY / "model/bird_vlm"
VIEW = REPOSITORY / "model/bird_view"
TRAINING = REPOSITORY / "training/bird_training"
APP = REPOSITORY / "monailabel_app"
SERVER = APP / "bird_server"
EXTENSION = REPOSITORY / "extension/BiRD"
LIBRARY = EXTENSION / "BiRDLib"

OURS = ("bird_vlm", "bird_training", "bird_server")
WEB = ("monailabel", "fastapi", "starlette", "uvicorn")
MODEL_LIBRARIES = ("torch", "torchvision", "transformers")
NEED_TORCH = {
    "modeling_bird",
    "vision_bird",
    "configuration_bird",
    "processing_bird",
    "image_processing_bird",
    "tokenization_bird",
    "checkpoints",
    "layouts",
    "weight_files",
    *("engine", "bird", "loading", "batches", "tensor_cache", "slice_features", "memory"),
    *("confidence", "frames", "packed", "grounding", "plain"),
    *("chat", "chat_inputs", "chat_presence", "chat_processor", "chat_writer", "endpoint"),
    "pictures",
}
GROUND = (
    *("contract", "errors", "version", "slices", "boxes", "grammar", "prompts", "labels"),
    *("volumes", "volume_files", "windows", "linking", "overlay", "markups", "outputs", "cli"),
    *("answers", "search", "dialects", "running", "model_card", "backend", "chat"),
    *("endpoint", "endpoint_answers", "endpoint_cache", "endpoint_errors", "endpoint_models"),
    *("endpoint_privacy", "endpoint_settings", "backbones.endpoint_asking"),
    *("preannotation.preannotate", "backbones.chat_dialect", "dialects.written"),
    *(
        f"commands.{name}"
        for name in (
            *("arguments", "convert", "ground", "models", "preannotate", "questions", "running"),
            *("serve", "unfinished", "view"),
        )
    ),
    *(
        f"catalogue.{name}"
        for name in (
            *("cards", "known", "memory_need", "installed", "names", "fetching", "hub_errors"),
            "listing",
        )
    ),
)
MRML_GEOMETRY = re.compile(
    r"IJKTo|ToRAS|RASTo|ToWorld|WorldTo|ObjectToNode|TransformBetweenNodes|TransformNode(ID)?$|"
    r"(Set|Get)(Origin|Spacing|Size|Center|XYZ|Bounds|RASBounds)$|Directions$|PointPosition|"
    r"Markups\w*FromArray|arrayFromMarkups"
)


def sources(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.rglob("*.py") if "__pycache__" not in p.parts)
    assert found, f"no modules under {folder}"
    return found


def named(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def imports(tree: ast.AST) -> set[str]:
    """Top-level names of all absolute imports, wherever they stand, and of import_module("x")."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("import_module", "__import__")
        ):
            names |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    return {str(name).partition(".")[0] for name in names}


def loaded_at_import(tree: ast.Module) -> ast.Module:
    """`tree` without function bodies and without what only type checkers see."""

    class Prune(ast.NodeTransformer):
        def visit_FunctionDef(self, node):
            return None

        visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

        def visit_If(self, node):
            if ast.unparse(node.test).endswith("TYPE_CHECKING"):
                return node.orelse or None
            return self.generic_visit(node)

    return Prune().visit(tree)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def library_imports(path: Path) -> set[Path]:
    """The modules of BiRDLib that a module of BiRDLib imports."""
    names = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            names |= {node.module} if node.module else {alias.name for alias in node.names}
    return {LIBRARY / f"{name}.py" for name in names}


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        pytest.param(VLM, (*WEB, "slicer", "bird_training", "bird_server"), id="bird_vlm"),
        pytest.param(TRAINING, (*WEB, "slicer", "bird_server"), id="bird_training"),
        pytest.param(SERVER, ("slicer", "bird_training", *MODEL_LIBRARIES), id="bird_server"),
        pytest.param(VIEW, (*OURS, *WEB, *MODEL_LIBRARIES), id="bird_view"),
        pytest.param(APP / "lib", ("slicer", *MODEL_LIBRARIES), id="monailabel_app/lib"),
        pytest.param(EXTENSION, (*OURS, *WEB, *MODEL_LIBRARIES, "monai"), id="extension"),
    ],
)
def test_a_room_does_not_import_what_is_not_below_it(folder, forbidden):
    for path in sources(folder):
        assert not imports(parse(path)) & set(forbidden), named(path)


def test_monailabel_is_imported_in_its_app_only():
    rooms = (VLM, TRAINING, EXTENSION, REPOSITORY / "benchmarks")
    users = [p for room in rooms for p in room.rglob("*.py") if "monailabel" in imports(parse(p))]
    assert users == []


def test_only_the_model_imports_torch_when_it_is_imported():
    users = {
        path.stem
        for path in sources(VLM)
        if imports(loaded_at_import(parse(path))) & {*MODEL_LIBRARIES, "monai", "accelerate"}
    }
    assert users <= NEED_TORCH
    assert "modeling_bird" in users


@pytest.mark.parametrize(
    "modules",
    [
        pytest.param(["bird_vlm"], id="the package"),
        pytest.param([f"bird_vlm.{name}" for name in GROUND], id="all that needs no model"),
    ],
)
def test_importing_the_ground_does_not_load_torch(modules):
    program = (
        f"import sys, {', '.join(modules)}\n"
        f"print(*sorted(set(sys.modules) & {{'torch', 'transformers', 'monai', 'monailabel'}}))"
    )
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


def test_the_client_needs_the_standard_library_only():
    pending, seen = {LIBRARY / "client.py"}, set()
    while pending:
        path = pending.pop()
        seen.add(path)
        assert imports(parse(path)) <= sys.stdlib_module_names, named(path)
        pending |= library_imports(path) - seen
    assert {path.name for path in seen} >= {"client.py", "errors.py"}


def test_the_extensions_logic_needs_no_window():
    windows = {"qt", "ctk", "PySide6", "PyQt5"}
    users = {path.name for path in sources(LIBRARY) if imports(parse(path)) & windows}
    assert users == set()


def used_names(parts: list[ast.stmt]) -> set[str]:
    return {n.id for part in parts for n in ast.walk(part) if isinstance(n, ast.Name)}


def without_self_test(tree: ast.Module) -> list[ast.stmt]:
    """A Slicer module without its test class and the functions that only this class calls."""
    tests = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name.endswith("Test")]
    rest = [n for n in tree.body if n not in tests]
    helpers = used_names(tests) - used_names(rest)
    return [n for n in rest if not (isinstance(n, ast.FunctionDef) and n.name in helpers)]


def mrml_geometry(tree: ast.Module) -> set[str]:
    """Names of MRML geometry that a module reads or writes, its self-test aside."""
    nodes = (node for part in without_self_test(tree) for node in ast.walk(part))
    names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return {name for name in names if MRML_GEOMETRY.search(name)}


def test_mrml_geometry_is_touched_in_one_package():
    users = {path: mrml_geometry(parse(path)) for path in sources(EXTENSION)}
    touching = {path.relative_to(LIBRARY).parts[0] for path, found in users.items() if found}
    assert touching == {"scene"}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        pytest.param("import torch.nn as nn", {"torch"}, id="plain"),
        pytest.param("from torch import nn", {"torch"}, id="from"),
        pytest.param("def f():\n    import torch", {"torch"}, id="inside a function"),
        pytest.param("importlib.import_module('torch.nn')", {"torch"}, id="by name"),
        pytest.param("from . import torch", set(), id="a neighbour of that name"),
    ],
)
def test_every_way_to_import_is_seen(source, found):
    assert imports(ast.parse(source)) & {"torch"} == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        pytest.param("import torch", {"torch"}, id="plain"),
        pytest.param("try:\n    import torch\nexcept ImportError: raise", {"torch"}, id="in a try"),
        pytest.param("class A:\n    import torch", {"torch"}, id="in a class"),
        pytest.param("def f():\n    import torch", set(), id="in a function"),
        pytest.param("if TYPE_CHECKING:\n    import torch", set(), id="for type checkers"),
    ],
)
def test_what_loads_with_a_module_is_told_from_what_waits(source, found):
    assert imports(loaded_at_import(ast.parse(source))) == found


@pytest.mark.parametrize(
    ("source", "touches"),
    [
        pytest.param("volume.GetIJKToRASMatrix(m)", True, id="volume matrix"),
        pytest.param("roi.SetCenter(1, 2, 3)", True, id="ROI centre"),
        pytest.param("node.SetAndObserveTransformNodeID(i)", True, id="parent transform"),
        pytest.param("roi.SetName('liver')", False, id="name"),
        pytest.param("class BiRDTest:\n    def f(self): v.SetOrigin(0, 0, 0)", False, id="test"),
        pytest.param(
            "class BiRDTest:\n    def f(self): g()\ndef g(): v.SetOrigin(0, 0, 0)",
            False,
            id="test's helper",
        ),
        pytest.param(
            "class BiRDTest:\n    def f(self): g()\ndef g(): v.SetOrigin(0, 0, 0)\ng()",
            True,
            id="helper used elsewhere",
        ),
    ],
)
def test_mrml_geometry_is_recognised(source, touches):
    assert bool(mrml_geometry(ast.parse(source))) == touches
