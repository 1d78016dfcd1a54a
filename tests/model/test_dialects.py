"""What every box dialect promises: round trips, prompts that nobody can break, absence."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bird_vlm.boxes import NORM_MAX
from bird_vlm.contract import REFERRING_TASKS
from bird_vlm.dialects import DIALECTS, ShownPicture, dialect_of
from bird_vlm.errors import BadRequestError, GrammarError
from bird_vlm.grammar import MAX_BOXES
from bird_vlm.tokenization_bird import CHAT_TOKENS, EXTRA_TOKENS, IMAGE_TOKENS, MARKUP_TOKENS
from dialect_answers import A_PICTURE, ONE, TWO, assert_refused
from geometries import norm_boxes

NAMES = list(DIALECTS)
CHATTING = [name for name in NAMES if DIALECTS[name].presence_question("liver") is not None]
CHOOSING = [name for name in NAMES if name != "bird"]  # BiRD's grammar allows one object
FIVE = tuple((100 * i, 0, 110 * i + 20, 500) for i in range(MAX_BOXES + 1))

words = st.from_regex(r"[a-zäöüß肝]{1,9}( [a-z0-9-]{1,9}){0,3}", fullmatch=True)
lengths = st.integers(1, 3000)
pictures = st.builds(ShownPicture, lengths, lengths, lengths, lengths)


def bin_norm(name: str, shown: ShownPicture) -> tuple[float, float]:
    """How wide and high a dialect's bin is, in norm units."""
    units = {
        "bird": (NORM_MAX, NORM_MAX),
        "qwen2.5-vl": (shown.input_width, shown.input_height),
        "qwen3-vl": (NORM_MAX, NORM_MAX),
        "paligemma": (1023, 1023),
        "radgrounder": (512, 512),
        "gemma3": (NORM_MAX, NORM_MAX),
    }
    return tuple(NORM_MAX / unit for unit in units[name])


@pytest.mark.parametrize("name", NAMES)
@given(label=words, box_norm=norm_boxes(), shown=pictures)
def test_a_box_is_read_within_a_bin_of_what_was_written(name, label, box_norm, shown):
    dialect = dialect_of(name)
    grounding = dialect.parse(dialect.format(label, (box_norm,), shown), shown, label)
    (read,) = grounding.boxes_norm
    assert grounding.label == label
    across, down = bin_norm(name, shown)
    half_unit = 0.5  # a read box is rounded to norm units
    for was, now, step in zip(box_norm, read, (across, down) * 2, strict=True):
        assert abs(was - now) <= step + half_unit


@pytest.mark.parametrize("name", ["bird", "qwen3-vl", "paligemma", "gemma3"])
@given(box_norm=norm_boxes())
def test_bins_as_fine_as_norm_lose_nothing(name, box_norm):
    dialect = dialect_of(name)
    text = dialect.format("liver", (box_norm,), A_PICTURE)
    assert dialect.parse(text, A_PICTURE, "liver").boxes_norm == (box_norm,)


@pytest.mark.parametrize("name", NAMES)
def test_several_boxes_come_back_in_order(name):
    dialect = dialect_of(name)
    text = dialect.format("lung", (TWO, ONE), A_PICTURE)
    coarse = name == "radgrounder"
    first, second = dialect.parse(text, A_PICTURE, "lung").boxes_norm
    assert first == pytest.approx(TWO, abs=1 * coarse)
    assert second == pytest.approx(ONE, abs=1 * coarse)


@pytest.mark.parametrize("name", NAMES)
@given(label=words)
def test_absence_is_read_as_it_was_written(name, label):
    dialect = dialect_of(name)
    assert dialect.parse(dialect.format(label, (), A_PICTURE), A_PICTURE, label).boxes_norm == ()


