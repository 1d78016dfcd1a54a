"""The outlines in slice views, as rendered: on the right slices and voxels, nowhere else."""

import numpy as np
import pytest
import slicer

from BiRDLib import scene as geometry
from BiRDLib import views
from BiRDLib.captions import pixels_of
from BiRDLib.colors import label_color
from BiRDLib.findings import Findings
from BiRDLib.slicepool import SlicePool
from BiRDLib.stock import MOST_SHOWN
from grounding import a_finding, a_grounding
from voxel_grids import GEOMETRIES, affine, rotation

LIVER = label_color("liver")
LOW, HIGH = (9.5, 9.5), (29.5, 24.5)


@pytest.fixture
def a_pool(a_scene):
    pool = SlicePool(a_scene)
    yield pool
    pool.close()


def _found(volume, *findings, absent=()):
    return Findings(volume.GetScene()).add(volume, a_grounding(*findings, absent=absent), "asked")


def _slice_center(volume, plane, index, matrix=None):
    ijk = (np.array(geometry.shapeIjk(volume)) - 1) / 2
    ijk[geometry.sliceAxis(volume, plane)] = index
    return ((geometry.ijkToRas(volume) if matrix is None else matrix) @ [*ijk, 1])[:3]


@pytest.mark.parametrize(
    ("kind", "plane"),
    [(kind, "axial") for kind in GEOMETRIES] + [("oblique", "coronal"), ("oblique", "sagittal")],
)
def test_outline_shows_on_its_slices_and_not_beyond(make_volume, make_view, a_pool, kind, plane):
    volume = make_volume(kind)
    view = make_view("Red", plane).show(volume, along_volume=True)
    finding = a_finding(volume, "liver", [5, 6, 9], LOW, HIGH, plane)
    Findings(volume.GetScene()).add(volume, a_grounding(finding, plane=plane), "liver")
    pixels = {
        index: view.jump(_slice_center(volume, plane, index)).colored_pixels(LIVER)
        for index in (4, 5, 6, 7, 9, 10)
    }
    assert [index for index, count in pixels.items() if count > 50] == [5, 6, 9]
    assert {pixels[index] for index in (4, 7, 10)} == {0}


@pytest.mark.parametrize("share", [-0.49, 0.25, 0.49])
def test_outline_is_whole_anywhere_within_the_slice(a_volume, make_view, a_pool, share):
    view = make_view().show(a_volume)
    _found(a_volume, a_finding(a_volume, "liver", [5], LOW, HIGH))
    assert view.jump(_slice_center(a_volume, "axial", 5 + share)).colored_pixels(LIVER) > 200
    view.jump(_slice_center(a_volume, "axial", 5 + np.sign(share) * 0.51))
    assert a_pool.outlines(view.node) == []


def test_exactly_one_of_two_neighbours_shows_between_them(a_volume, make_view, a_pool):
    view = make_view().show(a_volume)
    _found(a_volume, a_finding(a_volume, "liver", [5, 6], LOW, HIGH))
    view.jump(_slice_center(a_volume, "axial", 5.5))
    assert len(a_pool.outlines(view.node)) == 1


def test_outline_lies_on_the_pixels_of_the_box(a_core, make_view, a_pool):
    """A bright block on black: the outline runs along the block's edge."""
    array = np.zeros((10, 40, 40), np.int16)
    array[:, 10:20, 8:30] = 1000
    volume = a_core.volume(array, affine((-1, -1, 2), (20, 20, 0)), "block", (500, 1000))
    volume.GetDisplayNode().InterpolateOff()
    view = make_view("Red", "axial", (400, 400)).show(volume)
    _found(volume, a_finding(volume, "liver", [4], (7.5, 9.5), (29.5, 19.5)))
    picture = view.jump(_slice_center(volume, "axial", 4)).picture().astype(int)
    distance = np.abs(picture - np.round(np.array(LIVER) * 255)).max(axis=2)
    box_rows, box_columns = np.nonzero(distance < 20)
    block_rows, block_columns = np.nonzero(picture.min(axis=2) > 200)
    words = 20  # the caption stands above the box
    assert abs(box_rows.max() - block_rows.max()) <= 3
    assert abs(box_columns.min() - block_columns.min()) <= 3
    assert abs(box_columns.max() - block_columns.max()) <= 3
    assert 0 <= block_rows.min() - box_rows.min() <= words


