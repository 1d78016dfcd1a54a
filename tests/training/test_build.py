"""Builds of small and real sources: the released format, the split, resuming, and bad input."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from bird_training.building import plan as build_plan
from bird_training.building.build import build
from bird_training.building.preview import preview_build
from bird_training.building.settings import BuildSettings
from bird_training.building.shards import PARTS
from bird_training.building.sheet import write_sheet
from bird_training.conversations import conversation_files, read_conversations
from bird_training.records import PictureRecord
from bird_training.sources.sa_med2d import CLASSES_FILE, INDEX_FILE
from bird_training.twins import find_twins
from bird_training.writers.options import WriterOptions
from bird_vlm.errors import BirdError
from bird_vlm.grammar import parse_grounding
from build_world import (
    build_here,
    built_bytes,
    change_index,
    known_boxes,
    no_progress,
    patients,
    read_entries,
    read_facts,
    skipped,
    start_build,
    write_source,
)
from scripted_llm import ScriptedLlm
from small_world import CLASSES

TASK_FILES = ("VG", "ROC", "RC", "MIA")
PICTURES = patients(10)


@pytest.fixture(scope="module")
def a_source(tmp_path_factory) -> Path:
    """Ten patients of each of three data sets, forty pictures."""
    return write_source(tmp_path_factory.mktemp("source"), PICTURES)


@pytest.fixture
def a_source_to_spoil(tmp_path) -> Path:
    return write_source(tmp_path / "source", patients(4))


@pytest.fixture(scope="module")
def a_build(a_source, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("built") / "out"
    build_here(a_source, out, test_fraction=0.2)
    return out


@pytest.fixture
def small_shards(monkeypatch):
    """So that forty pictures are eight parts."""
    monkeypatch.setattr(build_plan, "SHARD", 5)


@pytest.fixture(scope="module")
def a_server():
    with ScriptedLlm() as llm:
        yield llm


def sides_of_cases(out: Path) -> dict[tuple[str, str], set[str]]:
    cases: dict[tuple[str, str], set[str]] = {}
    for side in ("train", "test"):
        for facts in read_facts(out, side):
            cases.setdefault((facts["dataset"], facts["case"]), set()).add(side)
    return cases


def sides_of_twins(out: Path) -> list[tuple[str, str]]:
    """Sides of all pairs of nearly equal pictures, by the rule that find_twins has."""
    side_of, records = {}, []
    for side in ("train", "test"):
        for f in read_facts(out, side):
            side_of[f["id"]] = side
            image = out / f["image"]
            records.append(
                PictureRecord(f["id"], image, f["modality"], f["dataset"], f["case"], ())
            )
    return [(side_of[a.id], side_of[b.id]) for a, b in find_twins(records)]


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


class TestSplit:
    def test_no_case_is_on_both_sides(self, a_build):
        sides = sides_of_cases(a_build)
        assert {len(found) for found in sides.values()} == {1}
        for dataset in ("BTCV", "BraTS2013", "ISIC2018"):
            held_out = [case for case, side in sides.items() if side == {"test"}]
            assert sum(name == dataset for name, _ in held_out) == 2

    def test_a_picture_published_twice_brings_its_patients_to_one_side(self, tmp_path):
        source = write_source(tmp_path / "source", patients(10))
        for case in range(0, 10, 2):  # 0 and 1, 2 and 3, ... share a picture
            path = source / f"images/dermoscopy_00--ISIC2018--r{case:02d}--2d_0000.png"
            with Image.open(path) as picture:
                again = ImageEnhance.Brightness(picture).enhance(1.1)
                again.save(str(path).replace(f"r{case:02d}", f"r{case + 1:02d}"))
        for seed in range(3):
            out = tmp_path / f"out{seed}"
            build_here(source, out, test_fraction=0.25 + seed * 0.2)
            pairs = sides_of_twins(out)
            assert len(pairs) == 5
            assert all(first == second for first, second in pairs)

    def test_a_picture_in_two_data_sets_brings_both_patients_to_one_side(self, tmp_path):
        source = write_source(tmp_path / "source", patients(10))
        for case in range(10):
            skin = source / f"images/dermoscopy_00--ISIC2018--r{case:02d}--2d_0000.png"
            shutil.copy(skin, source / f"images/mr_t1--BraTS2013--q{case:02d}--z_0007.png")
        for seed, fraction in enumerate((0.2, 0.5)):
            out = tmp_path / f"out{seed}"
            build_here(source, out, test_fraction=fraction)
            pairs = sides_of_twins(out)
            assert len(pairs) == 10
            assert all(first == second for first, second in pairs)
            assert {side for pair in pairs for side in pair} == {"train", "test"}

    @pytest.mark.shared
    @pytest.mark.slow
    def test_real_pictures_no_case_patient_or_near_duplicate_is_on_both_sides(
        self, shared, tmp_path
    ):
        out = tmp_path / "out"
        report = build_here(shared / "data" / "sa_med2d_mini", out, workers=2)
        assert report["found"] == 4621
        assert report["skipped"] < 10
        for side in ("train", "test"):
            assert len(report["sides"][side]["pictures"]) == 8
            assert all(report["sides"][side]["entries"][name] > 500 for name in TASK_FILES)
        assert {len(found) for found in sides_of_cases(out).values()} == {1}
        patients_of = {
            side: {
                re.match(r"LIDC-IDRI-\d{4}", f["id"].split("--")[2])[0]
                for f in read_facts(out, side)
                if f["dataset"] == "LIDC-IDRI"
            }
            for side in ("train", "test")
        }
        assert patients_of["train"]
        assert not patients_of["train"] & patients_of["test"]
        pairs = sides_of_twins(out)
        assert len(pairs) >= 20
        assert [pair for pair in pairs if pair[0] != pair[1]] == []


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


class TestInterruption:
    def interrupted_at(self, wanted: str, after: int):
        """A progress that is interrupted, as by Ctrl-C, when a step has done so much."""

        @contextmanager
        def progress(title):
            def show(done, total):
                if title == wanted and done >= after:
                    raise KeyboardInterrupt

            yield show

        return progress

    @pytest.mark.parametrize(
        ("step", "after"),
        [("plan", 0), ("pictures", 1), ("pictures", 7), ("near-duplicates", 1), ("files", 3)],
    )
    def test_an_interrupted_build_goes_on_and_ends_the_same(
        self, a_source, a_build, tmp_path, small_shards, step, after
    ):
        out, settings = tmp_path / "out", BuildSettings(a_source, test_fraction=0.2)
        with pytest.raises(KeyboardInterrupt):
            build(settings, out, self.interrupted_at(step, after))
        assert not list(out.glob("t*/*.json*"))
        before = {p: p.stat().st_mtime_ns for p in (out / ".build" / PARTS).glob("*.jsonl")}
        assert len(before) >= 2 * after * (step == "pictures")
        redone = []

        @contextmanager
        def watching(title):
            def show(done, total):
                changed = [p for p, t in before.items() if p.exists() and p.stat().st_mtime_ns != t]
                redone.extend(changed)

            yield show

        build(settings, out, watching)
        assert redone == []
        assert built_bytes(out) == built_bytes(a_build)

    @pytest.mark.slow
    def test_ctrl_c_ends_all_processes_and_loses_nothing(self, tmp_path):
        source = write_source(tmp_path / "source", patients(60, slices=3))
        out = tmp_path / "out"
        running = start_build(source, out)
        parts = out / ".build" / PARTS
        deadline = time.monotonic() + 120
        while not list(parts.glob("*.words.jsonl")) and time.monotonic() < deadline:
            assert running.poll() is None or (out / "build.json").exists()
            time.sleep(0.01)
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to every process
        said, _ = running.communicate(timeout=60)
        if not (out / "build.json").exists():
            assert running.returncode == 130, said
            assert "Traceback" not in said
        assert all_gone(running.pid)
        again = start_build(source, out)
        said, _ = again.communicate(timeout=200)
        assert again.returncode == 0, said
        build_here(source, tmp_path / "unbroken")
        assert built_bytes(out) == built_bytes(tmp_path / "unbroken")

    def test_a_finished_build_is_not_done_again(self, a_source, a_build):
        before = {p: p.stat().st_mtime_ns for p in a_build.rglob("*.json*")}
        report = build_here(a_source, a_build, test_fraction=0.2)
        assert report["taken"] == len(PICTURES)
        assert {p: p.stat().st_mtime_ns for p in before} == before

    def test_other_settings_are_refused_and_overwrite_begins_anew(self, a_source, tmp_path):
        out = tmp_path / "out"
        build_here(a_source, out, limit=12)
        with pytest.raises(BirdError, match=r"another limit \(12, now 9\).*--overwrite"):
            build_here(a_source, out, limit=9)
        build_here(a_source, out, limit=9, overwrite=True)
        assert sum(len(read_facts(out, side)) for side in ("train", "test")) == 9

    def test_a_changed_source_is_noticed(self, a_source_to_spoil, tmp_path):
        build_here(a_source_to_spoil, tmp_path / "out")
        change_index(a_source_to_spoil, lambda index: dict(list(index.items())[:-1]))
        with pytest.raises(BirdError, match="another index"):
            build_here(a_source_to_spoil, tmp_path / "out")

    def test_a_source_is_known_by_its_content_and_not_by_its_time(
        self, a_source_to_spoil, tmp_path
    ):
        index, out = a_source_to_spoil / INDEX_FILE, tmp_path / "out"
        report = build_here(a_source_to_spoil, out)
        time_ns = index.stat().st_mtime_ns
        os.utime(index, ns=(time_ns, time_ns + 10**9))  # as a copy has
        assert build_here(a_source_to_spoil, out) == report
        index.write_text(index.read_text().replace("p00", "p77"))  # as long as before
        os.utime(index, ns=(time_ns, time_ns))
        with pytest.raises(BirdError, match="another index"):
            build_here(a_source_to_spoil, out)

    def test_what_others_put_into_the_folder_is_never_touched(self, a_source, tmp_path):
        mine = tmp_path / "images" / "holiday.png"
        mine.parent.mkdir()
        mine.write_bytes(b"mine")
        with pytest.raises(BirdError, match="images from elsewhere"):
            build_here(a_source, tmp_path, overwrite=True)
        assert mine.read_bytes() == b"mine"

    @pytest.mark.parametrize("name", ["build.json", ".build/settings.json", ".build/debug.yaml"])
    @pytest.mark.parametrize(
        "content", ['{"settings": {"seed": 1}}', "[]", "{", '"\xff', "[" * 9**5]
    )
    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_folder_of_something_else_is_refused_and_kept(
        self, a_source, tmp_path, name, content, overwrite
    ):
        for path in (tmp_path / name, tmp_path / "train" / "mine.txt"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(content, encoding="latin-1")
        before = built_bytes(tmp_path)
        with pytest.raises(BirdError, match=f"{name.split('/')[0]}.*(another|new) folder"):
            build_here(a_source, tmp_path, overwrite=overwrite)
        assert built_bytes(tmp_path) == before
        assert (tmp_path / name).read_text(encoding="latin-1") == content

    def test_a_broken_report_is_named_and_overwritten_where_the_rest_is_ours(
        self, a_source, tmp_path, small_shards
    ):
        with pytest.raises(KeyboardInterrupt):
            build(BuildSettings(a_source), tmp_path, self.interrupted_at("pictures", 1))
        (tmp_path / "build.json").write_text("{")
        with pytest.raises(BirdError, match=r"build.json: is not as .* or --overwrite"):
            build_here(a_source, tmp_path)
        assert build_here(a_source, tmp_path, overwrite=True)["taken"] == len(PICTURES)


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
        model = TestLanguageModel().options(a_server, tmp_path)
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
            build(settings, out, TestInterruption().interrupted_at("augmented pictures", 3))
        build(settings, out, no_progress, workers=2)
        assert built_bytes(out) == built_bytes(an_augmented_build)

    def test_a_model_writes_about_copies_too(self, a_source, a_server, tmp_path):
        a_server.script()
        writer = TestLanguageModel().options(a_server, tmp_path / "cache")
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


FIRST = "ct_00--BTCV--p00--z_0000"


def all_gone(group: int) -> bool:
    """Whether a group of processes ends within ten seconds."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_gigantic(path: Path) -> None:
    """More pixels than Pillow opens."""
    Image.new("1", (20_000, 9_000)).save(path)


