"""What is asked beyond one slice: ranges, questions about the image, links in their answers."""

import numpy as np
import pytest

from bird_vlm.boxes import norm_to_pixel
from bird_vlm.contract import VolumeGeometry
from bird_vlm.slices import slice_stack
from BiRDLib import scene as geometry
from BiRDLib import views
from BiRDLib.answers import Reply
from BiRDLib.conversation import Conversation
from BiRDLib.errors import UnusableInput
from BiRDLib.question import VISIBLE, Question
from grounding import a_grounding, as_json
from voxel_grids import GEOMETRIES


def _answers(server):
    server.grounds({"event": "result", "result": as_json(a_grounding())})


def test_the_visible_range_is_what_the_other_views_show(
    a_server, a_connected_logic, a_volume, make_view, an_outcome
):
    """Slices lie 2 mm apart from -40 on; the coronal view shows 40 mm, from -30 to 10."""
    make_view("Red", "axial").show(a_volume).jump((0, 0, 0))
    coronal = make_view("Green", "coronal").show(a_volume).center((0, 0, -10))
    coronal.node.SetFieldOfView(40, 40, 1)
    _answers(a_server)
    question = Question(a_volume, ("liver",), extent=VISIBLE)
    a_connected_logic.ground(question, **an_outcome.callbacks)
    (asked,) = a_server.asked("/ground")
    assert asked["near"] == 20
    assert asked["slices"] == pytest.approx([5, 26], abs=1)


def test_a_visible_range_needs_a_view_across(a_connected_logic, a_volume, make_view, an_outcome):
    make_view("Red", "axial").show(a_volume)
    question = Question(a_volume, ("liver",), extent=VISIBLE)
    a_connected_logic.ground(question, **an_outcome.callbacks)
    assert "No view cuts across the axial slices" in str(an_outcome.errors[0])


def test_questions_about_the_image_go_in_turns(
    a_server, a_connected_logic, a_volume, make_view, an_outcome
):
    make_view().show(a_volume).jump((0, 0, -30))
    text = "A <ref>liver</ref><box>(0,0),(500,500)</box>."
    a_server.says("POST", "/ask", 200, {"model": "m", "text": text, "slice": 5, "plane": "axial"})
    talk = Conversation()
    for words in ("What is this?", "Is it large?"):
        a_connected_logic.converse(Question(a_volume), words, talk, **an_outcome.callbacks)
    first, second = a_server.asked("/ask")
    assert (first["question"], first["slice"]) == ("What is this?", 5)
    assert second["question"].startswith("Question: What is this? Answer: A liver.")
    assert [turn.question for turn in talk.turns] == ["What is this?", "Is it large?"]
    assert a_connected_logic.can_converse(Question(a_volume), " ")[1] == "Write a question."


@pytest.mark.parametrize("kind", list(GEOMETRIES))
@pytest.mark.parametrize("plane", geometry.PLANES)
def test_a_link_jumps_to_its_slice_and_outlines_its_box(
    a_logic, make_volume, make_view, kind, plane
):
    volume = make_volume(kind)
    view = make_view("V", plane).show(volume, along_volume=True)
    talk = Conversation()
    text = "the <ref>cyst</ref><box>(100,200),(300,600)</box>"
    talk.add("where?", Reply("m", text, 7, plane), volume.GetID())
    a_logic.follow(talk, "box:0/1")
    assert views.currentSlice(volume.GetScene(), volume, plane) == 7
    (outline,) = a_logic.pool.outlines(view.node)
    stack = slice_stack(VolumeGeometry(geometry.shapeIjk(volume), geometry.ijkToRas(volume)), plane)
    box = norm_to_pixel((100, 200, 300, 600), stack.width, stack.height)
    expected = np.array(stack.corners_ras(7, box))
    np.testing.assert_allclose(outline.around.mean(axis=0), expected.mean(axis=0), atol=1.6)
    corners = geometry.cornersOfNormBox(volume, plane, 7, (100, 200, 300, 600))
    np.testing.assert_allclose(corners, expected, atol=1e-6)
    a_logic.follow(talk, "slice:0")
    assert a_logic.pool.outlines(view.node) == []


def test_a_link_to_a_volume_that_is_gone_says_so(a_logic, a_volume):
    talk = Conversation()
    talk.add("where?", Reply("m", "there", 7, "axial"), a_volume.GetID())
    a_volume.GetScene().RemoveNode(a_volume)
    with pytest.raises(UnusableInput, match="no longer"):
        a_logic.follow(talk, "slice:0")
