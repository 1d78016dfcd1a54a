"""The auxiliary head: low loss where it is right, no gradient where nobody knows."""

from __future__ import annotations

import pytest
import torch
from bird_training.dense import (
    DenseHead,
    DenseTargets,
    _box_loss,
    _generalised_iou,
    _mask_loss,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

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


def test_a_perfect_mask_has_almost_no_loss(targets):
    perfect, wrong = 20 * (2 * targets.cover - 1), -20 * (2 * targets.cover - 1)
    assert _mask_loss(perfect, targets) < 1e-3
    assert _mask_loss(wrong, targets) > 10


def test_a_perfect_box_has_no_loss_and_a_better_one_less(targets):
    perfect = targets.boxes[:, :, None, None].expand(1, CLASSES, GRID, GRID, 4)
    losses = [float(_box_loss(perfect + shift, targets)) for shift in (0.0, 0.05, 0.1, 0.3, 1.0)]
    assert losses[0] == pytest.approx(0, abs=1e-6)
    assert losses == sorted(losses)
    assert losses[1] > 0.2


def test_an_unknown_class_gives_no_gradient(targets):
    mask = torch.randn(1, CLASSES, GRID, GRID, requires_grad=True)
    boxes = torch.randn(1, CLASSES, GRID, GRID, 4, requires_grad=True)
    (_mask_loss(mask, targets) + _box_loss(boxes, targets)).backward()
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
    _box_loss(boxes, targets).backward()
    assert boxes.grad.abs().sum(-1)[0, 0].nonzero().tolist() == [[3, 4]]


def test_large_and_small_objects_count_the_same():
    cover = torch.zeros(1, 2, GRID, GRID)
    cover[0, 0], cover[0, 1, 0, 0] = 1, 1
    box = torch.tensor([0.1, 0.2, 0.6, 0.5])
    targets = DenseTargets(cover, box.expand(1, 2, 4), torch.ones(1, 2))
    losses = []
    for wrong in (0, 1):
        boxes = box.repeat(1, 2, GRID, GRID, 1)
        boxes[:, wrong] += 0.3
        losses.append(float(_box_loss(boxes, targets)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] > 0.5


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
def test_overlap_of_any_boxes_is_finite_and_in_range(first, second):
    second = torch.cat([second[:, :2], second[:, :2] + second[:, 2:].abs() + 0.01], dim=-1)
    first = first.clone().requires_grad_()
    value = _generalised_iou(first, second)
    value.sum().backward()
    assert ((value >= -1 - 1e-4) & (value <= 1 + 1e-4)).all()
    assert torch.isfinite(first.grad).all()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param((0, 0, 1, 1), (0, 0, 1, 1), 1.0, id="equal"),
        pytest.param((0, 0, 2, 2), (1, 0, 3, 2), 1 / 3, id="half-shifted"),
        pytest.param((0, 0, 1, 1), (3, 0, 4, 1), -0.5, id="apart"),
        pytest.param((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7 - 2 / 9, id="corner"),
    ],
)
def test_overlap_of_known_boxes(first, second, expected):
    first, second = (torch.tensor([box], dtype=torch.float32) for box in (first, second))
    assert float(_generalised_iou(first, second)) == pytest.approx(expected, abs=1e-5)


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
