"""Pictures and prompts as chat models get them: the same as transformers' own processors make."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, Qwen2_5_VLProcessor, Qwen3VLProcessor

from bird_vlm.backbones.chat_inputs import ChatInputs
from bird_vlm.backbones.chat_processor import read_processor
from bird_vlm.backbones.pictures import as_picture
from bird_vlm.errors import BadRequestError, CheckpointError
from tiny_families import SIDE, save_tiny

QWENS = {"qwen2.5-vl": Qwen2_5_VLProcessor, "qwen3-vl": Qwen3VLProcessor}
CHATTING = (*QWENS, "gemma3")
PROMPTED = (*CHATTING, "paligemma")
SIZES = [
    pytest.param(85, 60, id="odd"),
    pytest.param(30, 300, id="tall"),
    pytest.param(300, 30, id="wide"),
    pytest.param(1, 1, id="one pixel"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("models")
    return {family: save_tiny(family, parent / family) for family in PROMPTED}


@pytest.fixture
def a_processor_of(folders):
    return lambda family: read_processor(folders[family], family)


def a_picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 255, (height, width), dtype=np.uint8)
    return as_picture(torch.from_numpy(pixels))


def stock(family: str, folder: Path):
    """The processor of transformers, with Pillow; where torchvision is missing, all of it but the
    part for videos, without which its constructor refuses.
    """
    ours = read_processor(folder, family)
    if importlib.util.find_spec("torchvision"):
        made = QWENS[family].from_pretrained(folder)
        made.image_processor = ours.image_processor
        return made
    made = object.__new__(QWENS[family])
    made.image_processor, made.tokenizer = ours.image_processor, ours.tokenizer
    made.chat_template = ours.tokenizer.chat_template
    made.get_attributes = lambda: ["image_processor", "tokenizer"]
    for kind in ("image", "video"):
        setattr(made, f"{kind}_token", f"<|{kind}_pad|>")
        setattr(made, f"{kind}_token_id", ours.tokenizer.convert_tokens_to_ids(f"<|{kind}_pad|>"))
    return made


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("family", QWENS)
def test_qwen_pictures_are_read_as_transformers_does(folders, family: str, width, height):
    pictures, prompts = [a_picture(width, height), a_picture(64, 64)], ["liver?", "left kidney?"]
    ours = ChatInputs(read_processor(folders[family], family)).of(pictures, prompts)
    processor = stock(family, folders[family])
    chats = [
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}]
        for prompt in prompts
    ]
    texts = processor.apply_chat_template(chats, add_generation_prompt=True)
    theirs = processor(
        images=pictures, text=texts, padding=True, padding_side="left", return_tensors="pt"
    )
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("family", QWENS)
def test_a_picture_takes_a_token_for_every_square_of_patches(a_processor_of, family, width, height):
    processor = a_processor_of(family)
    inputs = ChatInputs(processor).of([a_picture(width, height)], ["liver?"])
    shown = ChatInputs(processor).shown(a_picture(width, height))
    side = processor.image_processor.patch_size * processor.image_processor.merge_size
    is_image = inputs["input_ids"] == processor.image_token_id
    assert (shown.width, shown.height) == (width, height)
    assert is_image.sum() == shown.input_width // side * (shown.input_height // side)
    assert torch.equal(inputs["mm_token_type_ids"].bool(), is_image)
    assert shown.input_width % side == shown.input_height % side == 0


@pytest.mark.parametrize("family", PROMPTED)
def test_shorter_prompts_are_padded_on_the_left(a_processor_of, family: str):
    inputs = ChatInputs(a_processor_of(family)).of([a_picture(40, 40)] * 2, ["a", "a much longer"])
    short, long = inputs["attention_mask"]
    assert long.all()
    assert not short[0]
    assert short[-1]
    assert short.diff().ge(0).all()


@pytest.mark.parametrize("family", ["gemma3", "paligemma"])
def test_squares_are_shown_as_squares(a_processor_of, family: str):
    shown = ChatInputs(a_processor_of(family)).shown(a_picture(85, 60))
    assert (shown.width, shown.height) == (85, 60)
    assert (shown.input_width, shown.input_height) == (SIDE, SIDE)


def test_a_long_picture_stays_in_one_piece(folders, tmp_path: Path):
    folder = save_tiny("gemma3", tmp_path / "gemma3")
    path = folder / "processor_config.json"
    settings = json.loads(path.read_text())
    settings["image_processor"] |= {
        "do_pan_and_scan": True,
        "pan_and_scan_min_crop_size": 8,
        "pan_and_scan_max_num_crops": 4,
        "pan_and_scan_min_ratio_to_activate": 1.2,
    }
    path.write_text(json.dumps(settings))
    whole = AutoImageProcessor.from_pretrained(folder)([a_picture(300, 60)], return_tensors="pt")
    assert len(whole["pixel_values"]) > 1
    inputs = ChatInputs(read_processor(folder, "gemma3")).of([a_picture(300, 60)], ["liver?"])
    assert len(inputs["pixel_values"]) == 1


@pytest.mark.parametrize("family", PROMPTED)
def test_pictures_go_through_pillow(a_processor_of, family: str):
    assert type(a_processor_of(family).image_processor).__name__.endswith("Pil")


@pytest.mark.parametrize(
    "pixels",
    [
        pytest.param(np.arange(12, dtype=np.uint8).reshape(3, 4), id="grey"),
        pytest.param(np.arange(36, dtype=np.uint8).reshape(3, 4, 3), id="colour"),
    ],
)
def test_pictures_are_shown_in_colour(pixels: np.ndarray):
    picture = as_picture(torch.from_numpy(pixels))
    assert (picture.mode, picture.size) == ("RGB", (4, 3))
    first = pixels[0, 0] if pixels.ndim == 3 else [pixels[0, 0]] * 3
    assert list(picture.getpixel((0, 0))) == list(first)


@pytest.mark.parametrize("family", QWENS)
def test_a_picture_that_is_all_length_is_refused(a_processor_of, family: str):
    inputs = ChatInputs(a_processor_of(family))
    with pytest.raises(BadRequestError, match="picture: 1 x 300 pixels"):
        inputs.shown(a_picture(1, 300))
    with pytest.raises(BadRequestError, match="picture: 1 x 300 pixels"):
        inputs.of([a_picture(1, 300)], ["liver?"])


@pytest.mark.parametrize("family", CHATTING)
def test_a_folder_without_a_chat_template_is_refused(family: str, tmp_path: Path):
    folder = save_tiny(family, tmp_path / family)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match="chat template"):
        read_processor(folder, family)
