"""BLEU, METEOR, ROUGE_L, CIDEr and SPICE of a set of answers, through pycocoevalcap.

Beside each value stand the counts that it is made of (see `scores.py`). Knows nothing about tasks
or modalities.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bird_training.evaluation.java import find_java, on_the_path
from bird_training.evaluation.scores import Score, divided, mean_score
from bird_training.evaluation.spice import Spice, SpiceError
from bird_vlm.errors import BirdError

_PTB = "edu.stanford.nlp.process.PTBTokenizer"


class PackageMissingError(BirdError):
    """pycocoevalcap is not installed."""


class CaptionScorer:
    """The scorers with the processes they need; make it by `caption_scorer`."""

    def __init__(
        self, java: Path, meteor: RecordingMeteor, spice: Spice | None, no_spice: str = ""
    ) -> None:
        self._java, self._meteor, self._spice = java, meteor, spice
        self.no_spice = no_spice  # why there is none, from the start or since it failed

    def score(self, references: Sequence[str], answers: Sequence[str]) -> list[Score]:
        """Scores of `answers`, one reference each; no SPICE where it is not wanted or fails."""
        tokens = tokenize(self._java, [*references, *answers])
        expected, given = tokens[: len(references)], tokens[len(references) :]
        return [
            bleu(expected, given),
            self._meteor.score(expected, given),
            rouge_l(expected, given),
            cider(expected, given),
            *self._spice_score(expected, given),
        ]

    def _spice_score(self, expected: Sequence[str], given: Sequence[str]) -> list[Score]:
        if self._spice is None:
            return []
        try:
            return [self._spice(self._java, expected, given)]
        except SpiceError as error:
            self._spice, self.no_spice = None, str(error)
            return []


@contextmanager
def caption_scorer(spice: Spice | None = None, no_spice: str = "") -> Iterator[CaptionScorer]:
    """A scorer whose METEOR process lives as long as the context.

    `spice` is what `spice.ready_spice` returns where SPICE is wanted, `no_spice` why there is none.
    Raises JavaMissingError or PackageMissingError.
    """
    require_package()
    java = find_java()
    with on_the_path(java):
        meteor = recording_meteor()
    try:
        yield CaptionScorer(java, meteor, spice, no_spice)
    finally:
        meteor.stop()


def require_package() -> None:
    """Raises PackageMissingError where pycocoevalcap is not installed."""
    if find_spec("pycocoevalcap") is None:
        raise PackageMissingError(
            "pycocoevalcap is not installed; install it with `pip install pycocoevalcap`"
        )


def tokenize(java: Path, texts: Sequence[str]) -> list[str]:
    """Texts as the Penn Treebank tokenizer of pycocoevalcap cuts them, without punctuation.

    Same output as its `PTBTokenizer`, but nothing is written into the installed package, and no
    text, empty or with odd line ends, shifts the lines after it.
    """
    from pycocoevalcap.tokenizer import ptbtokenizer

    jar = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
    lines = [" ".join(text.split()) for text in texts]
    done = subprocess.run(
        [java, "-cp", jar, _PTB, "-preserveLines", "-lowerCase", "-encoding", "UTF-8"],
        input="".join(f"{line}\n" for line in lines).encode(errors="replace"),
        capture_output=True,
    )
    tokens = done.stdout.decode().split("\n")[:-1]
    if done.returncode or len(tokens) != len(lines):
        raise BirdError(f"tokenizer: Java failed ({_last_line(done.stderr)})")
    punctuation = set(ptbtokenizer.PUNCTUATIONS)
    return [" ".join(w for w in line.split(" ") if w not in punctuation) for line in tokens]


def bleu(references: Sequence[str], answers: Sequence[str]) -> Score:
    """BLEU-1 to 4 of the whole set."""
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=4)
    for reference, answer in zip(references, answers, strict=True):
        scorer += (answer, [reference])
    values, _ = scorer.compute_score(option="closest")
    counts = [(t["testlen"], t["reflen"][0], *t["guess"], *t["correct"]) for t in scorer.ctest]
    names = tuple(f"Bleu_{n}" for n in range(1, 5))
    return Score(names, tuple(values), np.array(counts, float), _bleu_of_counts)


def rouge_l(references: Sequence[str], answers: Sequence[str]) -> Score:
    """ROUGE-L, the mean over the answers."""
    from pycocoevalcap.rouge.rouge import Rouge

    return mean_score("ROUGE_L", Rouge().compute_score(*_numbered(references, answers))[1])


def cider(references: Sequence[str], answers: Sequence[str]) -> Score:
    """CIDEr, the mean over the answers; its word weights come from all references of the set."""
    from pycocoevalcap.cider.cider import Cider

    return mean_score("CIDEr", Cider().compute_score(*_numbered(references, answers))[1])


def recording_meteor() -> RecordingMeteor:
    """Starts METEOR's process; stop it with `.stop()`."""
    from pycocoevalcap.meteor.meteor import Meteor

    return RecordingMeteor(Meteor())


