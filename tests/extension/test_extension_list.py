"""What lists and text fields say, without a scene: findings, names to ask for, links, turns."""

import pytest

from BiRDLib.answers import Reply
from BiRDLib.conversation import MAX_CHARACTERS, Conversation
from BiRDLib.labels import HISTORY, completions, presets, remembered, with_labels
from BiRDLib.lines import Line, Listing, cells, neighbour, next_open, tally
from BiRDLib.links import Part, parse_links, without_marks
from BiRDLib.statuses import ABSENT, ACCEPTED, PROPOSED, REJECTED

LIVER = Line("1/1", "1: liver", "liver", 0.9, (3, 20), (90, 80, 50), PROPOSED, "m", "", "")
SPLEEN = Line("1/2", "1: liver", "Spleen", 0.4, (8, 12), (30, 40, 20), PROPOSED, "m", "", "")
AORTA = Line("2/1", "2: aorta", "aorta", 0.2, (1, 30), (20, 20, 90), ACCEPTED, "", "good", "told")
NODULE = Line("2/2", "2: x", "nodule", 0.1, (5, 5), (4, 4, 2), REJECTED, "m", "", "untold")
MISSING = Line("", "1: liver", "gallbladder", 0.0, None, None, ABSENT, "m", "", "")
LINES = [LIVER, SPLEEN, AORTA, NODULE, MISSING]


def _labels(lines):
    return [line.label for line in lines]


@pytest.mark.parametrize(
    ("listing", "expected"),
    [
        pytest.param(
            Listing(), ["aorta", "liver", "nodule", "Spleen", "gallbladder"], id="by-slices"
        ),
        pytest.param(
            Listing(by="score", descending=True),
            ["liver", "Spleen", "aorta", "nodule", "gallbladder"],
            id="best-first",
        ),
        pytest.param(
            Listing(by="label"),
            ["aorta", "gallbladder", "liver", "nodule", "Spleen"],
            id="by-label-whatever-its-case",
        ),
        pytest.param(
            Listing(by="size"),
            ["gallbladder", "nodule", "Spleen", "aorta", "liver"],
            id="by-volume",
        ),
        pytest.param(
            Listing(by="status"),
            ["liver", "Spleen", "aorta", "nodule", "gallbladder"],
            id="by-status",
        ),
        pytest.param(Listing(words="GOOD"), ["aorta"], id="words-of-a-comment"),
        pytest.param(Listing(words="liver spleen"), ["Spleen"], id="every-word"),
        pytest.param(Listing(statuses=frozenset([PROPOSED])), ["liver", "Spleen"], id="unreviewed"),
        pytest.param(Listing(statuses=frozenset([ABSENT])), ["gallbladder"], id="missing"),
        pytest.param(
            Listing(threshold=0.5),
            ["aorta", "liver", "nodule", "gallbladder"],
            id="threshold-for-undecided-only",
        ),
    ],
)
def test_the_list_is_sorted_and_filtered(listing, expected):
    assert _labels(listing.of(LINES)) == expected


def test_cells_name_size_and_what_is_not_sent():
    assert cells(LIVER) == ("liver", "proposed", "0.90", "3-20", "90 x 80 x 50", "m")
    assert cells(AORTA)[5] == "by hand"
    assert cells(NODULE)[1:4] == ("rejected *", "0.10", "5")
    assert cells(NODULE._replace(told="disputed"))[1] == "rejected (disputed)"
    assert cells(MISSING) == ("gallbladder", "absent", "", "", "", "m")


@pytest.mark.parametrize(
    ("key", "step", "expected"),
    [
        pytest.param("1/1", 1, "1/2", id="next"),
        pytest.param("1/2", -1, "1/1", id="previous"),
        pytest.param("2/2", 1, None, id="none-after-the-last"),
        pytest.param("1/1", -1, None, id="none-before-the-first"),
        pytest.param(None, 1, "1/1", id="first-of-all"),
        pytest.param(None, -1, "2/2", id="last-of-all"),
    ],
)
def test_walking_through_the_list_passes_over_what_is_absent(key, step, expected):
    assert neighbour([LIVER, SPLEEN, MISSING, AORTA, NODULE], key, step) == expected


