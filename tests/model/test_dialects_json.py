"""Answers of the families that write JSON: Qwen2.5-VL, Qwen3-VL, Gemma 3 and MedGemma.

The tables spell an answer once for all three: KEY stands for the key of a box, ONE, TWO and
SWAPPED for four numbers as the family writes them.
"""

from __future__ import annotations

import pytest

from bird_vlm.dialects import ShownPicture, dialect_of
from dialect_answers import A_PICTURE, ONE, TWO, assert_refused

FAMILIES = {
    "qwen2.5-vl": {
        "KEY": "bbox_2d",
        "ONE": "[140, 140, 700, 420]",
        "TWO": "[840, 70, 1260, 700]",
        "FLOATS": "[140.0, 140.2, 699.9, 420.1]",
        "SWAPPED": "[700, 140, 140, 420]",
        "BEYOND": "[140, 140, 700, 702]",
        "BORDER": "[-1, 0, 1401, 701]",
    },
    "qwen3-vl": {
        "KEY": "bbox_2d",
        "ONE": "[100, 200, 500, 600]",
        "TWO": "[600, 100, 900, 1000]",
        "FLOATS": "[100.0, 200.2, 499.9, 600.1]",
        "SWAPPED": "[500, 200, 100, 600]",
        "BEYOND": "[100, 200, 500, 1002]",
        "BORDER": "[-1, 0, 1001, 1001]",
    },
    "gemma3": {
        "KEY": "box_2d",
        "ONE": "[200, 100, 600, 500]",
        "TWO": "[100, 600, 1000, 900]",
        "FLOATS": "[200.2, 100.0, 600.1, 499.9]",
        "SWAPPED": "[200, 500, 600, 100]",
        "BEYOND": "[200, 100, 1002, 500]",
        "BORDER": "[-1, 0, 1001, 1001]",
    },
}