class RecordingMeteor:
    """pycocoevalcap's METEOR; remembers the counts of each answer that pass by."""

    def __init__(self, meteor) -> None:
        self._meteor, self._statistics = meteor, meteor._stat
        self._lines: list[str] = []
        meteor._stat = self._record

    def score(self, references: Sequence[str], answers: Sequence[str]) -> Score:
        """METEOR of the whole set."""
        self._lines = []
        try:
            value, _ = self._meteor.compute_score(*_numbered(references, answers))
            counts = _meteor_counts(self._lines)
        except (ValueError, OSError) as error:
            code = self._meteor.meteor_p.poll()
            raise BirdError(f"METEOR: Java gave up (exit code {code}, {error})") from error
        return Score(("METEOR",), (value,), counts, meteor_of_counts)

    def stop(self) -> None:
        """End the process and wait until it is gone."""
        process = self._meteor.meteor_p
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            with suppress(BrokenPipeError):  # what was not sent to a dead process is of no use
                stream.close()
        if self._meteor.lock.locked():  # by a score that was interrupted; its __del__ would wait
            self._meteor.lock.release()

    def _record(self, answer: str, references: list[str]) -> str:
        line = self._statistics(answer, [text.replace("|||", "") for text in references])
        self._lines.append(line)
        return line


def meteor_of_counts(counts: np.ndarray) -> np.ndarray:
    """METEOR 1.5 (English) of summed counts (..., 23) -> (..., 1).

    Denkowski and Lavie 2014, equations 1 to 4. Counts as its `-stdio` writes them: words and
    function words of both sides, per matcher content and function words matched on both sides,
    matches in all, chunks, matched words.
    """
    alpha, beta, gamma, delta = 0.85, 0.20, 0.60, 0.75
    matchers = np.array([1.0, 0.6, 0.8, 0.6])
    words, function_words = counts[..., 0:2], counts[..., 2:4]  # answer, reference
    matched = counts[..., 4:20].reshape(*counts.shape[:-1], 4, 2, 2)  # matcher, kind, side
    by_kind = np.einsum("m,...mks->...ks", matchers, matched)
    hits = delta * by_kind[..., 0, :] + (1 - delta) * by_kind[..., 1, :]
    weight = delta * (words - function_words) + (1 - delta) * function_words
    precision, recall = np.moveaxis(divided(hits, weight), -1, 0)
    mean = divided(precision * recall, alpha * precision + (1 - alpha) * recall)
    scatter = divided(counts[..., 20], counts[..., 21:23].mean(-1))
    return (mean * (1 - gamma * scatter**beta))[..., None]


def _meteor_counts(lines: Sequence[str]) -> np.ndarray:
    """(answers, 23); an answer equal to its reference counts no chunk, as METEOR sums them."""
    counts = np.array([line.split() for line in lines], float)
    perfect = (counts[:, 21:23] == counts[:, 0:2]).all(axis=1) & (counts[:, 20] == 1)
    counts[perfect, 20] = 0
    return counts


def _bleu_of_counts(counts: np.ndarray) -> np.ndarray:
    length, reference = counts[..., :1], counts[..., 1:2]
    precision = (counts[..., 6:10] + 1e-15) / (counts[..., 2:6] + 1e-9)
    mean = np.cumprod(precision, axis=-1) ** (1 / np.arange(1, 5))
    ratio = (length + 1e-15) / (reference + 1e-9)
    with np.errstate(over="ignore"):
        return mean * np.exp(np.minimum(1 - 1 / ratio, 0))


def _numbered(
    references: Sequence[str], answers: Sequence[str]
) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    return ({i: [t] for i, t in enumerate(references)}, {i: [t] for i, t in enumerate(answers)})


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no message"
