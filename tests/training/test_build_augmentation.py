"""Turned and mirrored copies of the training pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bird_training.building.build import build
from bird_training.building.settings import BuildSettings
from bird_vlm.errors import BirdError
from bird_vlm.grammar import parse_grounding
from build_world import (
    TASK_FILES,
    build_here,
    built_bytes,
    interrupted_at,
    llm_options,
    no_progress,
    read_entries,
    read_facts,
)


class TestAugmentation:
    @pytest.fixture(scope="class")
    def an_augmented_build(self, a_source, tmp_path_factory) -> Path:
        out = tmp_path_factory.mktemp("augmented") / "out"
        build_here(a_source, out, test_fraction=0.2, augment=2)
        return out

    def test_each_picture_of_train_has_its_copies_and_none_of_test(self, an_augmented_build):
        facts = read_facts(an_augmented_build, "train")
        copies = [f for f in facts if "--augmented_" in f["id"]]
        assert len(copies) == 2 * (len(facts) - len(copies)) > 0
        assert not [f for f in read_facts(an_augmented_build, "test") if "augm" in f["id"]]
        files = {p.name for p in (an_augmented_build / "augmented").iterdir()}
        assert files == {Path(f["image"]).name for f in copies}
        report = json.loads((an_augmented_build / "build.json").read_text())
        assert report["augmented"] == len(copies)

    def test_all_else_is_as_without_them(self, an_augmented_build, a_build):
        for side in ("train", "test"):
            own = [f for f in read_facts(an_augmented_build, side) if "--augm" not in f["id"]]
            assert own == read_facts(a_build, side)
        for name in TASK_FILES:
            entries = read_entries(an_augmented_build, name)
            assert [e for e in entries if "--augm" not in e["id"]] == read_entries(a_build, name)

    def test_the_words_tell_the_boxes_of_the_copies(self, an_augmented_build):
        facts = {f["id"]: f for f in read_facts(an_augmented_build, "train")}
        told = 0
        for item in read_entries(an_augmented_build, "VG", ("train",)):
            boxes = {tuple(o["box_norm"]) for o in facts[item["id"]]["objects"]}
            found = parse_grounding(item["conversations"][0][1]).boxes_norm
            assert set(found) <= boxes
            told += "--augmented_" in item["id"] and bool(found)
            assert (an_augmented_build / item["image"]).is_file()
        assert told > 20

    def test_workers_and_interruptions_do_not_matter(
        self, a_source, an_augmented_build, tmp_path, small_shards
    ):
        out, settings = tmp_path / "out", BuildSettings(a_source, test_fraction=0.2, augment=2)
        with pytest.raises(KeyboardInterrupt):
            build(settings, out, interrupted_at("augmented pictures", 3))
        build(settings, out, no_progress, workers=2)
        assert built_bytes(out) == built_bytes(an_augmented_build)

    def test_a_model_writes_about_copies_too(self, a_source, a_server, tmp_path):
        a_server.script()
        writer = llm_options(a_server, tmp_path / "cache")
        report = build_here(a_source, tmp_path / "out", limit=9, writer=writer, augment=1)
        assert report["augmented"] > 0
        written = sum(report["language_model"]["pictures"].values())
        assert written == report["taken"] + report["augmented"]

    def test_overwriting_removes_them_and_those_of_others_stay(self, a_source, tmp_path):
        build_here(a_source, tmp_path / "out", augment=1, limit=6)
        build_here(a_source, tmp_path / "out", limit=6, overwrite=True)
        assert not (tmp_path / "out" / "augmented").exists()
        (tmp_path / "mine" / "augmented").mkdir(parents=True)
        with pytest.raises(BirdError, match="augmented from elsewhere"):
            build_here(a_source, tmp_path / "mine", augment=1)
