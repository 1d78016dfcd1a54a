"""Starting on a folder that has been served before: its uploads, reviews and versions go on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bird_server.learning.model_versions import versions_of
from bird_server.learning.versions import MANIFEST, DamagedVersionsError, folder_of
from bird_server.model import BirdModel, version_of
from bird_server.opening import open_service
from bird_server.review.fingerprint import fingerprint
from bird_server.review.records import By
from bird_server.service import Service
from bird_vlm.contract import GroundingRequest
from bird_vlm.errors import CheckpointError
from bird_vlm.running import USUAL
from jobs_world import stored_volume
from scripted import PRESENT, ScriptedModel

MODEL = "bird-mini"


@pytest.fixture
def loaded(monkeypatch) -> list[str]:
    """The names of the models that were loaded, in place of which a script answers."""
    names = []

    def load(name, _running):
        names.append(name)
        model = ScriptedModel()
        if name != MODEL:
            if not Path(name, "config.json").is_file():
                raise CheckpointError(f"model: {name} is broken")
            model.version = fingerprint(Path(name))
        return model

    monkeypatch.setattr(BirdModel, "load", load)
    return names


@pytest.fixture
def opened(tmp_path, loaded):
    """Opens the service of one folder, and closes all of them in the end."""
    services = []

    def again() -> Service:
        services.append(open_service(tmp_path, MODEL, USUAL))
        return services[-1]

    yield again
    for service in services:
        service.close()


@pytest.fixture
def a_version(opened, tmp_path):
    """A version that was trained and taken, by a server that has ended since."""
    (tmp_path / "fresh").mkdir()
    (tmp_path / "fresh" / "config.json").write_text("{}")
    service = opened()
    told = {"root": service.root, "base": service.root}
    record = versions_of(service).take(tmp_path / "fresh", MODEL, told)
    service.close()
    return record


def test_a_first_start_loads_nothing_before_it_is_asked(opened, loaded):
    service = opened()

    assert (service.root, service.model_name) == (version_of(MODEL, USUAL), MODEL)
    assert (loaded, service.is_loaded) == ([], False)
    assert service.card.id == "scripted"
    assert loaded == [MODEL]


def test_the_version_in_use_is_the_only_one_that_is_loaded(opened, loaded, a_version, tmp_path):
    loaded.clear()

    service = opened()

    assert service.version == a_version.version
    assert loaded == [service.model_name] == [str(folder_of(tmp_path) / a_version.name)]
    assert versions_of(service).told()["versions"][0]["version"] == service.root


def test_the_original_answers_where_the_version_in_use_is_broken(
    opened, loaded, a_version, tmp_path, caplog
):
    (folder_of(tmp_path) / a_version.name / "config.json").unlink()
    loaded.clear()

    service = opened()

    assert service.model_name == MODEL
    assert service.card
    assert loaded[-1] == MODEL
    assert "the original answers" in caplog.text


def test_a_list_of_versions_that_is_damaged_stops_the_start(opened, a_version, tmp_path):
    (folder_of(tmp_path) / MANIFEST).write_text("{")

    with pytest.raises(DamagedVersionsError, match="repair it"):
        opened()


def test_uploads_in_review_are_there_after_years(opened, tmp_path):
    service = opened()
    reviewed, other = stored_volume(service, 1), stored_volume(service, 2)
    volume, source = service.sourced_volume(reviewed)
    list(service.ground(volume, GroundingRequest((PRESENT,)), source))
    store = service.review.store
    (finding,) = store.report(volume.digest).findings
    store.accept(finding.finding_id, By("ann", finding.revision))
    service.close()
    for volume_id in (reviewed, other):
        os.utime(service.store.path(volume_id), (1e9, 1e9))

    again = opened()

    assert [one.volume_id for one in again.store.all()] == [reviewed]
