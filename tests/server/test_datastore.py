"""The folder of studies while it changes: files that come by themselves, and requests meanwhile."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripted import wait_until

OLD, NEW = 150, 40  # images: enough that looking through the old ones takes a while


@pytest.fixture
def studies(tmp_path) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    return folder


@pytest.fixture
def a_datastore(_running, studies) -> Iterator:
    """It watches the folder of studies; MONAI Label's settings are read by then."""
    from bird_server.volumes.datastore import InsideDatastore

    datastore = InsideDatastore(str(studies), extensions=["*.nii"], auto_reload=True)
    yield datastore
    datastore._observer.stop()
    datastore._observer.join()


@pytest.fixture
def old_images(studies) -> None:
    """They are there before anybody watches."""
    for number in range(OLD):
        copied(studies, f"old_{number}")


@pytest.fixture
def a_file(tmp_path) -> Path:
    path = tmp_path / "scan.nii"
    path.write_bytes(b"voxels")
    return path


def copied(studies: Path, name: str) -> None:
    """Into the folder, past the server."""
    (studies / f"{name}.nii").write_bytes(b"voxels")


def until_listed(datastore, name: str) -> None:
    wait_until(lambda: name in datastore.list_images(), seconds=60)


def test_a_file_that_comes_by_itself_is_listed(a_datastore, studies):
    copied(studies, "case_1")

    until_listed(a_datastore, "case_1")


def test_the_folder_is_looked_through_while_images_are_added_and_none_is_lost(
    old_images, a_datastore, studies, a_file
):
    failures, ended = [], threading.Event()

    def look_again_and_again() -> None:
        while not ended.wait(0.001):
            try:
                a_datastore.refresh()
            except RuntimeError as error:  # "dictionary changed size during iteration"
                failures.append(error)

    looking = threading.Thread(target=look_again_and_again)
    looking.start()
    added = [a_datastore.add_image(f"new_{n}", str(a_file), {"of": n}) for n in range(NEW)]
    known = [a_datastore.get_image_info(name).get("of") for name in added]
    ended.set()
    looking.join()

    assert failures == []
    assert known == list(range(NEW))
    copied(studies, "last")
    until_listed(a_datastore, "last")  # somebody still watches
    assert len(a_datastore.list_images()) == OLD + NEW + 1


def test_the_watch_outlives_a_change_that_could_not_be_noted_down(
    a_datastore, studies, monkeypatch, caplog
):
    from bird_server.volumes import datastore

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(datastore, "write_json", full)
        copied(studies, "case_1")
        wait_until(lambda: "not taken in yet" in caplog.text, seconds=60)
    copied(studies, "case_2")

    until_listed(a_datastore, "case_2")
    assert sorted(a_datastore.list_images()) == ["case_1", "case_2"]


def test_a_folder_of_labels_that_goes_while_it_is_looked_at_holds_none(a_datastore, tmp_path):
    assert a_datastore._list_files(str(tmp_path / "nowhere"), ["*.nii"]) == {}