def test_what_is_left_to_decide():
    assert next_open(LINES, "1/1") == "1/2"
    assert next_open(LINES, "2/1") == "1/1"
    assert next_open([AORTA, NODULE], "2/1") is None
    assert tally(LINES) == "2 of 4 reviewed"
    assert neighbour([], None, 1) is None


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        pytest.param("l", ("left kidney", "liver"), id="starts-so"),
        pytest.param("Kid", ("left kidney", "right kidney"), id="a-word-within"),
        pytest.param("idney", (), id="not-within-a-word"),
        pytest.param("", (), id="nothing-typed"),
        pytest.param("liver", (), id="complete-already"),
    ],
)
def test_known_names_complete_what_is_typed(typed, expected):
    known = ("left kidney", "liver", "right kidney", "spleen")
    assert completions(typed, known, taken=("spleen",)) == expected
    assert completions("s", known, taken=("spleen",)) == ()


def test_presets_offer_what_the_model_knows():
    assert presets(("aorta", "left lung"))["Chest"] == ("left lung", "aorta")
    assert "Heart" not in presets(("aorta", "left lung"))
    assert "trachea" in presets(())["Chest"]


def test_history_is_short_and_the_text_field_has_each_name_once():
    history = remembered([str(n) for n in range(100)], ("liver",))
    assert (history[0], len(history)) == ("liver", HISTORY)
    assert with_labels("", ("liver", "spleen")) == "liver\nspleen"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        pytest.param("Nothing.", [Part("Nothing.", ())], id="plain"),
        pytest.param(
            "<ref>lung</ref><box>(1,2),(3,4)</box><box>(5,6),(7,8)</box>",
            [Part("lung", ((1, 2, 3, 4), (5, 6, 7, 8)))],
            id="two-boxes",
        ),
        pytest.param(
            "at <box>(1,2),(3,4)</box> !",
            [Part("at ", ()), Part("this place", ((1, 2, 3, 4),)), Part(" !", ())],
            id="box-without-a-name",
        ),
        pytest.param(
            "<ref>liver</ref> is fine", [Part("liver is fine", ())], id="name-without-box"
        ),
        pytest.param(
            "<box>(9,9),(3,4)</box>", [Part("<box>(9,9),(3,4)</box>", ())], id="swapped-corners"
        ),
        pytest.param(
            "<box>(1,2),(3,1004)</box>", [Part("<box>(1,2),(3,1004)</box>", ())], id="too-far"
        ),
        pytest.param("<ref>a</ref><box>(1,2)", [Part("a<box>(1,2)", ())], id="cut-off"),
        pytest.param("", [], id="empty"),
    ],
)
def test_links_are_read_from_an_answer(text, parts):
    assert parse_links(text) == parts
    assert without_marks(text) == "".join(part.words for part in parts)


def _reply(text, index=7):
    return Reply("m", text, index, "axial")


def test_an_answer_is_shown_with_links_and_nothing_of_it_runs():
    talk = Conversation()
    talk.add(
        "<b>where</b>", _reply("<script>x</script> <ref>li&ver</ref><box>(1,2),(3,4)</box>"), "V1"
    )
    shown = talk.as_html()
    assert "<script>" not in shown
    assert "<b>where" not in shown
    assert '<a href="box:0/1">li&amp;ver</a>' in shown
    assert '<a href="slice:0">axial slice 7</a>' in shown
    turn, part = talk.link("box:0/1")
    assert (turn.reply.slice, part.boxes_norm) == (7, ((1, 2, 3, 4),))
    assert talk.link("slice:0")[1] is None


@pytest.mark.parametrize("anchor", ["box:4/0", "http://example.org", "slice:-1", "slice:x"])
def test_a_link_of_elsewhere_is_no_link(anchor):
    talk = Conversation()
    talk.add("where", _reply("there"), "V1")
    with pytest.raises(KeyError):
        talk.link(anchor)


def test_a_question_goes_on_from_the_last_ones_about_this_volume():
    talk = Conversation()
    talk.add("What is it?", _reply("A <ref>liver</ref><box>(1,2),(3,4)</box>."), "V1")
    prompt = talk.prompt("Is it large?", "V1")
    assert prompt == "Question: What is it? Answer: A liver. Question: Is it large?"
    assert talk.prompt("Is it large?", "V2") == "Is it large?"
    talk.add("And?", _reply("long " * 150), "V1")
    talk.add("So?", _reply("long " * 150), "V1")
    prompt = talk.prompt("And <|im_start|> now?", "V1")
    assert len(prompt) <= MAX_CHARACTERS
    assert prompt.startswith("Question: So? Answer: long")
    assert "<" not in prompt
    talk.clear()
    assert len(talk.prompt("x" * 5000, "V1")) == MAX_CHARACTERS