@pytest.mark.parametrize("name", CHOOSING)
def test_of_too_many_boxes_the_largest_are_kept_in_order(name):
    dialect = dialect_of(name)
    grounding = dialect.parse(dialect.format("cyst", FIVE, A_PICTURE), A_PICTURE, "cyst")
    assert len(grounding.boxes_norm) == MAX_BOXES
    assert list(grounding.boxes_norm) == sorted(grounding.boxes_norm)
    assert min(x0 for x0, *_ in grounding.boxes_norm) > 0  # the first is the smallest


@pytest.mark.parametrize("name", CHOOSING)
def test_a_box_that_is_said_again_and_again_is_one(name):
    dialect = dialect_of(name)
    text = dialect.format("cyst", (ONE,) * 50, A_PICTURE)
    assert len(dialect.parse(text, A_PICTURE, "cyst").boxes_norm) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_box_cut_off_anywhere_is_refused(name):
    dialect = dialect_of(name)
    whole = dialect.format("liver", (ONE,), A_PICTURE)
    end = whole.rindex(">") + 1 if name == "paligemma" else len(whole)  # the name may lack
    for length in range(1, end):
        with pytest.raises(GrammarError):
            dialect.parse(whole[:length], A_PICTURE, "liver")


def refusal(read: Callable[[], object]) -> str:
    """The message of a refusal; empty where there is none."""
    try:
        read()
    except GrammarError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", NAMES)
@given(text=st.text(max_size=80) | st.text(alphabet='[]{}<>locsebx_2d":,;.0159 liver', max_size=80))
def test_text_is_refused_with_the_text_or_read_as_boxes_of_the_picture(name, text):
    boxes_norm = []
    message = refusal(
        lambda: boxes_norm.extend(dialect_of(name).parse(text, A_PICTURE, "liver").boxes_norm)
    )
    assert not message or repr(text) in message
    for x0, y0, x1, y1 in boxes_norm:
        assert 0 <= x0 < x1 <= NORM_MAX
        assert 0 <= y0 < y1 <= NORM_MAX


ABSENCES = [
    pytest.param("none", id="none"),
    pytest.param("None.", id="None with a full stop"),
    pytest.param('"none"', id="quoted"),
    pytest.param("No", id="no"),
    pytest.param("There are none.", id="there are none"),
    pytest.param("There is no liver in this image.", id="there is no"),
    pytest.param("No, there is no visible liver in the CT slice.", id="no, there is no visible"),
    pytest.param("The liver is not present in the image.", id="BiRD's sentence"),
    pytest.param("The Livers are not visible.", id="other spelling"),
    pytest.param('The "liver" cannot be seen', id="label in quotes"),
    pytest.param("I cannot see the liver in this image.", id="I cannot see"),
    pytest.param("The image does not show a liver.", id="the image does not show"),
    pytest.param("No evidence of\nliver.", id="line break"),
]


@pytest.mark.parametrize("name", ["qwen2.5-vl", "qwen3-vl", "gemma3", "paligemma"])
@pytest.mark.parametrize("text", [*ABSENCES, pytest.param(" \n", id="nothing")])
def test_a_sentence_of_absence_means_absent(name, text):
    assert dialect_of(name).parse(text, A_PICTURE, "liver").boxes_norm == ()


@pytest.mark.parametrize("name", ["qwen2.5-vl", "qwen3-vl", "gemma3", "paligemma"])
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("There is no fluid around the liver.", id="denies something else"),
        pytest.param("The spleen is not present in the image.", id="another organ"),
        pytest.param("There is no doubt that the liver is in the image.", id="no doubt"),
        pytest.param("The liver is not present, but the spleen is.", id="more than a denial"),
        pytest.param("No problem. The liver is on the left.", id="two sentences"),
        pytest.param("The liver looks normal.", id="prose"),
        pytest.param("I am sorry, I cannot help with medical images.", id="refusal"),
        pytest.param("```json", id="cut off at the fence"),
    ],
)
def test_other_prose_is_no_absence(name, text):
    assert_refused(dialect_of(name), text, "neither|not 4 location")


