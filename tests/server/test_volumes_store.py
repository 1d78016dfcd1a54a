"""The store: whole or not at all, once per content."""

from __future__ import annotations

import pytest

from bird_server.volumes.store_errors import (
    StoreFullError,
    TooLargeError,
    UnknownVolumeError,
    VolumeInUseError,
)
from bird_server.volumes.volumes_store import (
    StoreLimits,
    VolumesStore,
    limit_from_environment,
    limits_from_environment,
)
from bird_vlm.errors import BirdError

GEOMETRY = {"shape_ijk": [4, 4, 4], "ijk_to_ras": [[1.0, 0, 0, 0]]}


class Clock:
    def __init__(self) -> None:
        self.seconds = 1e9

    def __call__(self) -> float:
        self.seconds += 1.0
        return self.seconds


@pytest.fixture
def a_clock() -> Clock:
    return Clock()


@pytest.fixture
def a_store(tmp_path, a_clock) -> VolumesStore:
    """It takes 100 bytes in one file, 250 in all, and forgets after 1000 s."""
    return VolumesStore(tmp_path / "volumes", StoreLimits(100, 250, 1000.0), a_clock)


def files(store) -> list[str]:
    places = [path for path in store.folder.rglob("*") if path.is_file()]
    return sorted(path.name for path in places if path.parent.name != "about")


def keep(store: VolumesStore, content: bytes, name: str = "scan.nii.gz") -> str:
    with store.receive(name) as upload:
        upload.write(content)
        upload.flush()
        store.keep(upload, f"digest of {content[:1]!r}", GEOMETRY)
        return upload.volume_id


def test_a_kept_upload_is_found_under_the_hash_of_its_bytes(a_store):
    keep(a_store, b"abc")

    path = a_store.path("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    assert path.read_bytes() == b"abc"
    assert files(a_store) == [path.name]


def test_what_is_known_of_a_volume_is_told_without_reading_it(a_store):
    volume_id = keep(a_store, b"abc")

    told = a_store.about(volume_id)

    assert (told.name, told.volume_digest, told.geometry) == (
        "scan.nii.gz",
        "digest of b'a'",
        GEOMETRY,
    )
    assert (told.size_bytes, told.in_use) == (3, False)
    assert a_store.with_digest("digest of b'a'") == told
    with pytest.raises(UnknownVolumeError, match="volume_digest"):
        a_store.with_digest("another")


def test_what_was_not_used_for_longest_goes_for_a_new_one(a_store):
    first, second = keep(a_store, b"a" * 100), keep(a_store, b"b" * 100)
    a_store.use(first)

    third = keep(a_store, b"c" * 100)

    assert [a_store.holds(volume_id) for volume_id in (first, second, third)] == [True, False, True]
    assert a_store.stored_bytes() == 200
    assert [one.volume_id for one in a_store.all()] == [third, first]


def test_what_a_job_needs_stays_even_where_there_is_no_room(a_store):
    held = [keep(a_store, letter * 100) for letter in (b"a", b"b")]
    a_store.hold(held)

    with pytest.raises(StoreFullError, match="50 bytes are lacking"):
        keep(a_store, b"c" * 100)

    assert all(a_store.holds(volume_id) for volume_id in held)
    assert len(files(a_store)) == 2
    a_store.release(held)
    keep(a_store, b"c" * 100)


def test_a_volume_is_held_as_often_as_it_is_needed(a_store):
    volume_id = keep(a_store, b"a")
    a_store.hold([volume_id])
    a_store.hold([volume_id])
    a_store.release([volume_id])

    with pytest.raises(VolumeInUseError):
        a_store.remove(volume_id)

    a_store.release([volume_id])
    a_store.remove(volume_id)
    assert files(a_store) == []
    assert list((a_store.folder / "about").iterdir()) == []


def test_what_nobody_uses_goes_with_age(a_store, a_clock):
    old, held = keep(a_store, b"a"), keep(a_store, b"b")
    a_store.hold([held])
    a_clock.seconds += 1000

    a_store.expire()

    assert (a_store.holds(old), a_store.holds(held)) == (False, True)


def test_what_reviews_need_goes_neither_with_age_nor_for_a_new_one(tmp_path, a_clock):
    reviewed: set[str] = set()
    limits = StoreLimits(100, 250, 1000.0)
    store = VolumesStore(tmp_path / "volumes", limits, a_clock, spared=lambda: reviewed)
    spared, other = keep(store, b"a" * 100), keep(store, b"b" * 100)
    reviewed.add(spared)

    third = keep(store, b"c" * 100)
    assert [store.holds(volume_id) for volume_id in (spared, other, third)] == [True, False, True]
    a_clock.seconds += 1000
    store.expire()
    assert [one.volume_id for one in store.all()] == [spared]

    reviewed.add(keep(store, b"d" * 100))
    with pytest.raises(StoreFullError, match="reviews need"):
        keep(store, b"e" * 100)


def test_a_start_clears_what_is_known_of_volumes_that_are_gone(a_store, a_clock):
    gone, there = keep(a_store, b"a"), keep(a_store, b"b")
    a_store.path(gone).unlink()

    VolumesStore(a_store.folder, a_store.limits, a_clock)

    assert [path.stem for path in (a_store.folder / "about").iterdir()] == [there]


def test_a_start_clears_what_a_kill_left_behind(a_store, a_clock):
    left = a_store.folder / "incoming" / "half.nii"
    left.write_bytes(b"half")

    VolumesStore(a_store.folder, a_store.limits, a_clock)

    assert not left.exists()


def test_a_folder_of_a_series_is_kept_counted_and_removed_like_a_file(a_store):
    with a_store.receive("series.zip") as upload:
        upload.write(b"zip")
        upload.series.mkdir()
        (upload.series / "00000.dcm").write_bytes(b"d" * 40)
        kept = a_store.keep(upload, "digest", GEOMETRY)

    assert kept == a_store.path(upload.volume_id)
    assert a_store.about(upload.volume_id).size_bytes == 40
    assert files(a_store) == ["00000.dcm"]
    a_store.remove(upload.volume_id)
    assert files(a_store) == []


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


def test_all_limits_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("BIRD_UPLOAD_BYTES", "10")
    monkeypatch.setenv("BIRD_STORE_BYTES", "20")
    monkeypatch.setenv("BIRD_STORE_DAYS", "2")

    assert limits_from_environment() == StoreLimits(10, 20, 2 * 86_400)