def test_other_planes_show_the_findings_cut(a_volume, make_view, a_pool):
    view = make_view("Green", "coronal").show(a_volume)
    (roi,) = _found(a_volume, a_finding(a_volume, "liver", range(5, 15), LOW, HIGH))
    inside = _slice_center(a_volume, "coronal", 15)
    assert view.jump(inside).colored_pixels(LIVER) > 200
    assert view.jump(_slice_center(a_volume, "coronal", 40)).colored_pixels(LIVER) == 0
    view.jump(inside)
    before = _extent(a_pool, view)
    roi.SetSize(10, 60, 30)  # the user drags a handle in the 3D view
    assert before.tolist() == [20, 0, 20]
    assert _extent(a_pool, view).tolist() == [10, 0, 30]


def test_hiding_or_deleting_a_finding_takes_its_slice_boxes_along(a_volume, make_view, a_pool):
    view = make_view().show(a_volume)
    liver, spleen = _found(
        a_volume,
        a_finding(a_volume, "liver", [5], LOW, HIGH),
        a_finding(a_volume, "spleen", [5], (40, 30), (50, 40)),
    )
    view.jump(_slice_center(a_volume, "axial", 5))
    assert _words(a_pool, view) == ["liver 0.90", "spleen 0.90"]
    liver.SetDisplayVisibility(False)
    assert _words(a_pool, view) == ["spleen 0.90"]
    liver.SetDisplayVisibility(True)
    a_volume.GetScene().RemoveNode(spleen)
    assert _words(a_pool, view) == ["liver 0.90"]


def test_a_view_shows_the_boxes_of_its_own_volume(a_scene, make_volume, make_view, a_pool):
    first, second = make_volume(name="first"), make_volume(name="second")
    _found(first, a_finding(first, "liver", [5], LOW, HIGH))
    _found(second, a_finding(second, "spleen", [5], LOW, HIGH))
    view = make_view().show(first)
    view.jump(_slice_center(first, "axial", 5))
    assert _words(a_pool, view) == ["liver 0.90"]
    view.show(second).jump(_slice_center(first, "axial", 5))
    assert _words(a_pool, view) == ["spleen 0.90"]


def test_outlines_move_with_the_volume(a_scene, a_volume, make_view, a_pool):
    view = make_view().show(a_volume)
    _found(a_volume, a_finding(a_volume, "liver", [5], LOW, HIGH))
    transform = a_scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    a_volume.SetAndObserveTransformNodeID(transform.GetID())
    move = affine((1, 1, 1), (3, 4, 20), rotation(2, 30))
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(move))
    view.jump(_slice_center(a_volume, "axial", 5))
    assert a_pool.outlines(view.node) == []
    view.jump(_slice_center(a_volume, "axial", 5, move @ geometry.ijkToRas(a_volume)))
    (outline,) = a_pool.outlines(view.node)
    corners = [(9.5, 9.5), (29.5, 9.5), (29.5, 24.5), (9.5, 24.5)]
    expected = [(move @ geometry.ijkToRas(a_volume) @ [*corner, 5, 1])[:3] for corner in corners]
    np.testing.assert_allclose(_sorted(outline.around), _sorted(expected), atol=1e-6)
    assert view.colored_pixels(LIVER) > 50


def test_a_tilted_view_shows_where_it_cuts_the_findings(a_volume, make_view, a_pool):
    view = make_view().show(a_volume)
    _found(a_volume, a_finding(a_volume, "liver", range(3, 30), LOW, HIGH))
    tilted = rotation(0, 30)[:3, :3] @ np.diag([-1.0, 1.0, 1.0])
    normal, right = tilted[:, 2], tilted[:, 0]
    view.node.SetSliceToRASByNTP(*normal, *right, -10.0, -8.0, -8.0, 0)
    (outline,) = a_pool.outlines(view.node)
    assert outline.around @ normal == pytest.approx([normal @ [-10, -8, -8]] * 4)
    assert _extent(a_pool, view) == pytest.approx([20, 15, 15 * np.tan(np.pi / 6)])