def shrink(path: Path) -> None:
    with Image.open(path) as picture:
        picture.resize((10, 10)).save(path)


class TestBadInput:
    @pytest.mark.parametrize(
        ("name", "spoil", "reason"),
        [
            pytest.param(f"images/{FIRST}.png", Path.unlink, "missing", id="no-image"),
            pytest.param(f"images/{FIRST}.png", truncate, "cannot be read", id="half-an-image"),
            pytest.param(f"masks/{FIRST}--0000_000.png", Path.unlink, "cannot be", id="no-mask"),
            pytest.param(f"masks/{FIRST}--0000_000.png", truncate, "cannot be", id="half-a-mask"),
            pytest.param(f"masks/{FIRST}--0000_000.png", make_gigantic, "cannot be", id="bomb"),
            pytest.param(f"masks/{FIRST}--0001_000.png", shrink, "10 x 10, its", id="small-mask"),
            pytest.param(
                f"masks/{FIRST}--0000_000.png", lambda p: p.write_text("no"), "cannot", id="text"
            ),
        ],
    )
    def test_a_picture_with_a_bad_file_is_left_out_and_listed(
        self, a_source_to_spoil, tmp_path, name, spoil, reason
    ):
        spoil(a_source_to_spoil / name)
        report = build_here(a_source_to_spoil, tmp_path / "out")
        assert report["skipped"] == 1
        [(skipped_name, told)] = skipped(tmp_path / "out").items()
        assert skipped_name == f"{FIRST}.png"
        assert reason in told
        assert Path(name).name in told
        assert FIRST not in {e["id"] for e in read_entries(tmp_path / "out", "captions")}

    @pytest.mark.parametrize(
        ("image", "masks"),
        [
            pytest.param("../../etc/ct--BTCV--p--z_1.png", [], id="image-above"),
            pytest.param("/etc/ct--BTCV--p--z_1.png", [], id="image-absolute"),
            pytest.param("masks/ct--BTCV--p--z_1.png", [], id="image-elsewhere"),
            pytest.param(
                "images/ct--BTCV--p--z_1.png", ["../../etc/a--0000_000.png"], id="mask-above"
            ),
            pytest.param("images\\..\\..\\ct--BTCV--p--z_1.png", [], id="windows"),
        ],
    )
    def test_names_that_lead_out_of_the_folder_are_left_out(
        self, a_source_to_spoil, tmp_path, image, masks
    ):
        change_index(a_source_to_spoil, lambda index: index | {image: masks})
        build_here(a_source_to_spoil, tmp_path / "out")
        [(_, reason)] = skipped(tmp_path / "out").items()
        assert "no path inside" in reason or "lies outside" in reason

    def test_a_source_without_one_good_picture_is_an_error(self, a_source_to_spoil, tmp_path):
        shutil.rmtree(a_source_to_spoil / "masks")
        with pytest.raises(BirdError, match=r"all 16 pictures had to be skipped.*skipped.jsonl"):
            build_here(a_source_to_spoil, tmp_path / "out")
        assert len(skipped(tmp_path / "out")) == 16
        write_source(a_source_to_spoil, patients(4))
        assert build_here(a_source_to_spoil, tmp_path / "out")["taken"] == 16

    def test_pictures_of_unknown_modalities_take_no_places_of_the_limit(
        self, a_source_to_spoil, tmp_path
    ):
        strange = {f"images/optical_00--Odd--p{k}--2d_0000.png": [] for k in range(4)}
        classes = a_source_to_spoil / CLASSES_FILE
        classes.write_text(json.dumps(json.loads(classes.read_text()) | {"Odd": {}}))
        change_index(a_source_to_spoil, lambda index: index | strange)
        report = build_here(a_source_to_spoil, tmp_path / "out", limit=9)
        assert (report["found"], report["taken"], report["skipped"]) == (16, 9, 4)
        assert {Path(name).name for name in strange} == set(skipped(tmp_path / "out"))

    def test_an_index_of_many_digits_is_built(self, a_source_to_spoil, tmp_path):
        many = f"ct_00--BTCV--p99--z_{10**22}"
        for kind in ("images", "masks"):
            for path in (a_source_to_spoil / kind).glob(f"{FIRST}*"):
                path.rename(path.with_name(path.name.replace(FIRST, many)))
        change_index(
            a_source_to_spoil, lambda index: json.loads(json.dumps(index).replace(FIRST, many))
        )
        assert build_here(a_source_to_spoil, tmp_path / "out")["taken"] == 16

    def test_a_missing_or_strange_folder_is_named(self, tmp_path):
        with pytest.raises(BirdError, match=r"nowhere: no such folder"):
            build_here(tmp_path / "nowhere", tmp_path / "out")
        with pytest.raises(BirdError, match=rf"looked for {INDEX_FILE}"):
            build_here(tmp_path, tmp_path / "out")

    def test_a_med_grit_folder_is_recognised(self, a_build, tmp_path):
        with pytest.raises(BirdError, match="questions already"):
            build_here(a_build, tmp_path / "out")


