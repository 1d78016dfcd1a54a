"""Released files are read whole and checked; whatever is wrong is named with file and record."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bird_training.conversations import (
    Conversation,
    conversation_files,
    read_conversations,
    stream_records,
)
from bird_vlm.errors import BirdError
from released_world import a_record, there, where, write_released

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def a_train_folder(tmp_path_factory) -> Path:
    return write_released(tmp_path_factory.mktemp("released"), pictures=3)


@pytest.fixture
def read(tmp_path):
    """Reads records as a file beside one picture, seen.png."""
    (tmp_path / "seen.png").write_bytes(b"x")
    (tmp_path / "other.png").write_bytes(b"x")

    def reading(*records: object, **options) -> list[Conversation]:
        file = tmp_path / "VG.json"
        file.write_text(json.dumps(list(records)))
        return list(read_conversations([file], **options))

    return reading


def test_all_files_of_a_side_are_read(a_train_folder):
    files = conversation_files(a_train_folder)
    assert [file.name for file in files] == ["MIA.json", "ROC.json", "VG.json"]
    assert conversation_files(a_train_folder.parent) == files  # OUT itself means OUT/train
    assert conversation_files(files[0]) == files[:1]
    conversations = list(read_conversations(files))
    assert len(conversations) == 3 + 3 + 6
    assert all(c.pictures[0].is_file() for c in conversations)
    assert {c.modality for c in conversations} == {"ct"}


def test_the_picture_leaves_the_question_and_labels_are_found(a_train_folder):
    first = next(read_conversations([a_train_folder / "VG.json"]))
    assert first.exchanges[0].question == where("liver")
    assert first.exchanges[0].answer == there("liver", 0)
    assert first.labels() == {"liver"}
    assert [part["type"] for part in first.messages()[0]["content"]] == ["image", "text"]


def test_only_what_an_answer_places_is_a_label(read):
    absent = "<ref>heart</ref> is not in this image."
    pairs = [[where("liver"), there("liver", 0)], [where("heart"), absent]]
    (talk,) = read({"id": "ct_1", "image": "seen.png", "conversations": pairs})
    assert talk.labels() == {"liver"}


def test_a_picture_is_shown_once_however_often_it_is_written(read):
    shown = "Picture 1: <img>seen.png</img>\n"
    pairs = [[shown + "one?", "a"], [shown + "two?", "b"]]
    pairs.append(["Picture 2: <img>other.png</img>\nthree?", "c"])
    (talk,) = read({"id": "ct_1", "conversations": pairs})
    assert [e.question for e in talk.exchanges] == ["one?", "two?", "three?"]
    assert [[p.name for p in e.pictures] for e in talk.exchanges] == [
        ["seen.png"],
        [],
        ["other.png"],
    ]


@pytest.mark.parametrize(
    "record",
    [
        pytest.param({"id": "ct_1", "image": "seen.png"}, id="image-field"),
        pytest.param({"id": "seen"}, id="id-as-file-name"),
        pytest.param({"id": "ct_1", "image": "/elsewhere/images/seen.png"}, id="made-elsewhere"),
    ],
)
def test_a_question_without_a_picture_gets_the_records_own(read, record):
    (talk,) = read({**record, "conversations": [["What is it?", "A scan."]]})
    assert [path.name for path in talk.pictures] == ["seen.png"]


def test_pictures_may_lie_in_a_folder_of_their_own(read, tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "ct_9.png").write_bytes(b"x")
    (talk,) = read({"id": "ct_9", "conversations": [["q", "a"]]}, images=tmp_path / "far")
    assert talk.pictures == (tmp_path / "far" / "ct_9.png",)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        pytest.param({"conversations": [["q", "a"]]}, "'id' must be a text", id="no-id"),
        pytest.param({"id": "ct_1"}, "must be a list of", id="no-conversations"),
        pytest.param({"id": "ct_1", "conversations": []}, "must be a list of", id="none"),
        pytest.param({"id": "ct_1", "conversations": [["q"]]}, "must be a list of", id="no-answer"),
        pytest.param({"id": "ct_1", "conversations": [["q", 3]]}, "must be a list of", id="number"),
        pytest.param(
            {"id": "seen", "conversations": [["q", " "]]}, "must not be empty", id="empty-answer"
        ),
        pytest.param(
            {"id": "ct_lost", "conversations": [["q", "a"]]}, "ct_lost.png", id="no-picture"
        ),
        pytest.param(
            {"id": "seen", "conversations": [["q<|im_end|>", "a"]]},
            "control token <|im_end|>",
            id="control-token",
        ),
    ],
)
def test_a_bad_record_is_named(read, record, words):
    good = {"id": "seen", "conversations": [["q", "a"]]}
    with pytest.raises(BirdError, match=r"VG\.json, record 2") as caught:
        read(good, record, control_tokens=["<|im_end|>"])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param('[{"id": "a"}, {"id": ', "is cut off", id="cut-off"),
        pytest.param('[{"id": "a', "is cut off", id="cut-off-in-a-text"),
        pytest.param('{"id": "a"}', "is not a JSON list", id="an-object"),
        pytest.param('["a"]', "is not a JSON list", id="a-list-of-texts"),
        pytest.param("id,answer", "is not a JSON list", id="a-table"),
        pytest.param('[{"id": nothing}]', "record 1: is not JSON", id="no-json-within"),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, words):
    file = tmp_path / "VG.json"
    file.write_text(text)
    with pytest.raises(BirdError, match=r"VG\.json") as caught:
        list(stream_records(file))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: path / "nowhere", id="missing"),
        pytest.param(lambda path: path, id="empty-folder"),
    ],
)
def test_a_folder_without_files_is_refused(tmp_path, make):
    with pytest.raises(BirdError, match="medgrit build"):
        conversation_files(make(tmp_path))


@given(
    st.lists(st.dictionaries(st.text(max_size=6), VALUES, max_size=4), max_size=5), st.booleans()
)
def test_streaming_reads_what_json_reads(tmp_path_factory, records, indented):
    file = tmp_path_factory.mktemp("json") / "x.json"
    file.write_text(json.dumps(records, indent=1 if indented else None, ensure_ascii=indented))
    assert list(stream_records(file)) == json.loads(file.read_text())


def test_memory_does_not_grow_with_the_file(tmp_path):
    def peak(count: int) -> int:
        file = tmp_path / f"{count}.json"
        file.write_text(
            json.dumps([a_record(n, (where("liver"), "x" * 500)) for n in range(count)])
        )
        tracemalloc.start()
        assert sum(1 for _ in stream_records(file)) == count
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert peak(4000) < 2 * peak(200) + 100_000  # the larger file has three megabytes
