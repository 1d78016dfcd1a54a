"""Pictures and boxes that the tests of the dialects share."""

from __future__ import annotations

import pytest

from bird_vlm.boxes import BoxNorm
from bird_vlm.dialects import BoxDialect, ShownPicture
from bird_vlm.errors import GrammarError

A_PICTURE = ShownPicture(width=1024, height=512, input_width=1400, input_height=700)
ONE: BoxNorm = (100, 200, 500, 600)  # whole numbers in every dialect that counts A_PICTURE's pixels
TWO: BoxNorm = (600, 100, 900, 1000)


def assert_refused(dialect: BoxDialect, text: str, reason: str, asked: str = "liver") -> None:
    """The named error, with the whole text in it."""
    with pytest.raises(GrammarError, match=reason) as refused:
        dialect.parse(text, A_PICTURE, asked)
    assert repr(text) in str(refused.value)
