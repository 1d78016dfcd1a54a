"""Builds of small sources: the released format, determinism, sampling and images."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from bird_training.building.preview import preview_build
from bird_training.building.settings import BuildSettings
from bird_training.building.sheet import write_sheet
from bird_training.conversations import conversation_files, read_conversations
from bird_training.writers.options import WriterOptions
from bird_vlm.errors import BirdError
from bird_vlm.grammar import parse_grounding
from build_world import (
    PICTURES,
    TASK_FILES,
    build_here,
    built_bytes,
    change_index,
    known_boxes,
    llm_options,
    no_progress,
    read_entries,
    read_facts,
)
from small_world import CLASSES


class TestFormat:
    def test_every_task_has_a_list_of_questions_with_pictures_that_exist(self, a_build):
        for name in TASK_FILES:
            for item in read_entries(a_build, name):
                [[question, answer]] = item["conversations"]
                assert question.startswith(f"Picture 1: <img>{item['image']}</img>\n")
                assert (a_build / item["image"]).is_file()
                assert item["id"].partition("_")[0] in ("ct", "mr", "dermoscopy")
                assert answer

    def test_boxes_and_names_are_those_of_the_masks(self, a_build):
        known = known_boxes(PICTURES)
        for side in ("train", "test"):
            for facts in read_facts(a_build, side):
                told = {(_class(o["label"]), tuple(o["box_norm"])) for o in facts["objects"]}
                assert told == known[facts["id"]]

    def test_grounding_answers_hold_these_boxes_or_tell_an_absence_that_is_true(self, a_build):
        known, absences = known_boxes(PICTURES), 0
        for item in read_entries(a_build, "VG"):
            found = parse_grounding(item["conversations"][0][1])
            shown = known[item["id"]]
            assert set(found.boxes_norm) <= {box for _, box in shown}
            if not found.boxes_norm:
                absences += 1
                assert _class(found.label) not in {name for name, _ in shown}
        assert absences >= len(PICTURES) / 2

    def test_our_reader_reads_all_files(self, a_build):
        files = conversation_files(a_build / "train")
        assert {f.stem for f in files} == {*TASK_FILES, "dialogues", "captions"}
        conversations = list(read_conversations(files))
        assert len(conversations) == sum(
            len(read_entries(a_build, f.stem, ("train",))) for f in files
        )
        assert max(len(c.exchanges) for c in conversations) >= 2

    def test_the_report_counts_what_is_there(self, a_build):
        report = json.loads((a_build / "build.json").read_text())
        for side in ("train", "test"):
            told = report["sides"][side]
            assert sum(told["pictures"].values()) == len(read_facts(a_build, side))
            for name, count in told["entries"].items():
                assert count == len(read_entries(a_build, name, (side,)))
        assert report["taken"] == len(PICTURES)

    def test_nothing_is_left_of_the_work(self, a_build):
        assert {p.name for p in a_build.iterdir()} == {
            *("train", "test", "images", "build.json", "skipped.jsonl")
        }

    def test_a_sheet_shows_every_modality(self, a_build, tmp_path):
        assert write_sheet(a_build, tmp_path / "sheet.png") == 6
        with Image.open(tmp_path / "sheet.png") as sheet:
            assert sheet.width > 1500
            assert len(sheet.getcolors(2**24)) > 1000

    def test_the_sheet_grows_with_what_is_said(self, a_build, tmp_path):
        heights = []
        for times in (1, 12):
            out = shutil.copytree(a_build, tmp_path / f"out{times}", symlinks=True)
            for path in out.glob("t*/dialogues.json"):
                said = json.loads(path.read_text())
                for item in said:
                    item["conversations"] *= times
                path.write_text(json.dumps(said))
            write_sheet(out, tmp_path / f"{times}.png")
            with Image.open(tmp_path / f"{times}.png") as sheet:
                bottom = np.asarray(sheet)[-30:]
                heights.append(sheet.height)
            assert len(np.unique(bottom.reshape(-1, 3), axis=0)) <= 3  # no text at the edge
        assert heights[1] > heights[0] + 1000


class TestDeterminism:
    def test_the_order_of_the_index_does_not_matter(self, a_source, a_build, tmp_path):
        source = shutil.copytree(a_source, tmp_path / "source")
        change_index(source, lambda index: dict(reversed(list(index.items()))))
        build_here(source, tmp_path / "out", test_fraction=0.2)
        assert built_bytes(tmp_path / "out") == built_bytes(a_build)

    def test_nor_does_the_number_of_workers(self, a_source, a_build, tmp_path, small_shards):
        build_here(a_source, tmp_path / "out", test_fraction=0.2, workers=2)
        assert built_bytes(tmp_path / "out") == built_bytes(a_build)

    @pytest.mark.slow
    def test_nor_does_the_engine(self, a_source, a_build, tmp_path, small_shards):
        pytest.importorskip("ray.data", reason="needs the optional Ray Data")
        build_here(a_source, tmp_path / "out", test_fraction=0.2, engine="ray", workers=2)
        assert built_bytes(tmp_path / "out") == built_bytes(a_build)

    def test_another_seed_asks_other_questions(self, a_source, a_build, tmp_path):
        build_here(a_source, tmp_path / "out", test_fraction=0.2, seed=1)
        assert built_bytes(tmp_path / "out") != built_bytes(a_build)

    def test_ray_is_named_where_it_is_missing(self, a_source, tmp_path, monkeypatch):
        monkeypatch.setattr("bird_training.building.engines.find_spec", lambda name: None)
        with pytest.raises(BirdError, match=r"ray\[data\]"):
            build_here(a_source, tmp_path / "out", engine="ray")


class TestSampling:
    def test_a_limit_is_shared_evenly(self, a_source, tmp_path):
        report = build_here(a_source, tmp_path / "out", limit=15)
        counts = [report["sides"][side]["pictures"] for side in ("train", "test")]
        total = {m: sum(c.get(m, 0) for c in counts) for m in ("ct", "mr", "dermoscopy")}
        assert total == {"ct": 5, "mr": 5, "dermoscopy": 5}

    def test_of_neighbouring_slices_one_is_kept(self, a_source, tmp_path):
        report = build_here(a_source, tmp_path / "out", slice_step=2)
        assert report["taken"] == 30
        assert report["found"] == 40

    def test_a_preview_writes_nothing_and_tells_how_much_there_is(self, a_source):
        told = preview_build(BuildSettings(a_source, limit=12), no_progress)
        assert "12 of 40 pictures" in told
        assert "<box>" in told

    def test_a_preview_is_of_the_seed(self, a_source, a_server, tmp_path):
        model = llm_options(a_server, tmp_path)
        for writer in (WriterOptions(), model):
            told = [
                preview_build(BuildSettings(a_source, writer=writer, seed=seed), no_progress)
                for seed in (0, 0, 1)
            ]
            assert told[0] == told[1] != told[2]


class TestImages:
    def test_pictures_stay_where_they_are(self, a_build, a_source):
        assert (a_build / "images").is_symlink()
        assert (a_build / "images").resolve() == (a_source / "images").resolve()

    def test_pictures_are_copied_on_request(self, a_source, tmp_path):
        out = tmp_path / "out"
        build_here(a_source, out, copy_images=True, limit=9)
        copies = [p for p in (out / "images").rglob("*") if p.is_file()]
        assert len(copies) == 9
        assert not any(p.is_symlink() for p in (out / "images", *copies))
        assert all(p.read_bytes() == (a_source / "images" / p.name).read_bytes() for p in copies)


def _class(label: str) -> str:
    """A natural name -> the class of the source."""
    words = label.split()
    sides = [word for word in words if word in ("left", "right")]
    name = "_".join([*(w for w in words if w not in sides), *sides])
    assert any(name in classes for classes in CLASSES.values()), name
    return name
