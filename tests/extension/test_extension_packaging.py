"""What ships: CMake lists, Python 3.9 syntax, allowed imports, icon, doctests."""

import ast
import doctest
import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "extension" / "BiRD"
SOURCES = sorted(path for path in MODULE.rglob("*.py"))
OURS = {"BiRDLib", "BiRDPanel", "SampleData", "slicer", "qt", "ctk", "vtk", "numpy"}
WITHOUT_SLICER = """
    address answers background cases client conversation errors fields i18n job labels lines links
    localserver question refusals reviewclient statuses telling walk worklist
"""
WITHOUT_SLICER = {f"{name}.py" for name in WITHOUT_SLICER.split()}
EVERY_SOURCE = pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(MODULE)))


def _listed(variable):
    text = (MODULE / "CMakeLists.txt").read_text()
    (body,) = re.findall(rf"set\({variable}\n(.*?)\)", text, re.DOTALL)
    return {
        line.strip().replace("${MODULE_NAME}", "BiRD") for line in body.splitlines() if line.strip()
    }


def test_cmake_lists_every_file_that_ships():
    assert _listed("MODULE_PYTHON_SCRIPTS") == {str(p.relative_to(MODULE)) for p in SOURCES}
    resources = {str(p.relative_to(MODULE)) for p in MODULE.glob("Resources/*/*")}
    assert _listed("MODULE_PYTHON_RESOURCES") == resources


def test_root_cmake_says_what_the_extensions_index_reads():
    text = (ROOT / "CMakeLists.txt").read_text()
    for name in ("HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"):
        assert re.search(rf"set\(EXTENSION_{name} \"[^\"]+\"\)", text), name
    assert "project(BiRD)" in text
    assert (ROOT / "LICENSE").is_file()


def test_the_entry_of_the_extensions_index_has_what_its_schema_wants():
    entry = json.loads((ROOT / "extension" / "BiRD.json").read_text())
    assert {"$schema", "category", "scm_url"} <= entry.keys()
    optional = {"build_dependencies", "build_subdirectory", "scm_revision", "scm_type", "tier"}
    assert entry.keys() - {"$schema", "category", "scm_url"} <= optional
    homepage = re.search(r'EXTENSION_HOMEPAGE "(.+)"', (ROOT / "CMakeLists.txt").read_text())[1]
    assert entry["scm_url"] == homepage + ".git"


SLICER_CONFIG = """
set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/Empty.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/Empty.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/Empty.cmake)
set(BUILD_TESTING ON)
include(CMakeParseArguments)
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MODULE "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  foreach(file ${MODULE_SCRIPTS} ${MODULE_RESOURCES})
    if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${file})
      message(FATAL_ERROR "${file} is listed but missing")
    endif()
  endforeach()
  message(STATUS "scripted module ${MODULE_NAME}")
endfunction()
function(slicer_add_python_unittest)
  message(STATUS "unit test ${ARGN}")
endfunction()
"""


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")
def test_cmake_configures_with_a_stand_in_for_slicer(tmp_path):
    """Slicer's own build tree is gigabytes; the stand-in checks our calls to its macros."""
    (tmp_path / "SlicerConfig.cmake").write_text(SLICER_CONFIG)
    (tmp_path / "Empty.cmake").write_text("")
    where = ["-S", str(ROOT), "-B", str(tmp_path / "build"), f"-DSlicer_DIR={tmp_path}"]
    done = subprocess.run(["cmake", *where], capture_output=True, text=True, check=False)
    if "CMAKE_CXX_COMPILER" in done.stderr:
        pytest.skip("needs a compiler")
    assert done.returncode == 0, done.stderr
    assert "scripted module BiRD" in done.stdout
    assert "unit test SCRIPT;BiRD.py" in done.stdout


@EVERY_SOURCE
def test_sources_are_python_3_9(path):
    ast.parse(path.read_text(), feature_version=(3, 9))


@EVERY_SOURCE
def test_sources_import_only_what_slicer_has(path):
    allowed = OURS | set(sys.stdlib_module_names)
    if path.name in WITHOUT_SLICER:
        allowed -= OURS
    if path.name != "BiRD.py" and path.parent.name != "BiRDPanel":
        allowed -= {"qt", "ctk"}
    assert _imported(path) <= allowed


def _imported(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def test_only_the_scene_package_touches_matrices():
    """One place for MRML geometry: nobody else calls the methods that read or write it."""
    geometry = re.compile(
        r"\.(Get|Set)\w*(RASMatrix|ObjectTo\w+Matrix|XYToRAS|SliceToRAS)\b|TransformPoint"
    )
    users = {path.parent.name for path in SOURCES if geometry.search(path.read_text())}
    assert users == {"scene"}


def test_the_client_loads_without_slicer():
    heavy = "{'slicer', 'vtk', 'numpy', 'qt'}"
    code = f"import sys, BiRDLib.client; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=MODULE, check=True)


DOCUMENTED = [
    *("address", "colors", "conversation", "i18n", "labels", "lines", "links", "places"),
    *("question", "rasters", "statuses"),
]


@pytest.mark.parametrize("name", DOCUMENTED)
def test_examples_in_docstrings_hold(name):
    result = doctest.testmod(importlib.import_module(f"BiRDLib.{name}"))
    assert result.attempted
    assert not result.failed


def test_icon_is_what_the_index_wants():
    with Image.open(Path(MODULE, "Resources/Icons/BiRD.png")) as icon:
        assert icon.size == (128, 128)