class TestLanguageModel:
    def options(self, server, cache: Path, **changes) -> WriterOptions:
        return WriterOptions(
            "llm", endpoint=server.url, model="scripted", cache=cache, attempts=1, **changes
        )

    def test_a_model_writes_what_passed_the_checks(self, a_source, a_server, tmp_path):
        a_server.script()
        report = build_here(
            a_source, tmp_path / "out", limit=9, writer=self.options(a_server, tmp_path / "cache")
        )
        outcomes = report["language_model"]["pictures"]
        assert sum(outcomes.values()) == 9
        assert outcomes["llm"] >= 5
        known = known_boxes(PICTURES)
        for item in read_entries(tmp_path / "out", "VG"):
            found = parse_grounding(item["conversations"][0][1])
            assert set(found.boxes_norm) <= {box for _, box in known[item["id"]]}

    def test_an_interrupted_model_is_not_asked_twice(
        self, a_source, a_server, tmp_path, small_shards
    ):
        a_server.script()
        options = self.options(a_server, tmp_path / "cache", concurrency=2)
        settings, out = BuildSettings(a_source, writer=options, limit=12), tmp_path / "out"
        stop = TestInterruption().interrupted_at("language model", 7)
        with pytest.raises(KeyboardInterrupt):
            build(settings, out, stop)
        build(settings, out, no_progress)
        unbroken = BuildSettings(a_source, writer=options, limit=12)
        asked = len(a_server.log())
        build(unbroken, tmp_path / "unbroken", no_progress)
        assert len(a_server.log()) == asked  # all from the cache
        assert built_bytes(out) == built_bytes(tmp_path / "unbroken")

    def test_a_model_that_is_down_stops_the_build_and_leaves_it_to_go_on(
        self, a_source, a_server, tmp_path
    ):
        options = self.options(a_server, tmp_path / "cache")
        settings, out = BuildSettings(a_source, writer=options, limit=6), tmp_path / "out"
        a_server.script(*[{"do": "status", "status": 401}] * 4)
        with pytest.raises(BirdError):
            build(settings, out, no_progress)
        a_server.script()
        assert build(settings, out, no_progress)["taken"] == 6


def _class(label: str) -> str:
    """A natural name -> the class of the source."""
    words = label.split()
    sides = [word for word in words if word in ("left", "right")]
    name = "_".join([*(w for w in words if w not in sides), *sides])
    assert any(name in classes for classes in CLASSES.values()), name
    return name
