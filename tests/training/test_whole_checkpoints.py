"""A checkpoint counts only when all of it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from bird_training.tuning.checkpoints import (
    MANIFEST,
    checkpoints,
    is_whole,
    last_whole,
    remove_unfinished,
    seal,
    step_of,
)


def a_checkpoint(folder: Path, step: int, sealed: bool = True) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    (checkpoint / "shards").mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(b"x" * 100)
    (checkpoint / "shards" / "__0_0.distcp").write_bytes(b"y" * 50)
    if sealed:
        seal(checkpoint)
    return checkpoint


@pytest.mark.parametrize(
    ("harm", "whole"),
    [
        pytest.param(lambda c: None, True, id="untouched"),
        pytest.param(lambda c: (c / "model.safetensors").write_bytes(b"x" * 60), False, id="short"),
        pytest.param(lambda c: (c / "shards" / "__0_0.distcp").unlink(), False, id="file-lost"),
        pytest.param(lambda c: (c / MANIFEST).unlink(), False, id="never-sealed"),
        pytest.param(lambda c: (c / MANIFEST).write_text('{"model'), False, id="seal-cut-off"),
    ],
)
def test_what_was_cut_off_is_seen(tmp_path, harm, whole):
    checkpoint = a_checkpoint(tmp_path, 3)
    harm(checkpoint)
    assert is_whole(checkpoint) == whole


def test_the_newest_whole_one_is_used_and_the_broken_go(tmp_path):
    a_checkpoint(tmp_path, 9)
    a_checkpoint(tmp_path, 10)
    a_checkpoint(tmp_path, 100, sealed=False)
    (tmp_path / "checkpoint-best").mkdir()
    assert [step_of(c) for c in checkpoints(tmp_path)] == [9, 10, 100]
    assert step_of(last_whole(tmp_path)) == 10
    assert [step_of(c) for c in remove_unfinished(tmp_path)] == [100]
    assert [step_of(c) for c in checkpoints(tmp_path)] == [9, 10]


def test_no_checkpoint_is_none(tmp_path):
    assert last_whole(tmp_path) is None
    assert last_whole(tmp_path / "nowhere") is None
