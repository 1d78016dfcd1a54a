"""The page as a browser has it: a query typed, boxes in Slicer's views, a box drawn with the mouse.

The server answers by script; the browser's part is played over trame's own websocket.
"""

import re
import threading

import numpy as np
import pytest
from bird_view.BiRDLib import scene as geometry
from bird_view.BiRDLib import views
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkRenderingCore import vtkWindowToImageFilter

from bird_view.servers import OwnServer, RunningServer
from grounding_json import a_box, a_grounding
from scripted_server import error

pytest.importorskip("trame_slicer")


def axial_view(page):
    return page.viewer.app.view_manager.get_view("Red")


def outlined(page):
    """The words of the outlines that the axial view shows."""
    pool = page.viewer.core.pool
    return sorted(outline.words for outline in pool.outlines(axial_view(page).get_view_node()))


def drawn_pixels(page, color):
    """How many pixels of the axial view have about this colour, as rendered."""
    window = axial_view(page).render_window()
    window.Render()
    grabber = vtkWindowToImageFilter()
    grabber.SetInput(window)
    grabber.ReadFrontBufferOff()
    grabber.Update()
    pixels = vtk_to_numpy(grabber.GetOutput().GetPointData().GetScalars())[:, :3].astype(int)
    return int((np.abs(pixels - color).max(axis=1) < 20).sum())


def asked(page, server, labels="liver\nspleen", **fields):
    """Types names and asks; the server finds a liver on slices 4 to 6 and no spleen."""
    boxes = [a_box("liver", k, (9.5, 9.5), (29.5, 24.5)) for k in (4, 5, 6)]
    server.grounds(
        {"event": "progress", "done": 1, "total": 2, "boxes": boxes[:1]},
        {"event": "result", "result": a_grounding(boxes, absent=["spleen"])},
    )
    page.type(labels=labels, **fields)
    page.press("ground")
    page.until(lambda it: not it.shows("busy"), "answered")


def test_the_scan_is_in_three_slice_views_and_the_page_says_who_answers(a_page):
    slice_views = a_page.viewer.app.view_manager.get_slice_views()
    assert {view.get_orientation() for view in slice_views} == {"Axial", "Coronal", "Sagittal"}
    shown = {view.get_background_volume_id() for view in slice_views}
    assert shown == {a_page.viewer.volume.GetID()}
    assert a_page.viewer.app.view_manager.get_threed_views()
    assert a_page.shows("scan") == "abdomen"
    assert a_page.shows("server") == "bird-mini on cpu"
    assert a_page.shows("known") == "liver, spleen"


def test_a_view_that_a_browser_opens_sends_its_picture(a_page):
    a_page.run(a_page.client.resize("Red", 300, 300))
    a_page.until(lambda page: page.frames.get("Red"), "a picture")


def test_typed_names_become_lines_and_outlines_on_their_slices(a_page, a_server):
    asked(a_page, a_server)
    (question,) = a_server.asked("/ground")
    assert question["labels"] == ["liver", "spleen"]
    assert question["plane"] == "axial"
    assert question["slices"] is None
    assert question["window"] == list(geometry.shownWindow(a_page.viewer.volume))
    liver, spleen = a_page.shows("lines")
    assert liver["cells"] == ["liver", "proposed", "0.90", "4-6", "40 x 30 x 15"]
    assert re.fullmatch(r"rgb\(\d+, \d+, \d+\)", liver["color"])
    assert spleen["cells"][:2] == ["spleen", "absent"]
    assert outlined(a_page) == ["liver 0.90"]
    axial_view(a_page).set_slice_value(-30 + 5 * 8)
    assert outlined(a_page) == []


def test_the_view_draws_its_outlines_in_the_colour_of_the_list(a_page, a_server):
    a_page.run(a_page.client.resize("Red", 300, 300))
    asked(a_page, a_server)
    axial_view(a_page).set_slice_value(-30 + 5 * 5)
    liver = [int(part) for part in re.findall(r"\d+", a_page.shows("lines")[0]["color"])]
    assert drawn_pixels(a_page, liver) > 200
    axial_view(a_page).set_slice_value(-30 + 5 * 8)
    assert drawn_pixels(a_page, liver) == 0


def test_boxes_show_while_the_answer_still_comes(a_page, a_server):
    box = a_box("liver", 5, (9.5, 9.5), (29.5, 24.5))
    a_server.grounds(
        {"event": "progress", "done": 1, "total": 4, "boxes": [box]},
        a_server.released.wait,
        {"event": "result", "result": a_grounding([box])},
    )
    axial_view(a_page).set_slice_value(-30 + 5 * 5)
    a_page.type(labels="liver")
    a_page.press("ground")
    a_page.until(lambda page: page.shows("doing") == "1 of 4 answered", "progress")
    assert a_page.shows("percent") == 40
    assert a_page.shows("lines") == []
    assert outlined(a_page) == ["liver 0.90"]
    a_server.released.set()
    a_page.until(lambda page: page.shows("lines"), "stored")


def test_the_current_slice_is_the_one_in_the_view(a_page, a_server):
    axial_view(a_page).set_slice_value(-30 + 5 * 7)
    asked(a_page, a_server, extent="current slice")
    assert a_server.asked("/ground")[0]["slices"] == [7, 8]


def test_cancelling_gives_the_page_back_and_stores_nothing(a_page, a_server):
    a_server.grounds(a_server.released.wait)
    a_page.type(labels="liver")
    a_page.press("ground")
    assert a_page.shows("busy")
    assert a_page.shows("ask_reason") == "Wait for the answer, or cancel it."
    a_page.press("cancel")
    a_page.until(lambda page: not page.shows("busy"), "cancelled")
    a_page.said("Cancelled.")
    assert a_page.shows("lines") == []
    assert a_page.shows("ask_reason") == ""


