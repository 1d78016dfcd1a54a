"""Images to the pixel values that BiRD sees: RGB, resized to a square, normalised as CLIP does.

Knows nothing about slices, windows or files: it takes PIL images and 8-bit arrays. The aspect
ratio is not kept, so positions in 0..1000 of the width and of the height stay what they are.
"""

import numpy as np
from PIL import Image
from transformers import AutoImageProcessor
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, PILImageResampling

from bird_vlm.configuration_bird import BirdConfig
from bird_vlm.errors import BadRequestError

_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")


class BirdImageProcessor(PilBackend):
    """PIL images or uint8 arrays (H, W) or (H, W, 3) -> (images, 3, size, size) floats."""

    model_input_names = ["pixel_values"]  # noqa: RUF012
    resample = PILImageResampling.BICUBIC
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    size = {"height": 448, "width": 448}  # noqa: RUF012
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True

    def fetch_images(self, image_url_or_urls):
        """Every image, in whatever nesting it came, as 8-bit RGB.

        Raises:
            BadRequestError: not an image, or one whose values do not fit 0..255 (window it first).
        """
        if isinstance(image_url_or_urls, (list, tuple)):
            return [self.fetch_images(image) for image in image_url_or_urls]
        image = image_url_or_urls
        if isinstance(image, np.ndarray):
            image = _from_array(image)
        if not isinstance(image, Image.Image):
            raise BadRequestError(
                f"images: needs PIL images or uint8 arrays, got {type(image).__name__}"
            )
        if image.mode not in _EIGHT_BIT_MODES:
            raise BadRequestError(
                f"images: mode {image.mode} has more than 8 bits; apply a window first"
            )
        return image.convert("RGB")


def _from_array(array: np.ndarray) -> Image.Image:
    is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if array.dtype != np.uint8 or not is_image or array.size == 0:
        raise BadRequestError(
            f"images: arrays must be uint8 of shape (H, W) or (H, W, 3), "
            f"got {array.dtype} {array.shape}"
        )
    return Image.fromarray(array)


AutoImageProcessor.register(BirdConfig, image_processor_classes={"pil": BirdImageProcessor})
