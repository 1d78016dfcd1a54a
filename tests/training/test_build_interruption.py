"""Builds that are interrupted, resumed, repeated or find a folder that is not theirs."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager

import pytest

from bird_training.building.build import build
from bird_training.building.settings import BuildSettings
from bird_training.building.shards import PARTS
from bird_training.sources.sa_med2d import INDEX_FILE
from bird_vlm.errors import BirdError
from build_world import (
    PICTURES,
    build_here,
    built_bytes,
    change_index,
    interrupted_at,
    patients,
    read_facts,
    start_build,
    write_source,
)


def all_gone(group: int) -> bool:
    """Whether a group of processes ends within ten seconds."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


class TestInterruption:
    @pytest.mark.parametrize(
        ("step", "after"),
        [("plan", 0), ("pictures", 1), ("pictures", 7), ("near-duplicates", 1), ("files", 3)],
    )
    def test_an_interrupted_build_goes_on_and_ends_the_same(
        self, a_source, a_build, tmp_path, small_shards, step, after
    ):
        out, settings = tmp_path / "out", BuildSettings(a_source, test_fraction=0.2)
        with pytest.raises(KeyboardInterrupt):
            build(settings, out, interrupted_at(step, after))
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
            build(BuildSettings(a_source), tmp_path, interrupted_at("pictures", 1))
        (tmp_path / "build.json").write_text("{")
        with pytest.raises(BirdError, match=r"build.json: is not as .* or --overwrite"):
            build_here(a_source, tmp_path)
        assert build_here(a_source, tmp_path, overwrite=True)["taken"] == len(PICTURES)
