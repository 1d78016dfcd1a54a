"""The store: whole or not at all, once per content."""

from __future__ import annotations

import pytest

from bird_server.volumes_store import (
    TooLargeError,
    UnknownVolumeError,
    VolumesStore,
    limit_from_environment,
)
from bird_vlm.errors import BirdError


@pytest.fixture
def a_store(tmp_path) -> VolumesStore:
    return VolumesStore(tmp_path / "volumes", limit_bytes=100)


def files(store) -> list[str]:
    return sorted(path.name for path in store._folder.rglob("*") if path.is_file())


def test_a_kept_upload_is_found_under_the_hash_of_its_bytes(a_store):
    with a_store.receive("scan.nii.gz") as upload:
        upload.write(b"ab")
        upload.write(b"c")
        upload.flush()
        a_store.keep(upload)

    path = a_store.path("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    assert path.read_bytes() == b"abc"
    assert files(a_store) == [path.name]


def test_an_upload_that_breaks_off_leaves_nothing(a_store):
    def receive():
        with a_store.receive("scan.nii.gz") as upload:
            upload.write(b"half of it")
            raise ConnectionError

    with pytest.raises(ConnectionError):
        receive()

    assert files(a_store) == []


def test_an_unfinished_upload_is_not_in_the_store(a_store):
    with a_store.receive("scan.nii.gz") as upload:
        upload.write(b"abc")

        assert not a_store.holds(upload.volume_id)


def test_the_limit_is_in_bytes_and_inclusive(a_store):
    with a_store.receive("a.nii") as upload:
        upload.write(bytes(100))
        with pytest.raises(TooLargeError, match="100 bytes"):
            upload.write(b"x")


@pytest.mark.parametrize("volume_id", ["", "0" * 64, "../incoming", "0" * 63, "A" * 64, "*"])
def test_an_unknown_id_is_refused(a_store, volume_id):
    with pytest.raises(UnknownVolumeError, match="volume_id"):
        a_store.path(volume_id)


@pytest.mark.parametrize(("value", "limit_bytes"), [("5000", 5000), ("", 2 << 30)])
def test_the_limit_comes_from_the_environment(monkeypatch, value, limit_bytes):
    monkeypatch.setenv("BIRD_UPLOAD_BYTES", value)

    assert limit_from_environment() == limit_bytes


@pytest.mark.parametrize("value", ["2GB", "-1", "1.5"])
def test_a_limit_that_is_no_number_is_named(monkeypatch, value):
    monkeypatch.setenv("BIRD_UPLOAD_BYTES", value)

    with pytest.raises(BirdError, match="BIRD_UPLOAD_BYTES"):
        limit_from_environment()
