"""The sentences of the offline writer: how a radiologist asks, and how the answers are put.

Of each list the first sentence is the plain one. Braces are filled by `dialogues.py`,
`analysis.py` and `captions.py`. Knows nothing about which question fits a picture.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from bird_vlm.boxes import NORM_MAX, BoxNorm

MODALITY_NAMES = {
    "ct": "CT",
    "mr": "MR",
    "x": "X-ray",
    "pet": "PET",
    "endoscopy": "endoscopy",
    "dermoscopy": "dermoscopy",
    "fundus": "fundus",
    "ultrasound": "ultrasound",
}
PLAIN_SHARE = 0.5  # of the draws that take the plain sentence
_SMALL, _LARGE = 0.03, 0.15  # share of the picture below and above which a box is called so
_NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

# Beside bird_vlm.prompts.grounding_prompt
GROUNDING = (
    "Where is the {words}?",
    "Show me the {words}.",
    "Find the {words} in this image.",
    "Locate the {words}.",
    "Mark the {words} in this image.",
    "Draw a box around the {words}.",
    "Please point out the {words}.",
    "Can you locate the {words} in this image?",
    "Put a box on the {words}.",
    "Give the position of the {words}.",
    "Where do you see the {words}?",
    "Detect the {words} in this scan.",
    "In which area is the {words}?",
    "I am looking for the {words}.",
)
# Later in a conversation
AND_GROUNDING = (
    "And where is the {words}?",
    "And the {words}?",
    "What about the {words}?",
    "Now find the {words}.",
    "Next, show me the {words}.",
    "Where is the {words}, then?",
)
AND_NAMING = (
    "And what is in {box}?",
    "And this: {box}?",
    "What about the area {box}?",
    "Now name what is in {box}.",
    "Next, which structure lies in {box}?",
)
# Beside referring_prompt("roc", ...)
NAMING = (
    "What is in {box}?",
    "Which object is in the area {box}?",
    "Name the structure in {box}.",
    "What does the box {box} contain?",
    "Identify the object in the region {box}.",
    "Which structure lies in {box}?",
    "What is marked by {box}?",
    "Name what you see in the box {box}.",
    "Label the region {box}.",
    "Which structure is this: {box}?",
    "Tell me the name of the object in {box}.",
    "What is the structure in the area {box} called?",
)
# Beside referring_prompt("rc", ...)
DESCRIBING = (
    "Please describe the area {box}.",
    "Describe what lies in {box}.",
    "Give a short description of the region {box}.",
    "Write a sentence about the area {box}.",
    "Report on the region {box}.",
    "Describe the marked region {box} of this image.",
    "Can you describe the box {box}?",
    "Characterise the region {box}.",
    "Describe the finding in {box}.",
    "What would you report about the area {box}?",
)
DESCRIPTIONS = (
    "The region shows the {label} in the {place} of this {modality} image.",
    "The {label} is seen in the {place} of this {modality} image.",
    "This is the {label}, in the {place} of the {modality} image.",
    "The box holds the {label}, which is {size} and lies in the {place} of the image.",
    "{A_size} area in the {place} of this {modality} image shows the {label}.",
)

KIND = (
    "What kind of image is this?",
    "What type of image is shown?",
    "What am I looking at?",
    "Which kind of scan is this?",
    "Tell me what image this is.",
    "What sort of picture is this?",
    "What is shown here?",
    "Identify the type of this image.",
    "Can you say what image this is?",
)
KIND_ANSWERS = (
    "This is {a_image}{of_region}.",
    "The picture is {a_image}{of_region}.",
    "It is {a_image}{of_region}.",
    "{A_image}{of_region}.",
)
MODALITY = (
    "Which imaging modality is this?",
    "What modality was used?",
    "How was this image acquired?",
    "Which technique made this image?",
    "Name the imaging modality.",
    "Which imaging method is it?",
    "What imaging was done here?",
    "By which modality was this picture taken?",
)
MODALITY_ANSWERS = (
    "The modality is {technique}.",
    "The image was acquired by {technique}.",
    "It is {technique}.",
    "This is {a_modality} image.",
)
REGION = (
    "Which part of the body is shown?",
    "Which body region does this image show?",
    "What body part is this?",
    "Which anatomical region is imaged?",
    "What region was examined?",
    "Name the body region.",
    "Where in the body was this image taken?",
    "Which region of the body do we see?",
)
REGION_ANSWERS = (
    "The image shows the {region}.",
    "This is the {region}.",
    "The {region} was imaged.",
    "It was taken of the {region}.",
)
PLANE = (
    "Which plane is this?",
    "In which plane was this slice cut?",
    "What is the orientation of this slice?",
    "Is this slice axial, coronal or sagittal?",
    "Name the plane of this image.",
    "Which imaging plane do we see?",
    "How is this slice oriented?",
    "Tell me the plane of this slice.",
)
PLANE_ANSWERS = (
    "This is {a_plane} slice.",
    "The plane is {plane}.",
    "It is {plane}.",
    "The slice was cut in the {plane} plane.",
)
SEEN = (
    "Which objects are visible in this image?",
    "What can be seen in this image?",
    "Which structures are shown?",
    "List the structures in this image.",
    "Name everything that is marked.",
    "What are the findings?",
    "Which objects do you see?",
    "What does this image show?",
    "Tell me what is visible here.",
)
SEEN_ANSWERS = (
    "The image shows {objects}.",
    "It shows {objects}.",
    "I see {objects}.",
    "Visible here: {objects}.",
)
NOTHING_ANSWERS = (
    "Nothing abnormal is marked.",
    "Nothing is marked in this image.",
    "There is nothing to mark.",
)
PRESENCE = (
    "Does this image show the {label}?",
    "Is the {label} visible?",
    "Can you see the {label} here?",
    "Is the {label} in this image?",
    "Do you see the {label}?",
    "Is there any {label} in this image?",
    "Does the {label} appear in this scan?",
    "Is the {label} shown here?",
    "Can the {label} be seen?",
)
PRESENT_ANSWERS = (
    "Yes, the {label} is visible.",
    "Yes, it shows the {label}.",
    "Yes, the {label} can be seen.",
)
ABSENT_ANSWERS = (
    "No, there is no {label} in this image.",
    "No, it shows no {label}.",
    "No, I see no {label}.",
)
PLACE = (
    "Where roughly is the {label}?",
    "In which part of the image is the {label}?",
    "Roughly where does the {label} lie?",
    "Tell me in words where the {label} is.",
    "Which part of the picture holds the {label}?",
    "Say in words where the {label} lies.",
    "Where in the picture does the {label} lie?",
    "Describe the place of the {label}.",
)
PLACE_ANSWERS = (
    "The {label} lies in the {place} of the image.",
    "The {label} is in the {place} of the image.",
    "It lies in the {place}.",
    "In the {place} of the image.",
)
COUNT = (
    "How many areas of {label} are there?",
    "How many separate areas show {label}?",
    "Count the areas of {label}.",
    "What is the number of areas with {label}?",
    "How many times is {label} marked?",
    "How many areas of {label} do you see?",
    "Please count the areas of {label}.",
    "Tell me how many areas of {label} are visible.",
)
COUNT_ANSWERS = (
    "There {are} {number} {areas} of {label}.",
    "The image shows {number} {areas} of {label}.",
    "I count {number} {areas} of {label}.",
)
LARGER = (
    "Which is larger here, the {first} or the {second}?",
    "Is the {first} larger than the {second} in this image?",
    "Compare the {first} and the {second} in size.",
    "Which takes up more of the image, the {first} or the {second}?",
    "Of the {first} and the {second}, which is larger?",
    "Which one is bigger, the {first} or the {second}?",
    "How do the {first} and the {second} compare in size?",
    "Which is the smaller one, the {first} or the {second}?",
)
LARGER_ANSWERS = (
    "The {larger} is larger than the {smaller}.",
    "The {larger} is the larger one and the {smaller} the smaller.",
    "The {smaller} is smaller than the {larger}.",
)
SIDE = (
    "Which lies further left in the image, the {first} or the {second}?",
    "How do the {first} and the {second} lie, from left to right?",
    "Is the {first} left or right of the {second} in the image?",
    "Which comes first from the left, the {first} or the {second}?",
    "Name the {first} and the {second} from left to right.",
    "On which side of the {second} is the {first} in the image?",
    "Which is on the left of the image, the {first} or the {second}?",
    "How are the {first} and the {second} placed to each other?",
)
SIDE_ANSWERS = (
    "The {left} lies to the left of the {right}.",
    "The {left} is left of the {right} in the image.",
    "The {right} lies to the right of the {left}.",
)
REPORT = (
    "Please analyse the image.",
    "Describe this image.",
    "Summarise this image.",
    "Write a short report.",
    "What would you report?",
    "Give a caption for this image.",
    "Describe what you see.",
    "Tell me about this image.",
    "Interpret this image.",
)


def draw(sentences: Sequence[str], rng: random.Random | None) -> str:
    """One sentence; the first in about half of the draws, and always where there is no `rng`."""
    if rng is None or len(sentences) == 1 or rng.random() < PLAIN_SHARE:
        return sentences[0]
    return rng.choice(sentences[1:])


def with_article(words: str) -> str:
    """
    >>> with_article("X-ray image"), with_article("CT image"), with_article("axial MR image")
    ('an X-ray image', 'a CT image', 'an axial MR image')
    """
    return f"{'an' if words.startswith(('X', 'MR', *'aeiou')) else 'a'} {words}"


def capital(words: str) -> str:
    """The words with a capital first letter, the rest as it is."""
    return words[:1].upper() + words[1:]


def enumeration(labels: Sequence[str]) -> str:
    """
    >>> enumeration(["liver", "spleen", "aorta"])
    'the liver, the spleen and the aorta'
    """
    return joined([f"the {label}" for label in labels])


def joined(parts: Sequence[str]) -> str:
    """The parts with commas and one "and"."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def number_in_words(number: int) -> str:
    """Words below ten, digits from there on."""
    return _NUMBERS[number] if number < len(_NUMBERS) else str(number)


def place_in_words(box_norm: BoxNorm) -> str:
    """Where a box lies on the picture.

    >>> place_in_words((0, 0, 200, 200)), place_in_words((400, 300, 600, 700))
    ('upper left part', 'centre')
    """
    x, y = (box_norm[0] + box_norm[2]) / 2, (box_norm[1] + box_norm[3]) / 2
    row = _third(y, "upper", "lower")
    column = _third(x, "left", "right")
    return f"{' '.join(filter(None, (row, column)))} part" if row or column else "centre"


def size_in_words(box_norm: BoxNorm) -> str:
    """How large a box is against the picture.

    >>> size_in_words((0, 0, 100, 200)), size_in_words((0, 0, 500, 500))
    ('small', 'large')
    """
    share = area(box_norm) / NORM_MAX**2
    if share < _SMALL:
        return "small"
    return "large" if share > _LARGE else "medium-sized"


def area(box_norm: BoxNorm) -> int:
    """Square units of 1/1000 of the picture's sides."""
    return (box_norm[2] - box_norm[0]) * (box_norm[3] - box_norm[1])


def _third(value: float, low: str, high: str) -> str:
    if value < NORM_MAX / 3:
        return low
    return high if value > 2 * NORM_MAX / 3 else ""
