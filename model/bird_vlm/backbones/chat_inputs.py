"""Pictures and prompts to what a network takes: one row for each prompt, padded on the left.

Knows processors; knows nothing about boxes, answers or weights.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from transformers import BatchFeature, ProcessorMixin

from bird_vlm.dialects.shown import ShownPicture
from bird_vlm.errors import BadRequestError


class ChatInputs:
    """Of one processor. A processor with a chat template gets the question as a user's turn."""

    def __init__(self, processor: ProcessorMixin) -> None:
        self.processor = processor

    def of(self, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> BatchFeature:
        """Tensors for one prompt about each picture.

        Raises BadRequestError for pictures that the model's processor cannot resize.
        """
        try:
            inputs = self.processor(
                images=[[picture] for picture in pictures],
                text=[self._text(prompt) for prompt in prompts],
                padding=True,
                padding_side="left",
                add_special_tokens=False,  # the template has them
                return_tensors="pt",
            )
        except ValueError as error:
            raise _not_shown(pictures[0], error) from error
        inputs.pop("labels", None)
        return inputs

    def shown(self, picture: Image.Image) -> ShownPicture:
        """The picture's size before and after the processor's resizing.

        Raises BadRequestError where it cannot be resized.
        """
        processor = self.processor.image_processor
        try:
            made = processor([picture], return_tensors="pt")
        except ValueError as error:
            raise _not_shown(picture, error) from error
        if "image_grid_thw" in made:  # patches of each frame, down, across
            rows, columns = (made["image_grid_thw"][0, 1:] * processor.patch_size).tolist()
        else:
            rows, columns = made["pixel_values"].shape[-2:]
        return ShownPicture(picture.width, picture.height, columns, rows)

    def _text(self, prompt: str) -> str:
        if self.processor.chat_template is None:
            return f"{self.processor.image_token}{prompt}"
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        return self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )


def _not_shown(picture: Image.Image, error: ValueError) -> BadRequestError:
    return BadRequestError(
        f"picture: {picture.width} x {picture.height} pixels cannot be shown to this model "
        f"({error}); crop it"
    )