def spelled(name: str, answer: str) -> str:
    for word, spelling in FAMILIES[name].items():
        answer = answer.replace(word, spelling)
    return answer


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("answer", "boxes_norm"),
    [
        pytest.param('[{"KEY": ONE, "label": "liver"}]', (ONE,), id="single"),
        pytest.param(
            '[{"KEY": ONE, "label": "liver"}, {"KEY": TWO, "label": "liver"}]',
            (ONE, TWO),
            id="several",
        ),
        pytest.param("[]", (), id="none"),
        pytest.param(" [ ]\n", (), id="none with blanks"),
        pytest.param("{}", (), id="empty object"),
        pytest.param("", (), id="empty text"),
        pytest.param("```json\n[]\n```", (), id="none in a fence"),
        pytest.param("There is no liver in this image.\n\n[]", (), id="none with prose"),
        pytest.param(
            '```json\n[\n\t{"KEY": ONE, "label": "liver"}\n]\n```', (ONE,), id="markdown fence"
        ),
        pytest.param('```\n[{"KEY": ONE, "label": "liver"}]\n```', (ONE,), id="nameless fence"),
        pytest.param('```json\n[{"KEY": ONE, "label": "liver"}]', (ONE,), id="fence not closed"),
        pytest.param(
            'The liver is on the left side [of the image]:\n[{"KEY": ONE, "label": "liver"}]\n'
            "Please consult a radiologist.",
            (ONE,),
            id="prose around",
        ),
        pytest.param('{"KEY": ONE, "label": "liver"}', (ONE,), id="single object"),
        pytest.param(
            '{"KEY": ONE, "label": "liver"}\n{"KEY": TWO, "label": "liver"}',
            (ONE, TWO),
            id="an object a line",
        ),
        pytest.param(
            '[{"KEY": ONE, "label": "liver"}]\n[{"KEY": ONE, "label": "liver"}]',
            (ONE,),
            id="said twice",
        ),
        pytest.param('[{"label": "liver", "KEY": ONE}]', (ONE,), id="label first"),
        pytest.param('[{"KEY": ONE}]', (ONE,), id="no label"),
        pytest.param('[{"KEY": ONE, "label": null}]', (ONE,), id="null label"),
        pytest.param(
            '[{"KEY": ONE, "label": "liver", "score": 0.9, "mask": [1, 2], "sub": {"a": []}}]',
            (ONE,),
            id="extra keys",
        ),
        pytest.param('[{"KEY": FLOATS, "label": "liver"}]', (ONE,), id="floats"),
        pytest.param(
            '[{"KEY": BORDER, "label": "liver"}]', ((0, 0, 1000, 1000),), id="a unit beyond"
        ),
        pytest.param(
            '\n\n[\n  {\n    "KEY":\n      ONE,\n    "label":\t"liver"  }\n ]\n \n',
            (ONE,),
            id="white space",
        ),
        pytest.param('[{"KEY": ONE, "label": "liver\n"}]', (ONE,), id="line break in the label"),
        pytest.param(
            '[{"KEY": ONE, "label": "spleen"}, {"KEY": TWO, "label": "Liver"}]',
            (TWO,),
            id="another object beside",
        ),
        pytest.param(
            '<think>[0, 0] is a corner, "[{" opens.</think>\n[{"KEY": ONE, "label": "liver"}]',
            (ONE,),
            id="after Qwen's thoughts",
        ),
        pytest.param(
            '<unused94>thought\nIs it {liver}?<unused95>```json\n[{"KEY": ONE}]\n```',
            (ONE,),
            id="after MedGemma's thoughts",
        ),
        pytest.param(
            '[{"KEY": ONE, "label": "liver"}]<|im_end|><end_of_turn>', (ONE,), id="end tokens"
        ),
    ],
)
def test_answers_that_are_read(name, answer, boxes_norm):
    text = spelled(name, answer)
    assert dialect_of(name).parse(text, A_PICTURE, "liver").boxes_norm == boxes_norm


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("label", "read"),
    [
        pytest.param("Leber ÄÖÜß 肝臓", "Leber ÄÖÜß 肝臓", id="unicode"),
        pytest.param("\\u809d\\u81d3", "肝臓", id="unicode escapes"),
        pytest.param('the \\"hot\\" spot', 'the "hot" spot', id="escaped quotes"),
        pytest.param("T2 {core} [a]", "T2 {core} [a]", id="brackets"),
    ],
)
def test_labels_are_read_as_meant(name, label, read):
    text = spelled(name, '[{"KEY": ONE, "label": "') + label + '"}]'
    grounding = dialect_of(name).parse(text, A_PICTURE, read)
    assert (grounding.label, grounding.boxes_norm) == (read, (ONE,))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param("[", "cut off", id="cut off at once"),
        pytest.param('```json\n[\n\t{"KEY": [14', "cut off", id="cut off in a number"),
        pytest.param('[{"KEY": ONE, "label": "liv', "cut off", id="cut off in the label"),
        pytest.param('[{"KEY": ONE, "label": "liver"}, {"KEY": [8', "cut off", id="second cut off"),
        pytest.param('[{"KEY": ONE, "label": "liver"}', "cut off", id="list not closed"),
        pytest.param("[{'KEY': ONE, 'label': 'liver'}]", "malformed", id="Python's quotes"),
        pytest.param('[{"KEY": ONE, "label": "liver"},]', "malformed", id="comma too many"),
        pytest.param("[" * 100_000, "malformed", id="nested without end"),
        pytest.param('[{"KEY": [1, 2, 3, ' + "9" * 5000 + "]}]", "malformed", id="endless number"),
        pytest.param('[{"KEY": SWAPPED, "label": "liver"}]', "swapped", id="swapped corners"),
        pytest.param('[{"KEY": [9, 9, 9, 9]}]', "empty", id="no extent"),
        pytest.param('[{"KEY": [0, 0, 0, 0], "label": "none"}]', "empty", id="zeros"),
        pytest.param('[{"KEY": [-1, -1, -0.5, 9]}]', "empty", id="beside the picture"),
        pytest.param('[{"KEY": BEYOND, "label": "liver"}]', "exceeds", id="out of range"),
        pytest.param('[{"KEY": [-2, 0, 9, 9]}]', "exceeds", id="negative"),
        pytest.param('[{"KEY": [1, 2, NaN, 9]}]', "exceeds", id="NaN"),
        pytest.param('[{"KEY": [1, 2, 1e999, 9]}]', "exceeds", id="infinite"),
        pytest.param('[{"KEY": ["140", "140", "700", "420"]}]', "not of numbers", id="strings"),
        pytest.param('[{"KEY": "140, 140, 700, 420"}]', "not of numbers", id="one string"),
        pytest.param('[{"KEY": [false, 0, true, true]}]', "not of numbers", id="truth values"),
        pytest.param('[{"KEY": null, "label": "liver"}]', "not of numbers", id="null"),
        pytest.param('[{"KEY": {"x0": 1}, "label": "liver"}]', "not of numbers", id="object"),
        pytest.param('[{"KEY": [ONE]}]', "not of numbers", id="nested box"),
        pytest.param('[{"KEY": [1, 2, 3], "label": "liver"}]', "4 numbers", id="three numbers"),
        pytest.param('[{"KEY": [1, 2, 3, 4, 0.9]}]', "4 numbers", id="five numbers"),
        pytest.param('[{"KEY": []}]', "4 numbers", id="no numbers"),
        pytest.param('[{"bounding_box": ONE, "label": "liver"}]', "no 'KEY' among", id="wrong key"),
        pytest.param('{"objects": [{"KEY": ONE}]}', "no 'KEY' among", id="wrapped"),
        pytest.param("[{}]", "no 'KEY' among", id="object without anything"),
        pytest.param("ONE", "where an object should", id="numbers alone"),
        pytest.param('["liver"]', "where an object should", id="names alone"),
        pytest.param('<think>First, [{"KEY": ONE}]', "still thinking", id="thoughts cut off"),
        pytest.param("<unused94>thought\nThe liver", "still thinking", id="MedGemma's cut off"),
        pytest.param("The liver is at 140, 140, 700, 420.", "neither", id="prose only"),
    ],
)
def test_answers_that_are_refused_with_the_text(name, answer, reason):
    assert_refused(dialect_of(name), spelled(name, answer), spelled(name, reason))


