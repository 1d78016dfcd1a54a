"""Test sets as questions: released folders and LLaVA-Med's question file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from asking import write_test_set
from bird_training.evaluation.qa_sets import read_answers, read_qa_questions
from bird_training.evaluation.questions import by_picture, digest, read_qa_set, read_test_set
from bird_vlm.errors import BirdError
from golden import QA50


@pytest.fixture
def a_test_set(tmp_path) -> Path:
    return write_test_set(tmp_path / "OUT", pictures=4, facts=True)


@pytest.fixture
def a_qa_file(tmp_path) -> Path:
    rows = [
        {"question_id": n, "image": f"{n // 2}_F.jpg", "text": f"Why {n}?\n<image>"}
        | {"gpt4_answer": f"Because {n}."}
        for n in range(4)
    ]
    path = tmp_path / "qa.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_questions_carry_what_their_lines_need(a_test_set):
    questions = read_test_set(a_test_set)
    assert [q.task for q in questions] == ["VG"] * 8 + ["ROC"] * 4 + ["RC"] * 4 + ["MIA"] * 4
    first = questions[0]
    assert first.id == "ct_00--A--p0--z_000"
    assert first.image == f"images/{first.id}.png"
    assert first.picture == a_test_set.parent / first.image
    assert first.question == f"Picture 1: <img>{first.image}</img>\n{first.text}"
    assert first.text == "Where is the <ref>liver</ref> located in this image?"
    assert (first.modality, first.case, first.history) == ("ct", "A/p0", ())


def test_a_later_turn_knows_the_turns_before_it(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "ct_1.png")
    turns = [["Picture 1: <img>ct_1.png</img>\nWhat is it?", "A liver."], ["Where?", "Here."]]
    record = {"id": "ct_1", "conversations": turns}
    (tmp_path / "MIA.json").write_text(json.dumps([record]))
    first, second = read_test_set(tmp_path)
    assert (first.image, first.history, first.case) == ("ct_1.png", (), None)
    assert (second.question, second.annotation) == ("Where?", "Here.")
    assert second.history == (("What is it?", "A liver."),)


def test_batches_are_whole_pictures_in_the_order_of_their_first_question(a_test_set):
    questions = read_test_set(a_test_set)
    batches = by_picture(questions, size=10)
    assert [len(batch) for batch in batches] == [10, 10]
    assert [q.task for q in batches[0][:5]] == ["VG", "VG", "ROC", "RC", "MIA"]
    assert len({q.picture for q in batches[0]}) == 2
    assert [len(batch) for batch in by_picture(questions, size=1)] == [5] * 4
    assert [len(batch) for batch in by_picture(questions, size=14)] == [10, 10]


def test_other_questions_have_another_digest(a_test_set):
    questions = read_test_set(a_test_set)
    assert digest(questions) == digest(read_test_set(a_test_set))
    assert len({digest(questions), digest(questions[1:]), digest(questions[::-1])}) == 3


@pytest.mark.parametrize(
    ("files", "words"),
    [
        pytest.param({}, ["has none of VG.json", "medgrit build"], id="no-files"),
        pytest.param({"VG.json": "[]"}, ["hold no questions"], id="no-records"),
        pytest.param({"VG.json": '[{"id": "ct'}, ["VG.json", "cut off"], id="cut-off"),
        pytest.param(
            {"VG.json": '[{"id": "ct_1", "conversations": [["Where?", "Here."]]}]'},
            ["ct_1.png", "--images"],
            id="no-picture",
        ),
    ],
)
def test_what_is_no_test_set_is_refused(tmp_path, files, words):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(BirdError) as raised:
        read_test_set(tmp_path)
    for word in words:
        assert word in str(raised.value)


@pytest.mark.shared
def test_the_public_question_file_is_read_whole(shared):
    questions = read_qa_questions(shared / QA50)
    assert (len(questions), len({q.image for q in questions})) == (193, 50)
    assert questions[0].text == "What is the organ in the image?"
    assert questions[1].answer.startswith("The cystic wall is lined")  # lacks fig_caption


@pytest.mark.shared
def test_without_its_pictures_the_question_file_says_so(shared, tmp_path):
    with pytest.raises(BirdError, match=r"50 pictures, such as 18063892_F3\.jpg.*--images"):
        read_qa_set(shared / QA50, None)
    Image.new("L", (8, 8)).save(tmp_path / "18063892_F3.jpg")
    with pytest.raises(BirdError, match="lacks 49 of the 50 pictures"):
        read_qa_set(shared / QA50, tmp_path)


def test_with_its_pictures_a_question_file_is_a_test_set(a_qa_file, tmp_path):
    for number in range(2):
        Image.new("L", (8, 8)).save(tmp_path / f"{number}_F.jpg")
    questions = read_qa_set(a_qa_file, tmp_path)
    assert {(q.task, q.modality) for q in questions} == {("MIA", "all")}
    assert (questions[3].text, questions[3].annotation) == ("Why 3?", "Because 3.")
    assert questions[3].picture == tmp_path / "1_F.jpg"


def test_an_answer_file_is_read_against_the_reference_answers(a_qa_file, tmp_path):
    answers = tmp_path / "answers.jsonl"
    rows = [{"question_id": n, "text": f"So {n}."} for n in (3, 1, 0, 2)]
    answers.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    predictions = read_answers(answers, a_qa_file)["MIA"]
    assert [p.response for p in predictions] == ["So 0.", "So 1.", "So 2.", "So 3."]
    assert {p.modality for p in predictions} == {"all"}
    with pytest.raises(BirdError, match="add --questions"):
        read_answers(answers, None)
    answers.write_text(json.dumps(rows[0]))
    with pytest.raises(BirdError, match=r"1 of 4 questions.*question_id 0 is missing"):
        read_answers(answers, a_qa_file)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        pytest.param([], "is empty", id="empty"),
        pytest.param([{"question_id": 1, "image": "a.jpg"}], "'gpt4_answer'", id="no-answer"),
        pytest.param(
            [{"question_id": 1, "image": "a.jpg", "text": 3, "gpt4_answer": ""}],
            "must be text",
            id="no-text",
        ),
        pytest.param(
            [{"question_id": 1, "image": "a.jpg", "text": "?", "gpt4_answer": "!"}] * 2,
            "'1' twice",
            id="twice",
        ),
    ],
)
def test_what_is_no_question_file_is_refused(tmp_path, rows, words):
    path = tmp_path / "qa.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.raises(BirdError, match=words):
        read_qa_questions(path)