def test_the_page_stays_responsive_while_the_server_works(a_page, a_server):
    a_server.grounds(a_server.released.wait)
    a_page.type(labels="liver")
    a_page.press("ground")
    main = threading.current_thread()
    a_page.type(plane="coronal")
    a_page.press("sort", "label")
    assert a_page.shows("sorted_by") == "label"
    assert a_page.shows("busy")
    assert threading.current_thread() is main
    a_server.released.set()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"labels": " \n "}, "Write what to look for, one name per line.", id="empty"),
        pytest.param(
            {"labels": "\n".join(f"organ {n}" for n in range(65))},
            "Ask for at most 64 names at once.",
            id="too many",
        ),
        pytest.param({"labels": "liver"}, "", id="one"),
    ],
)
def test_the_button_says_why_it_cannot_be_pressed(a_page, fields, reason):
    a_page.type(**fields)
    assert a_page.shows("ask_reason") == reason


def test_a_failure_of_the_server_is_told_in_its_words(a_page, a_server):
    a_server.says("POST", "/ground", 500, error("model_failed", "The model broke.", "Ask again."))
    a_page.type(labels="liver")
    a_page.press("ground")
    a_page.said("The model broke. Ask again.")
    assert not a_page.shows("busy")


def test_a_server_that_is_not_there_is_told_and_can_be_tried_again(open_page, a_server):
    address = a_server.address
    a_server.close()
    page = open_page(RunningServer(address))
    page.said("No server runs at")
    assert page.shows("server") == "Not connected"
    assert page.shows("ask_reason") == "Connect to a server first."
    page.press("connect")
    page.until(lambda it: len(it.shows("log")) == 2, "tried again")


def test_our_own_server_that_cannot_start_says_why(open_page, tmp_path):
    page = open_page(OwnServer(str(tmp_path / "no model"), tmp_path / "studies"))
    assert page.shows("busy")
    page.said("no model")
    assert page.shows("server") == "Not connected"
    assert not page.shows("busy")


def test_images_go_to_another_computer_only_after_consent(open_page, a_server):
    port = a_server.address.rpartition(":")[2]
    page = open_page(RunningServer(f"0.0.0.0:{port}")).connected()
    page.type(labels="liver")
    assert page.shows("remote")
    assert "0.0.0.0 is another computer" in page.shows("ask_reason")
    assert a_server.count("PUT", "/volumes") == 0
    page.type(allow_remote=True)
    assert page.shows("ask_reason") == ""


def test_a_box_drawn_with_the_mouse_gets_a_name(a_page, a_server):
    answer = {"model": "bird-mini", "text": "liver", "score": 0.83, "slice": 5, "plane": "axial"}
    a_server.says("POST", "/refer", 200, answer)
    axial_view(a_page).set_slice_value(-30 + 5 * 5)
    a_page.run(a_page.client.resize("Red", 300, 300))
    assert a_page.shows("refer_reason") == "Draw or choose an ROI around the thing to ask about."
    a_page.press("draw")
    assert a_page.shows("drawing")
    a_page.run(a_page.client.click("Red", 100, 120))
    a_page.run(a_page.client.click("Red", 160, 200))
    assert not a_page.shows("drawing")
    assert a_page.shows("refer_reason") == ""
    a_page.press("refer")
    a_page.until(lambda page: page.shows("answer") == "liver (83%, axial slice 5)", "a name")
    (question,) = a_server.asked("/refer")
    frame = views.sliceFrame(axial_view(a_page).get_view_node())
    mm = frame.width_mm / 300
    size = np.abs(np.diff(np.reshape(question["box_ras"], (2, 3)), axis=0))[0]
    assert size[:2] == pytest.approx([60 * mm, 80 * mm], abs=0.1)
    assert min(question["box_ras"][2::3]) < -5 < max(question["box_ras"][2::3])


def test_drawing_can_be_given_up(a_page):
    rois = "vtkMRMLMarkupsROINode"
    before = a_page.viewer.app.scene.GetNumberOfNodesByClass(rois)
    a_page.press("draw")
    a_page.press("draw")
    assert not a_page.shows("drawing")
    assert a_page.viewer.app.scene.GetNumberOfNodesByClass(rois) == before


def test_dragging_changes_the_brightness_that_is_asked_with(a_page, a_server):
    before = geometry.shownWindow(a_page.viewer.volume)
    a_page.run(a_page.client.resize("Red", 300, 300))
    a_page.press("adjust")
    assert a_page.shows("brightness")
    for kind, x, y in (
        ("MouseMove", 150, 150),
        ("LeftButtonPress", 150, 150),
        ("MouseMove", 190, 170),
        ("LeftButtonRelease", 190, 170),
    ):
        a_page.run(a_page.client.mouse("Red", kind, x, y))
    after = geometry.shownWindow(a_page.viewer.volume)
    assert after != before
    asked(a_page, a_server)
    assert a_server.asked("/ground")[0]["window"] == list(after)
    a_page.press("adjust")
    assert not a_page.shows("brightness")


def test_two_browsers_show_the_same(a_page, a_server):
    second = a_page.another_browser()
    asked(a_page, a_server)
    a_page.run(second.until(lambda page: page.shows("lines"), "the other's findings"))
    assert second.shows("labels") == "liver\nspleen"


def test_who_does_not_have_the_key_learns_nothing(a_page):
    with pytest.raises(PermissionError):
        a_page.another_browser(key="wslink-secret")
