"""Sentences that say that an object is not in the picture.

The prompts ask for an empty answer; models say it in words all the same. Only a whole answer of one
such sentence counts: "No doubt, the liver is ..." is no absence.
Knows English.
"""

from __future__ import annotations

import re

from bird_vlm.dialects.found import same_object

_BARE = re.compile(
    r"(?:none|null|nothing|no|n/a|absent|not (?:present|visible|found)|there (?:is|are) none"
    r"|none(?: (?:is|are))? (?:present|visible|found|detected))",
    re.IGNORECASE,
)
_PICTURE = r"(?:the|this) (?:\w+ )?(?:image|picture|scan|slice|view)"
_WHERE = rf"(?: (?:in|on|within) {_PICTURE})?"
_SEEN = r"(?:present|visible|shown|seen|found|detected|depicted|identified|located)"
_THING = r"[^.{}\[\]<>]+?"  # of the same sentence
_DENIALS = (
    r"(?:there (?:is|are) no|no|i (?:do not|don't|cannot|can't|could not) (?:see|find|detect))"
    rf" (?P<object>{_THING})(?: (?:is|are|can be|could be))?(?: {_SEEN})?{_WHERE}",
    rf"(?P<subject>{_THING}) (?:is not|isn't|are not|aren't|cannot be) {_SEEN}{_WHERE}",
    rf"{_PICTURE} (?:does not|doesn't) (?:show|contain|include|depict) (?P<content>{_THING})",
)
_DENIAL = re.compile(rf"(?:no, )?(?:{'|'.join(_DENIALS)})", re.IGNORECASE)
_QUALIFIERS = re.compile(
    r"^(?:any |visible |evidence of |signs? of |instances? of )+", re.IGNORECASE
)
_QUOTES = re.compile("[\"`“”‘’]|\\B'|'\\B")  # an apostrophe stays


def says_absent(text: str, asked: str | None) -> bool:
    """Whether `text` is empty, or one sentence that denies `asked` (anything, where None).

    >>> says_absent("There is no visible liver in this image.", "liver")
    True
    >>> says_absent("There is no fluid around the liver.", "liver")
    False
    """
    sentence = " ".join(_QUOTES.sub("", text).split()).rstrip(".! ")
    if not sentence or _BARE.fullmatch(sentence):
        return True
    denied = _DENIAL.fullmatch(sentence)
    if denied is None:
        return False
    name = _QUALIFIERS.sub("", denied.group(denied.lastgroup))
    return asked is None or same_object(name, asked)
