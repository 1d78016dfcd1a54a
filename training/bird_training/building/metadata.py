"""Step (i) of Med-GRIT: a picture and its masks -> what is known of it, instance by instance.

An instance is left out where nobody could point at it: fewer than MIN_PIXELS pixels, or a box that
is narrower than MIN_EDGE_NORM thousandths of the picture's width or height. What is left out is
still not absent. A picture is refused whole where one of its files is bad: half its truth would be
a lie. Knows nothing about questions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

import numpy as np
from PIL import Image

from bird_training.building.sampling import draw
from bird_training.facts import PictureFacts, PlacedObject
from bird_training.masks import connected_areas, read_mask
from bird_training.records import ObjectRecord, PictureRecord
from bird_training.regions import REGIONS, Vocabulary
from bird_training.sources.modalities import check_modality
from bird_vlm.boxes import NORM_MAX, mask_to_box_pixel, pixel_to_norm
from bird_vlm.contract import BoxPixel
from bird_vlm.errors import BirdError
from bird_vlm.labels import without_side

MIN_PIXELS = 12
MIN_EDGE_NORM = 5
MAX_NEAR_MISSES = 8  # absent objects that this data set annotates
MAX_ELSEWHERE = 4  # absent objects of other regions of the body

# Words in an object's name that tell the region where the data set does not; first match counts.
_REGION_WORDS = {
    "brain": "brain hippocampus thalamus caudate putamen cerebellum lateral pallidum amygdala "
    "necrosis enhancing",
    "retina": "optic retinal fovea macula",
    "skin": "skin melanoma nevus",
    "breast": "breast",
    "pelvis": "hip femur bladder prostate sacrum gluteus uterus rectum pubic fetal",
    "abdomen": "liver hepatic spleen kidney renal pancreas gallbladder stomach adrenal duodenum "
    "bowel colon portal vena iliopsoas",
    "chest": "lung heart pulmonary trachea bronchus atrium ventricle myocardium esophagus "
    "scapula clavicula sternum costal rib covid pleural",
    "head and neck": "mandible parotid thyroid larynx cochlea eye lens",
    "spine": "vertebra vertebrae disc discs intervertebral spinal autochthon",
}
_REGION_OF_WORD = {
    word: region for region, words in _REGION_WORDS.items() for word in words.split()
}
_NEARLY_EVERYWHERE = (
    "spine"  # seen on most slices of the trunk, so it names only what else has none
)


def picture_facts(
    record: PictureRecord, vocabulary: Vocabulary, annotated: Collection[str] | None = None
) -> PictureFacts:
    """What may be said of a picture.

    `annotated` names the objects that were looked for on it, all of its data set where None.
    Raises BirdError, with the path, for a picture or mask that is missing, broken or of another
    size than the other, and for an unknown modality.
    """
    check_modality(record.modality)
    width, height = _size(record)
    found = (_placed(item, record.plane, width, height) for item in record.objects)
    placed = [o for o in found if o]
    return PictureFacts(
        id=med_grit_id(record),
        image=record.image,
        modality=record.modality,
        dataset=record.dataset,
        case=record.case,
        region=REGIONS.get(record.dataset) or region_of_objects(o.label for o in record.objects),
        plane=record.plane,
        objects=tuple(sorted(placed, key=lambda o: (o.label, o.box_norm))),
        absent=absent_objects(record, vocabulary, annotated),
    )


def med_grit_id(record: PictureRecord) -> str:
    """The record's id; its text before the first "_" is the modality, as Med-GRIT has it."""
    told = record.id.partition("_")[0]
    return record.id if told == record.modality else f"{record.modality}_{record.id}"


def absent_objects(
    record: PictureRecord, vocabulary: Vocabulary, annotated: Collection[str] | None = None
) -> tuple[str, ...]:
    """Objects that are certainly not on the picture, the most plausible ones first."""
    near = [
        label for label in vocabulary.near_misses(record) if annotated is None or label in annotated
    ]
    far = vocabulary.elsewhere(record.dataset)
    return _by_lot(near, record.id, MAX_NEAR_MISSES) + _by_lot(far, record.id, MAX_ELSEWHERE)


def region_of_objects(labels: Iterable[str]) -> str:
    """The region of the body that most of these objects lie in; "" where none tells.

    >>> region_of_objects(["liver", "left kidney", "vertebrae L1", "aorta"])
    'abdomen'
    """
    words = {word for label in labels if (word := _telling_word(label))}
    votes = Counter(_REGION_OF_WORD[word] for word in words)
    if len(votes) > 1:
        votes.pop(_NEARLY_EVERYWHERE, None)
    return min(votes, key=lambda region: (-votes[region], region), default="")


def _telling_word(label: str) -> str:
    """Ten ribs are one word, or they would outvote the liver."""
    return next((word for word in label.split() if word in _REGION_OF_WORD), "")


def _by_lot(labels: list[str], picture_id: str, most: int) -> tuple[str, ...]:
    return tuple(sorted(labels, key=lambda label: draw(f"{picture_id}/{label}"))[:most])


def _said(label: str, plane: str) -> str:
    """A sagittal picture does not tell left from right."""
    return without_side(label) if plane == "sagittal" else label


def _size(record: PictureRecord) -> tuple[int, int]:
    try:
        with Image.open(record.image) as picture:
            picture.load()
            return picture.size
    except FileNotFoundError as error:
        raise BirdError(f"{record.image}: missing") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BirdError(f"{record.image}: cannot be read as a picture ({error})") from error


def _placed(item: ObjectRecord, plane: str, width: int, height: int) -> PlacedObject | None:
    mask = read_mask(item)
    if mask.shape != (height, width):
        raise BirdError(
            f"{item.mask}: is {mask.shape[1]} x {mask.shape[0]}, its picture {width} x {height}"
        )
    pixels = np.count_nonzero(mask)
    if pixels < MIN_PIXELS:
        return None
    box_pixel = mask_to_box_pixel(mask)
    box_norm = pixel_to_norm(box_pixel, width, height)
    x0, y0, x1, y1 = box_norm
    if min(x1 - x0, y1 - y0) < MIN_EDGE_NORM:
        return None
    area_norm = round(pixels * NORM_MAX**2 / (width * height))
    return PlacedObject(_said(item.label, plane), box_norm, area_norm, _parts(mask, box_pixel))


def _parts(mask: np.ndarray, box_pixel: BoxPixel) -> int:
    x0, y0, x1, y1 = map(int, box_pixel)
    return max(1, len(connected_areas(mask[y0:y1, x0:x1])))