def test_a_view_has_one_drawing_however_many_boxes(a_scene, a_volume, make_view, a_pool):
    view = make_view().show(a_volume)
    organs = [a_finding(a_volume, f"organ {n}", [5], (n, 5), (n + 9, 20)) for n in range(20)]
    _found(a_volume, *organs)
    nodes = a_scene.GetNumberOfNodes()
    for index in [*range(10), *range(10)]:
        view.jump(_slice_center(a_volume, "axial", index))
        assert len(a_pool.outlines(view.node)) == (20 if index == 5 else 0)
    assert a_scene.GetNumberOfNodes() == nodes + 2  # a model and its display node


def test_of_too_many_boxes_the_surest_show_and_the_favoured(a_volume, make_view, a_pool):
    view = make_view().show(a_volume)
    scores = np.linspace(0.1, 0.9, MOST_SHOWN + 6)
    organs = [
        a_finding(a_volume, f"organ {n}", [5], (n % 50, 5), (n % 50 + 9, 20), score=score)
        for n, score in enumerate(scores)
    ]
    _found(a_volume, *organs)
    a_pool.favour("1/1")
    view.jump(_slice_center(a_volume, "axial", 5))
    words = [outline.words for outline in a_pool.outlines(view.node)]
    assert len(words) == MOST_SHOWN
    assert words[0] == "organ 0 0.10"
    assert words[1] == f"organ {MOST_SHOWN + 5} 0.90"


def test_scrolling_tells_slicer_of_one_change_however_many_boxes(a_volume, make_view, a_pool):
    view = make_view().show(a_volume)
    organs = [a_finding(a_volume, f"organ {n}", [5, 6], (n, 5), (n + 9, 20)) for n in range(20)]
    _found(a_volume, *organs)
    view.jump(_slice_center(a_volume, "axial", 5))
    heard = []
    for node in _own_nodes(a_volume.GetScene()):
        node.AddObserver("AnyEvent", lambda node, event: heard.append(event))
    view.jump(_slice_center(a_volume, "axial", 6))
    assert len(heard) == 1, heard


@pytest.mark.parametrize("samples", [0, 4])
def test_words_lie_on_the_pixels_of_the_view(a_volume, make_view, a_pool, samples):
    """As sharp as they were made: the middles of letters have the label's own colour."""
    view = make_view(samples=samples).show(a_volume)
    _found(a_volume, a_finding(a_volume, "liver", [5], LOW, HIGH))
    picture = view.jump(_slice_center(a_volume, "axial", 5)).picture().astype(int)
    rows, columns = np.nonzero(_is(picture, LIVER, tolerance=2))
    shown = set(zip(columns.tolist(), (-rows).tolist(), strict=True))
    words = pixels_of("liver 0.90", LIVER)
    full = (words.colors == [*np.round(255 * np.array(LIVER)), 255]).all(axis=1)
    letters = words.offsets[full] - words.offsets[full][0]
    assert len(letters) > 20
    assert any(all((x + dx, y + dy) in shown for dx, dy in letters.tolist()) for x, y in shown)


def test_words_are_larger_in_a_view_with_many_pixels(a_volume, make_view):
    small, large = (
        views.sliceFrame(make_view(f"V{n}", "axial", (n, n)).show(a_volume).node).magnified
        for n in (300, 1200)
    )
    assert (small, large) == (1.0, 2.0)


def test_scrolling_does_not_draw_3d_views_anew(a_core, a_volume, make_view, make_space, a_pool):
    view = make_view().show(a_volume)
    organs = [a_finding(a_volume, f"organ {n}", [5, 6], (n, 5), (n + 9, 20)) for n in range(20)]
    _found(a_volume, *organs)
    view.jump(_slice_center(a_volume, "axial", 5))
    wanted = make_space().drawings_wanted
    view.jump(_slice_center(a_volume, "axial", 6))
    view.jump(_slice_center(a_volume, "axial", 8))
    assert wanted == []
    a_volume.GetScene().RemoveNode(_own_nodes(a_volume.GetScene())[0])
    assert wanted


