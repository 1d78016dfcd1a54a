"""Folders in the SA-Med2D-20M layout: what is read, and what is refused with the file's name."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from bird_training.records import ObjectRecord
from bird_training.sources.sa_med2d import CLASSES_FILE, INDEX_FILE, read_sa_med2d
from bird_vlm.errors import BirdError
from small_world import ABDOMEN, CLASSES, NOTHING, TWO_EDEMAS, write_sa_med2d


def test_pictures_come_in_the_order_of_the_index_with_what_their_names_say(
    small_records, a_small_folder
):
    told = [(r.id, r.modality, r.dataset, r.case, r.image.suffix) for r in small_records]
    assert told == [
        ("ct_00--BTCV--p01--z_0001", "ct", "BTCV", "p01", ".jpg"),
        ("mr_t1--BraTS2013--p02--z_0007", "mr", "BraTS2013", "p02", ".png"),
        ("mr_t1--BraTS2013--p03--z_0002", "mr", "BraTS2013", "p03", ".png"),
        ("dermoscopy--ISIC2018--p04--2d_0000", "dermoscopy", "ISIC2018", "p04", ".png"),
    ]
    assert all(r.image.is_file() and r.image.is_relative_to(a_small_folder) for r in small_records)


def test_classes_get_natural_names_and_unions_of_classes_are_dropped(small_records, a_small_folder):
    stem = a_small_folder / "masks" / ABDOMEN.stem
    assert small_records[0].objects == (
        ObjectRecord("liver", stem.with_name(f"{stem.name}--0000_000.png")),
        ObjectRecord("left kidney", stem.with_name(f"{stem.name}--0001_000.png")),
        ObjectRecord("right kidney", stem.with_name(f"{stem.name}--0002_000.png")),
    )


def test_every_instance_is_an_object_of_its_own(small_records):
    brain = small_records[1]
    assert [o.label for o in brain.objects] == ["brain tumor", "edema", "edema"]
    assert len({o.mask for o in brain.objects}) == 3
    assert all(o.mask.is_file() and o.value is None for o in brain.objects)


def test_a_picture_without_masks_is_a_picture_with_nothing_on_it(small_records):
    assert small_records[2].id == NOTHING.stem
    assert small_records[2].objects == ()


def with_index(folder, **entries):
    index = json.loads((folder / INDEX_FILE).read_text())
    (folder / INDEX_FILE).write_text(json.dumps(index | entries))


@pytest.mark.parametrize(
    ("image", "masks"),
    [
        pytest.param("images/ct_00--BTCV--p01.png", [], id="stem-of-three-parts"),
        pytest.param("images/a--b--c--d--e.png", [], id="stem-of-five-parts"),
        pytest.param("images/ct--Unheard--p--z_1.png", ["masks/m--0000_000.png"], id="dataset"),
        pytest.param("images/ct--BTCV--p--z_1.png", ["masks/m--0099_000.png"], id="class-id"),
        pytest.param("images/ct--BTCV--p--z_1.png", ["masks/m--liver_000.png"], id="class-word"),
        pytest.param("images/ct--BTCV--p--z_1.png", ["masks/mask.png"], id="mask-stem"),
        pytest.param("images/ct--BTCV--p--z_1.png", None, id="masks-are-null"),
        pytest.param("images/ct--BTCV--p--z_1.png", [7], id="mask-is-a-number"),
    ],
)
def test_a_malformed_entry_is_refused_with_the_pictures_name(tmp_path, image, masks):
    write_sa_med2d(tmp_path, [TWO_EDEMAS])
    with_index(tmp_path, **{image: masks})
    with pytest.raises(BirdError, match="not as in SA-Med2D-20M") as refusal:
        read_sa_med2d(tmp_path)
    assert str(refusal.value).startswith(f"{image}: ")


@pytest.mark.parametrize("name", [INDEX_FILE, CLASSES_FILE])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(None, "missing", id="missing"),
        pytest.param(b'{"images/a.png": [', "not valid JSON", id="truncated"),
        pytest.param(b"", "not valid JSON", id="empty"),
        pytest.param(b"\xff\xfe\x00", "not valid JSON", id="binary"),
        pytest.param(b'["images/a.png"]', "not a JSON object", id="a-list"),
    ],
)
def test_a_broken_index_file_is_refused_with_its_name(tmp_path, name, content, reason):
    path = write_sa_med2d(tmp_path, [TWO_EDEMAS]) / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(BirdError, match=reason) as refusal:
        read_sa_med2d(tmp_path)
    assert str(path) in str(refusal.value)


def test_classes_that_are_no_table_of_ids_are_refused(tmp_path):
    write_sa_med2d(tmp_path, [TWO_EDEMAS], CLASSES | {"BraTS2013": ["brain_tumor", "edema"]})
    with pytest.raises(BirdError, match=CLASSES_FILE):
        read_sa_med2d(tmp_path)


@pytest.mark.shared
def test_the_real_folder_is_read_whole(real_records):
    assert len(real_records) == 4621
    assert set(Counter(r.modality for r in real_records)) == {
        *("ct", "mr", "x", "pet", "endoscopy", "dermoscopy", "fundus", "ultrasound")
    }
    assert len({r.id for r in real_records}) == 4621
    assert sum(not r.objects for r in real_records) >= 61  # pictures with nothing on them
    assert not [r.image for r in real_records if not r.image.is_file()]
    assert not [o.mask for r in real_records for o in r.objects if not o.mask.is_file()]
    assert not [o.label for r in real_records for o in r.objects if "_" in o.label]
