"""How a model is run: on which device, in which numbers, or by which server elsewhere.

Knows nothing about models.
"""

from __future__ import annotations

from dataclasses import dataclass

from bird_vlm.backend import Backend
from bird_vlm.errors import BadRequestError

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
QUANTIZATIONS = ("int8", "int4")


@dataclass(frozen=True)
class Running:
    """Choices of whoever starts a model. Raises BadRequestError for those that there are not.

    `device` is cpu or cuda (cuda:1 ...), or None for cuda where there is one. `precision` "auto" is
    bfloat16 on cuda and float32 elsewhere. `quantize` keeps the weights of linear layers in 8 bits
    (int8) or in 4-bit NormalFloat (int4), for cards that they do not fit otherwise. With a
    `backend` the model runs there, and how it runs is that server's choice.
    """

    device: str | None = None
    precision: str = "auto"
    quantize: str | None = None
    backend: Backend | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise BadRequestError(
                f"precision: must be {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}, "
                f"got {self.precision!r}"
            )
        if self.quantize not in (None, *QUANTIZATIONS):
            raise BadRequestError(
                f"quantize: must be {' or '.join(QUANTIZATIONS)}, got {self.quantize!r}"
            )
        if self.backend and (self.device, self.precision, self.quantize) != (None, "auto", None):
            raise BadRequestError(
                "backend: device, precision and quantize are for models that run here; choose them "
                f"where the server at {self.backend.url} is started"
            )


USUAL = Running()
