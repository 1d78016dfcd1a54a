"""SPICE, through pycocoevalcap: the share of what a text states that its reference states too.

Its scene-graph parser needs the CoreNLP models (400 MB) that pycocoevalcap fetches where there is
a network. Knows nothing about the other metrics.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from bird_training.evaluation.java import on_the_path
from bird_training.evaluation.scores import Score, mean_score
from bird_vlm.errors import BirdError

# (java, references, answers) -> the score
Spice = Callable[[Path, Sequence[str], Sequence[str]], Score]
_SECONDS_TO_ANSWER = 30
# SPICE was written for Java 8; later ones keep these packages from its serialiser.
_OPENED = ("lang", "lang.invoke", "math", "net", "text", "util", "util.concurrent")


class SpiceError(BirdError):
    """SPICE cannot be computed."""


def ready_spice(fetch: bool) -> Spice:
    """The function that scores by SPICE; with `fetch` its models are fetched where they lack.

    Raises SpiceError where they lack and are not, or cannot be, fetched.
    """
    folder = _folder()
    if not _has_models(folder):
        if not fetch:
            raise SpiceError(
                f"its CoreNLP models are not in {folder / 'lib'}; fetch them (400 MB) with --spice"
            )
        _fetch(folder)
    return score


def score(java: Path, references: Sequence[str], answers: Sequence[str]) -> Score:
    """The mean F-score over the answers, of one reference each."""
    from pycocoevalcap.spice.spice import Spice as Scorer

    opened = " ".join(f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in _OPENED)
    variables = {"JDK_JAVA_OPTIONS": opened} if _has_modules(java) else {}
    try:
        with on_the_path(java, **variables):
            _, parts = Scorer().compute_score(_numbered(references), _numbered(answers))
    except (OSError, subprocess.CalledProcessError, ValueError, KeyError) as error:
        raise SpiceError(f"its Java program failed ({error}); it is known to run on Java 8") from (
            error
        )
    return mean_score("SPICE", [part["All"]["f"] for part in parts])


def _folder() -> Path:
    found = find_spec("pycocoevalcap.spice")
    return Path(found.submodule_search_locations[0])


def _has_models(folder: Path) -> bool:
    from pycocoevalcap.spice.get_stanford_models import JAR

    return all((folder / "lib" / f"{JAR}{part}.jar").is_file() for part in ("", "-models"))


def _fetch(folder: Path) -> None:
    from pycocoevalcap.spice.get_stanford_models import get_stanford_models

    try:
        with _patience(_SECONDS_TO_ANSWER):
            get_stanford_models()
    except OSError as error:
        raise SpiceError(
            f"its CoreNLP models could not be fetched ({error}); on a machine with a network run "
            "`python -m pycocoevalcap.spice.get_stanford_models` and copy its spice/lib folder to "
            f"{folder / 'lib'}"
        ) from error


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _has_modules(java: Path) -> bool:
    """Whether this Java has modules (9 and later)."""
    done = subprocess.run([java, "--version"], capture_output=True)  # unknown to Java 8
    return done.returncode == 0


def _numbered(texts: Sequence[str]) -> dict[int, list[str]]:
    return {number: [text] for number, text in enumerate(texts)}
