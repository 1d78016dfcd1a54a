"""The auxiliary head: low loss where it is right, no gradient where nobody knows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bird_training.pretraining.dense import DenseHead, DenseTargets, box_distance

GRID, CLASSES, WIDTH = 8, 3, 16
BOXES = arrays("float32", (5, 4), elements=st.floats(-2, 3, width=32)).map(torch.from_numpy)


@pytest.fixture
def targets() -> DenseTargets:
    """Class 0 fills a block, class 1 is known to be absent, class 2 is unknown."""
    cover = torch.zeros(1, CLASSES, GRID, GRID)
    cover[0, 0, 2:5, 1:7] = 1
    boxes = torch.zeros(1, CLASSES, 4)
    boxes[0, 0] = torch.tensor([1, 2, 7, 5]) / GRID
    return DenseTargets(cover, boxes, torch.tensor([[1.0, 1.0, 0.0]]))


@pytest.fixture
def a_head() -> DenseHead:
    torch.manual_seed(0)
    return DenseHead(WIDTH, CLASSES)


@pytest.fixture
def a_grid() -> torch.Tensor:
    grid = torch.randn(1, GRID, GRID, WIDTH, generator=torch.Generator().manual_seed(0))
    return grid.requires_grad_()


class ScriptedHead(DenseHead):
    """Says what it is told about every grid, so that its loss can be counted by hand."""

    def __init__(self, mask: torch.Tensor, boxes: torch.Tensor, **options: bool) -> None:
        super().__init__(WIDTH, mask.shape[1], **options)
        self.answer = mask, boxes

    def forward(self, grid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.answer


def loss_of(mask, boxes, targets: DenseTargets, **options: bool) -> torch.Tensor:
    head = ScriptedHead(mask, boxes, **options)
    return head.loss(torch.zeros(len(mask), GRID, GRID, WIDTH), targets)


def perfect_mask(targets: DenseTargets) -> torch.Tensor:
    return 20 * (2 * (targets.cover > 0).float() - 1)


def perfect_boxes(targets: DenseTargets) -> torch.Tensor:
    return targets.boxes[:, :, None, None].repeat(1, 1, GRID, GRID, 1)


def test_a_perfect_answer_has_almost_no_loss_and_a_wrong_mask_much(targets):
    boxes = perfect_boxes(targets)
    assert loss_of(perfect_mask(targets), boxes, targets) < 1e-3
    assert loss_of(-perfect_mask(targets), boxes, targets) > 10


def test_the_loss_of_a_box_grows_with_its_distance(targets):
    shifts = (0.0, 0.05, 0.1, 0.3, 1.0)
    losses = [
        float(loss_of(perfect_mask(targets), perfect_boxes(targets) + shift, targets))
        for shift in shifts
    ]
    assert losses == sorted(losses)
    assert losses[1] > 0.2


def test_an_unknown_class_gives_no_gradient(targets):
    mask = torch.randn(1, CLASSES, GRID, GRID, requires_grad=True)
    boxes = torch.randn(1, CLASSES, GRID, GRID, 4, requires_grad=True)
    loss_of(mask, boxes, targets).backward()
    assert mask.grad[0, 2].abs().max() == 0
    assert boxes.grad[0, 1:].abs().max() == 0  # absent objects have no box either
    assert mask.grad[0, 0].abs().min() > 0
    assert mask.grad[0, 1].abs().min() > 0
    inside = targets.cover[0, 0] > 0
    assert boxes.grad[0, 0][inside].abs().sum(-1).min() > 0
    assert boxes.grad[0, 0][~inside].abs().max() == 0


def test_a_small_object_speaks_through_its_fullest_cell():
    cover = torch.zeros(1, 1, GRID, GRID)
    cover[0, 0, 3, 4], cover[0, 0, 3, 5] = 0.1, 0.02
    targets = DenseTargets(cover, torch.tensor([[[0.5, 0.4, 0.6, 0.45]]]), torch.ones(1, 1))
    boxes = torch.rand(1, 1, GRID, GRID, 4, requires_grad=True)
    loss_of(perfect_mask(targets), boxes, targets).backward()
    assert boxes.grad.abs().sum(-1)[0, 0].nonzero().tolist() == [[3, 4]]


def test_the_boxes_of_large_and_small_objects_count_the_same():
    cover = torch.zeros(1, 2, GRID, GRID)
    cover[0, 0], cover[0, 1, 0, 0] = 1, 1
    box = torch.tensor([0.1, 0.2, 0.6, 0.5])
    targets = DenseTargets(cover, box.repeat(1, 2, 1), torch.ones(1, 2))
    losses = []
    for wrong in (0, 1):
        boxes = perfect_boxes(targets)
        boxes[:, wrong] += 0.3
        losses.append(float(loss_of(perfect_mask(targets), boxes, targets)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0] > 0.5


def test_a_shared_box_is_that_of_the_smallest_object_on_the_cell():
    cover = torch.zeros(1, 2, GRID, GRID)
    cover[0, 0], cover[0, 1, 2:4, 2:4] = 1, 1
    boxes = torch.tensor([[[0, 0, 1, 1], [0.25, 0.25, 0.5, 0.5]]])
    targets = DenseTargets(cover, boxes, torch.ones(1, 2))
    shared = boxes[:, :1, None, None].repeat(1, 1, GRID, GRID, 1)
    shared[0, 0, 2:4, 2:4] = boxes[0, 1]
    shared.requires_grad_()
    loss = loss_of(perfect_mask(targets), shared, targets, shared_boxes=True)
    assert loss < 1e-3
    wrong = boxes[:, :1, None, None].repeat(1, 1, GRID, GRID, 1)
    assert loss_of(perfect_mask(targets), wrong, targets, shared_boxes=True) > 0.5


@pytest.mark.parametrize("known", [0.0, 1.0], ids=["unknown", "known-to-be-absent"])
def test_a_batch_without_objects_has_a_finite_loss(a_head, a_grid, known):
    empty = DenseTargets(
        torch.zeros(1, CLASSES, GRID, GRID),
        torch.zeros(1, CLASSES, 4),
        torch.full((1, CLASSES), known),
    )
    loss = a_head.loss(a_grid, empty)
    loss.backward()
    assert torch.isfinite(loss)
    assert (a_grid.grad.abs().sum() > 0) == bool(known)


@given(BOXES, BOXES)
def test_the_distance_to_a_box_is_finite_even_from_crossed_sides(predicted, wanted):
    wanted = torch.cat([wanted[:, :2], wanted[:, :2] + wanted[:, 2:].abs() + 0.01], dim=-1)
    predicted = predicted.clone().requires_grad_()
    value = box_distance(predicted, wanted)
    value.sum().backward()
    overlap = 1 + (predicted - wanted).abs().sum(-1) - value
    assert ((overlap >= -1 - 1e-4) & (overlap <= 1 + 1e-4)).all()
    assert torch.isfinite(predicted.grad).all()


@pytest.mark.parametrize(
    ("predicted", "wanted", "distance"),
    [
        pytest.param((0, 0, 1, 1), (0, 0, 1, 1), 0.0, id="equal"),
        pytest.param((0, 0, 2, 2), (1, 0, 3, 2), 2 + 1 - 1 / 3, id="half-shifted"),
        pytest.param((0, 0, 1, 1), (3, 0, 4, 1), 6 + 1 + 0.5, id="apart"),
        pytest.param((0, 0, 2, 2), (1, 1, 3, 3), 4 + 1 - 1 / 7 + 2 / 9, id="corner"),
        pytest.param((1, 1, 0, 0), (0, 0, 1, 1), 4 + 1, id="crossed"),
    ],
)
def test_distances_counted_by_hand(predicted, wanted, distance):
    predicted, wanted = torch.tensor([[predicted, wanted]], dtype=torch.float32)[0].split(1)
    assert float(box_distance(predicted, wanted)) == pytest.approx(distance, abs=1e-5)


def test_gradients_reach_the_grid_and_every_weight(a_head, a_grid, targets):
    a_head.loss(a_grid, targets).backward()
    assert a_grid.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in a_head.parameters())


def test_the_head_learns_where_its_object_is(a_head, a_grid, targets):
    optimizer = torch.optim.Adam(a_head.parameters(), lr=0.02)
    first = float(a_head.loss(a_grid, targets).detach())
    for _ in range(60):
        optimizer.zero_grad()
        loss = a_head.loss(a_grid.detach(), targets)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.3 * first


def test_targets_may_come_on_a_finer_grid(targets):
    torch.manual_seed(0)
    coarse = torch.randn(1, GRID // 2, GRID // 2, WIDTH)
    head = DenseHead(WIDTH, CLASSES)
    assert torch.isfinite(head.loss(coarse, targets))
    assert targets.on_grid(GRID // 2).cover.mean() == pytest.approx(float(targets.cover.mean()))
