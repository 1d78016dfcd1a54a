"""Versions of a model: kept, refused, chosen, taken back, and found again after a restart."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from bird_server.learning.model_versions import ModelVersions
from bird_server.learning.versions import (
    MANIFEST,
    DamagedVersionsError,
    UnknownVersionError,
    Versions,
    folder_of,
)
from bird_server.review.fingerprint import fingerprint
from bird_server.review.review import Review
from bird_server.service import Service
from bird_server.volumes.volumes_store import StoreLimits, VolumesStore
from bird_vlm.errors import CheckpointError

ROOT = "0" * 16


@dataclass
class NamedModel:
    """A model that is as good as its folder's name."""

    name: str
    version: str
    card: object = field(default_factory=lambda: type("C", (), {"device": "cpu", "id": "m"})())


def weights(folder, content: str):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"is": content}))
    return folder


def told(**more):
    return {"root": ROOT, "base": ROOT} | more


@pytest.fixture
def kept(tmp_path) -> Versions:
    return Versions(tmp_path / "models")


@pytest.fixture
def a_service(tmp_path):
    """A service that loads any folder with a config.json, and "original"."""

    def load(name: str, _device: str | None) -> NamedModel:
        if name == "bird-mini":
            return NamedModel(name, ROOT)
        if not (tmp_path / name / "config.json").is_file():
            raise CheckpointError(f"model: {name} is broken")
        return NamedModel(name, fingerprint(tmp_path / name))

    def made() -> Service:
        store = VolumesStore(tmp_path / ".bird" / "volumes", StoreLimits(1 << 20))
        return Service(store, load, review=Review.open(tmp_path))

    return made


def test_a_version_is_moved_in_under_a_name_of_its_own(kept, tmp_path):
    first = kept.take(weights(tmp_path / "a", "a"), "bird-mini", told(after={"recall": 0.5}))
    second = kept.take(weights(tmp_path / "b", "b"), first.name, told())

    assert (first.name, second.name) == ("bird-mini-r1", "bird-mini-r2")
    assert not (tmp_path / "a").exists()
    assert kept.path(first) == tmp_path / "models" / "bird-mini-r1"
    assert first.version == fingerprint(kept.path(first))
    assert Versions(kept.folder).records(ROOT) == [first, second]
    assert kept.records("another model") == []
    assert kept.find(ROOT, first.version) == kept.find(ROOT, "bird-mini-r1") == first


def test_a_refused_version_leaves_its_record_only(kept, tmp_path):
    record = kept.refuse(weights(tmp_path / "a", "a"), "bird-mini", told(before={"score": 0.9}))

    assert (record.status, record.before) == ("refused", {"score": 0.9})
    with pytest.raises(UnknownVersionError, match="not kept"):
        kept.path(record)
    kept.use(ROOT, record)
    assert kept.in_use(ROOT) is None


def test_odd_names_become_plain_folders(kept, tmp_path):
    record = kept.take(weights(tmp_path / "a", "a"), "../we ird/näme", told())

    assert record.name == "n_me-r1"
    assert kept.path(record).parent == kept.folder


@pytest.mark.parametrize("text", ["", "{", "[]", '{"versions": [{}], "in_use": {}}'])
def test_a_damaged_manifest_is_told_and_kept(kept, text):
    kept.folder.mkdir()
    (kept.folder / MANIFEST).write_text(text)

    with pytest.raises(DamagedVersionsError, match="repair it"):
        kept.records(ROOT)

    assert (kept.folder / MANIFEST).read_text() == text


def test_a_new_version_answers_and_can_be_taken_back(a_service, tmp_path):
    service = a_service()
    versions = ModelVersions(service)
    record = versions.take(weights(tmp_path / "fresh", "a"), "bird-mini", told())

    assert service.version == record.version
    assert versions.told()["in_use"] == record.version
    versions.use("original")
    assert service.version == ROOT
    rows = versions.told()["versions"]
    assert [(row["name"], row["in_use"]) for row in rows] == [
        ("bird-mini", True),
        ("bird-mini-r1", False),
    ]
    versions.use("bird-mini-r1")
    assert service.version == record.version
    service.close()


def test_a_restarted_server_goes_on_with_the_version_in_use(a_service, tmp_path):
    first = a_service()
    record = ModelVersions(first).take(weights(tmp_path / "fresh", "a"), "bird-mini", told())
    first.close()

    again = a_service()
    assert again.version == ROOT
    ModelVersions(again).restore()

    assert again.version == record.version
    again.close()


def test_a_version_that_is_gone_leaves_the_original_answering(a_service, tmp_path, caplog):
    first = a_service()
    record = ModelVersions(first).take(weights(tmp_path / "fresh", "a"), "bird-mini", told())
    first.close()
    (folder_of(tmp_path) / record.name / "config.json").unlink()

    again = a_service()
    ModelVersions(again).restore()

    assert again.version == ROOT
    assert "the original answers" in caplog.text
    again.close()


def test_a_version_that_cannot_be_loaded_leaves_the_old_one(a_service, tmp_path):
    service = a_service()
    versions = ModelVersions(service)
    record = versions.take(weights(tmp_path / "fresh", "a"), "bird-mini", told())
    versions.use("original")
    (versions.kept.path(record) / "config.json").unlink()

    with pytest.raises(CheckpointError):
        versions.use(record.version)

    assert (service.version, versions.kept.in_use(ROOT)) == (ROOT, None)
    service.close()


def test_a_version_that_nobody_made_is_unknown(a_service):
    service = a_service()
    with pytest.raises(UnknownVersionError, match="bird-mini-r9"):
        ModelVersions(service).use("bird-mini-r9")
    service.close()