@pytest.mark.parametrize(
    ("found", "asked", "kept"),
    [
        pytest.param(["liver"], "liver", [0], id="as asked"),
        pytest.param(["Liver"], "the liver", [0], id="another spelling"),
        pytest.param(["kidney_left"], "Left Kidney", [0], id="side behind"),
        pytest.param(["lungs"], "lung", [0], id="plural"),
        pytest.param(["liver", "spleen", "liver"], "liver", [0, 2], id="others left out"),
        pytest.param(["spleen", "liver"], "liver", [1], id="other first"),
        pytest.param(["liver tumor", "liver"], "liver", [1], id="not its lesion"),
        pytest.param(["left kidney", "right kidney"], "kidney", [0, 1], id="both sides"),
        pytest.param(["left kidney", "right kidney"], "right kidney", [1], id="one side"),
        pytest.param(["kidney", "left kidney"], "kidney", [0], id="exact name first"),
        pytest.param(["left cyst 1", "spleen"], "left cyst", [0], id="numbered on one side"),
        pytest.param(["lesion 1", "lesion #2"], "lesion", [0, 1], id="numbered"),
    ],
)
@pytest.mark.parametrize("name", CHOOSING)
def test_the_asked_object_is_chosen_among_others(name, found, asked, kept):
    boxes_norm = [(100 * i, 0, 100 * i + 50, 500) for i in range(len(found))]
    grounding = dialect_of(name).parse(a_mixed_answer(name, found, boxes_norm), A_PICTURE, asked)
    assert grounding.label == found[kept[0]]
    expected = [boxes_norm[index] for index in kept]
    assert [box[0] for box in grounding.boxes_norm] == pytest.approx(
        [x0 for x0, *_ in expected], abs=1
    )


def a_mixed_answer(name, found, boxes_norm) -> str:
    """One answer that boxes objects of several names."""
    dialect = dialect_of(name)
    parts = [dialect.format(f, (b,), A_PICTURE) for f, b in zip(found, boxes_norm, strict=True)]
    if parts[0].startswith("["):
        return json.dumps([json.loads(part)[0] for part in parts])
    return (" ; " if name == "paligemma" else " and ").join(parts)


@pytest.mark.parametrize("name", ["qwen2.5-vl", "qwen3-vl", "gemma3", "paligemma"])
def test_one_other_name_is_taken_as_the_asked_object_and_told(name):
    text = dialect_of(name).format("hepatic parenchyma", (ONE,), A_PICTURE)
    grounding = dialect_of(name).parse(text, A_PICTURE, "Leber")
    assert (grounding.label, grounding.boxes_norm) == ("hepatic parenchyma", (ONE,))


@pytest.mark.parametrize("name", ["qwen2.5-vl", "qwen3-vl", "gemma3", "paligemma"])
@pytest.mark.parametrize(
    ("found", "asked"),
    [
        pytest.param(["spleen", "stomach"], "liver", id="several others"),
        pytest.param(["right kidney"], "left kidney", id="the opposite side"),
        pytest.param(["spleen", "stomach"], None, id="several, nothing asked"),
    ],
)
def test_other_objects_are_not_the_asked_one(name, found, asked):
    text = a_mixed_answer(name, found, [ONE, TWO][: len(found)])
    assert_refused(dialect_of(name), text, f"names {found[0]}", asked)


INJECTED = {
    "bird": [*CHAT_TOKENS, *MARKUP_TOKENS, *IMAGE_TOKENS, EXTRA_TOKENS[0], EXTRA_TOKENS[-1]],
    "qwen2.5-vl": ["<|im_end|>", "<|im_start|>", "<|vision_start|>", "<|image_pad|>", "</think>"],
    "qwen3-vl": ["<|endoftext|>", "<|box_start|>", "<|video_pad|>", "<think>", "<tool_call>"],
    "paligemma": ["<image>", "<loc0000>", "<loc1023>", "<seg127>", "<eos>", "<bos>"],
    "radgrounder": ["<image>", "<loc0000>", "<seg127>", "<p bbox=", "</p>", "<eos>"],
    "gemma3": ["<end_of_turn>", "<start_of_turn>", "<start_of_image>", "<eos>", "<unused94>"],
}


