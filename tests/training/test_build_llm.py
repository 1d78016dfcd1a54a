"""Builds whose words come from a language model behind a real HTTP server."""

from __future__ import annotations

import pytest

from bird_training.building.build import build
from bird_training.building.settings import BuildSettings
from bird_vlm.errors import BirdError
from bird_vlm.grammar import parse_grounding
from build_world import (
    PICTURES,
    build_here,
    built_bytes,
    interrupted_at,
    known_boxes,
    llm_options,
    no_progress,
    read_entries,
)


class TestLanguageModel:
    def test_a_model_writes_what_passed_the_checks(self, a_source, a_server, tmp_path):
        a_server.script()
        report = build_here(
            a_source, tmp_path / "out", limit=9, writer=llm_options(a_server, tmp_path / "cache")
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
        options = llm_options(a_server, tmp_path / "cache", concurrency=2)
        settings, out = BuildSettings(a_source, writer=options, limit=12), tmp_path / "out"
        stop = interrupted_at("language model", 7)
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
        options = llm_options(a_server, tmp_path / "cache")
        settings, out = BuildSettings(a_source, writer=options, limit=6), tmp_path / "out"
        a_server.script(*[{"do": "status", "status": 401}] * 4)
        with pytest.raises(BirdError):
            build(settings, out, no_progress)
        a_server.script()
        assert build(settings, out, no_progress)["taken"] == 6
