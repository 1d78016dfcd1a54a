"""A picture's two sizes: as it was handed over, and as the model's own processor made it.

Some families count pixels of the second (Qwen2.5-VL). Knows nothing about boxes or text.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from bird_vlm.errors import BadRequestError


@dataclass(frozen=True)
class ShownPicture:
    """One picture in front of a model; all sizes in whole pixels, 1 at least."""

    width: int  # as handed to the model's processor
    height: int
    input_width: int  # after the processor's own resizing
    input_height: int

    def __post_init__(self) -> None:
        for name, length in ((f.name, getattr(self, f.name)) for f in fields(self)):
            if length < 1:
                raise BadRequestError(
                    f"{name}: a picture is 1 pixel long at least, got {length}; give its real size"
                )

    @classmethod
    def unresized(cls, width: int, height: int) -> ShownPicture:
        """For families whose numbers do not depend on the resizing."""
        return cls(width, height, width, height)