@pytest.mark.parametrize(
    ("name", "text", "box_norm"),
    [
        pytest.param(
            "qwen2.5-vl",
            '```json\n[\n\t{"bbox_2d": [135, 114, 1016, 672], "label": "liver"}\n]\n```',
            (96, 163, 726, 960),
            id="Qwen2.5-VL: pixels of the resized picture, 1400 x 700",
        ),
        pytest.param(
            "qwen3-vl",
            '```json\n[\n\t{"bbox_2d": [135, 114, 1000, 672], "label": "liver"}\n]\n```',
            (135, 114, 1000, 672),
            id="Qwen3-VL: thousandths",
        ),
        pytest.param(
            "gemma3",
            '```json\n[{"box_2d": [160, 150, 830, 900], "label": "liver"}]\n```',
            (150, 160, 900, 830),
            id="MedGemma: thousandths, y first",
        ),
    ],
)
def test_the_same_shape_of_answer_means_other_places(name, text, box_norm):
    assert dialect_of(name).parse(text, A_PICTURE, "liver").boxes_norm == (box_norm,)


def test_the_key_of_another_family_is_no_box():
    assert_refused(dialect_of("gemma3"), '[{"bbox_2d": [1, 2, 3, 4]}]', "no 'box_2d' among")
    assert_refused(dialect_of("qwen3-vl"), '[{"box_2d": [1, 2, 3, 4]}]', "no 'bbox_2d' among")


@pytest.mark.parametrize("name", ["qwen3-vl", "gemma3"])
def test_thousandths_do_not_depend_on_the_picture(name):
    dialect, tiny = dialect_of(name), ShownPicture(37, 911, 1, 2)
    text = dialect.format("liver", (ONE, TWO), A_PICTURE)
    assert dialect.format("liver", (ONE, TWO), tiny) == text
    assert dialect.parse(text, tiny, "liver").boxes_norm == (ONE, TWO)