@pytest.mark.parametrize(("name", "token"), [(n, t) for n in INJECTED for t in INJECTED[n]])
def test_control_tokens_of_a_user_are_refused(name, token):
    dialect = dialect_of(name)
    for prompt in (dialect.grounding_prompt, dialect.asking_prompt):
        with pytest.raises(BadRequestError, match=re.escape(token)):
            prompt(f"liver{token}system")
    with pytest.raises(BadRequestError, match=re.escape(token)):
        dialect.format(f"liver{token}", (ONE,), A_PICTURE)


@pytest.mark.parametrize("name", CHATTING)
def test_control_tokens_are_refused_in_a_presence_question(name):
    with pytest.raises(BadRequestError, match="control token"):
        dialect_of(name).presence_question(f"liver{INJECTED[name][0]}")


@pytest.mark.parametrize("name", CHATTING)
def test_a_presence_question_names_the_label_and_tells_yes_from_no(name):
    question = dialect_of(name).presence_question("left kidney")
    assert "left kidney" in question.text
    assert question.yes
    assert question.no
    assert not set(question.yes) & set(question.no)


@pytest.mark.parametrize("name", ["bird", "paligemma"])
def test_families_that_tell_presence_with_the_first_token_are_not_asked(name):
    assert dialect_of(name).presence_question("liver") is None


@pytest.mark.parametrize("name", [name for name in NAMES if name != "radgrounder"])
@pytest.mark.parametrize("label", ["liver", "Leber (rechts) 肝臓", "lesion <5 mm & >2 mm"])
def test_a_grounding_prompt_names_the_label(name, label):
    assert label in dialect_of(name).grounding_prompt(label)


@pytest.mark.parametrize("name", ["qwen2.5-vl", "qwen3-vl", "gemma3"])
@given(label=st.text(alphabet='ab"\\{}[]:,\n', min_size=1, max_size=12))
def test_quotes_and_brackets_of_a_label_stay_inside_its_quotes(name, label):
    prompt = dialect_of(name).grounding_prompt(label)
    quoted = json.dumps(label)
    assert prompt.count(quoted) >= 2  # what to look for, and how to call it
    shape = prompt.replace(quoted, "LABEL")
    assert shape == dialect_of(name).grounding_prompt("liver").replace('"liver"', "LABEL")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "radgrounder"])
def test_a_referring_prompt_shows_the_box_as_the_family_writes_it(name):
    dialect = dialect_of(name)
    written = {
        "bird": "<box>(100,200),(500,600)</box>",
        "qwen2.5-vl": '{"bbox_2d": [140, 140, 700, 420]}',
        "qwen3-vl": '{"bbox_2d": [100, 200, 500, 600]}',
        "paligemma": "<loc0205><loc0102><loc0614><loc0512>",
        "gemma3": '{"box_2d": [200, 100, 600, 500]}',
    }
    for task in REFERRING_TASKS:
        assert written[name] in dialect.referring_prompt(task, ONE, A_PICTURE)


@pytest.mark.parametrize("name", NAMES)
def test_a_dialect_is_found_by_its_name(name):
    assert dialect_of(name).name == name


def test_an_unknown_dialect_is_refused_with_the_known_ones():
    with pytest.raises(BadRequestError, match=r"'qwen9'.*bird, qwen2.5-vl"):
        dialect_of("qwen9")


@pytest.mark.parametrize("field", ["width", "height", "input_width", "input_height"])
def test_a_picture_without_pixels_is_refused(field):
    with pytest.raises(BadRequestError, match=f"{field}: .*got 0"):
        ShownPicture(**{"width": 9, "height": 9, "input_width": 9, "input_height": 9, field: 0})


def test_the_dialects_load_no_model_library():
    program = (
        "import sys, bird_vlm.dialects\n"
        "print(*sorted(set(sys.modules) & {'torch', 'transformers', 'monai'}))"
    )
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout.split() == []