def test_boxes_stream_in_before_they_are_stored(a_volume, make_view, a_pool):
    view = make_view().show(a_volume)
    finding = a_finding(a_volume, "liver", [5, 6], LOW, HIGH)
    view.jump(_slice_center(a_volume, "axial", 5))
    a_pool.preview(a_volume, "axial", finding.boxes[:1])
    assert _words(a_pool, view) == ["liver 0.90"]
    a_pool.endPreview()
    assert _words(a_pool, view) == []


def test_a_box_whose_words_have_no_letters_is_drawn(a_volume, make_view, a_pool):
    view = make_view("Green", "coronal").show(a_volume)
    (roi,) = _found(a_volume, a_finding(a_volume, "liver", range(5, 15), LOW, HIGH))
    roi.SetName("\U0001fac0")  # a sign that the font lacks
    inside = _slice_center(a_volume, "coronal", 15)
    assert view.jump(inside).colored_pixels(LIVER) > 100


def test_what_changes_without_scrolling_is_drawn_too(a_volume, make_view, a_pool):
    view = make_view().show(a_volume)
    boxes = a_finding(a_volume, "liver", [5, 6], LOW, HIGH).boxes
    view.jump(_slice_center(a_volume, "axial", 5)).picture()
    for change in (lambda: a_pool.preview(a_volume, "axial", boxes), a_pool.endPreview):
        before = len(view.drawings_wanted)
        change()
        assert len(view.drawings_wanted) > before


def test_outlines_are_never_saved_nor_listed_nor_moved_by_hand(a_volume, make_view, a_pool):
    view = make_view().show(a_volume)
    _found(a_volume, a_finding(a_volume, "liver", [5], LOW, HIGH))
    view.jump(_slice_center(a_volume, "axial", 5))
    model, display = _own_nodes(a_volume.GetScene())
    for node in (model, display):
        assert not node.GetSaveWithScene()
        assert node.GetHideFromEditors()
        assert not node.GetUndoEnabled()
    assert not model.GetSelectable()
    assert not display.GetVisibility3D()
    assert display.GetViewNodeIDs() == (view.node.GetID(),)


def test_a_closed_scene_leaves_nothing_behind_and_can_be_used_again(
    a_core, make_volume, make_view, a_pool
):
    volume = make_volume()
    view = make_view().show(volume)
    _found(volume, a_finding(volume, "liver", [5], LOW, HIGH))
    view.jump(_slice_center(volume, "axial", 5))
    a_core.scene.Clear(0)
    assert a_pool.outlines(view.node) == []
    again = make_volume()
    view.show(again)
    _found(again, a_finding(again, "liver", [5], LOW, HIGH))
    view.jump(_slice_center(again, "axial", 5))
    assert _words(a_pool, view) == ["liver 0.90"]


def test_close_takes_the_outlines_out_of_the_scene(a_scene, a_volume, make_view):
    pool = SlicePool(a_scene)
    view = make_view().show(a_volume)
    nodes = a_scene.GetNumberOfNodes()
    pool.preview(a_volume, "axial", a_finding(a_volume, "liver", [5], LOW, HIGH).boxes)
    view.jump(_slice_center(a_volume, "axial", 5))
    assert a_scene.GetNumberOfNodes() > nodes
    pool.close()
    assert a_scene.GetNumberOfNodes() == nodes


def _words(pool, view):
    return sorted(outline.words for outline in pool.outlines(view.node))


def _extent(pool, view):
    """Edge lengths, along the world's axes, of the one outline that a view shows."""
    (outline,) = pool.outlines(view.node)
    return np.round(np.ptp(outline.around, axis=0), 6)


def _sorted(points):
    return sorted(np.round(points, 6).tolist())


def _is(picture, color, tolerance=20):
    return np.abs(picture - np.round(np.array(color) * 255)).max(axis=2) <= tolerance


def _own_nodes(scene):
    """The model and the display node of the one drawing in a scene."""
    models = slicer.util.getNodesByClass("vtkMRMLModelNode", scene)
    (model,) = [node for node in models if node.GetName().startswith("BiRD")]
    return model, model.GetDisplayNode()
