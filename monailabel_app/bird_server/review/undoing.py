"""Steps back over what people changed, and forward again; each step is itself an event.

The model's answer, or the drawing that began a finding, is never stepped over. A new change forgets
what could be redone. Knows nothing about databases.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from bird_server.review.errors import NothingToUndoError
from bird_server.review.records import Event, EventKind
from bird_server.review.replay import State, state_after

Step = Literal["undone", "redone"]
_CLAIMS = ("proposed", "reproposed", "added")


def steps_left(kinds: Iterable[EventKind]) -> tuple[int, int]:
    """How often a finding with this history can be undone, and redone.

    >>> steps_left(["proposed", "accepted", "edited", "undone"])
    (1, 1)
    """
    done, undone = _standing(kinds)
    return max(len(done) - 1, 0), len(undone)


def stepped(history: Sequence[Event], step: Step) -> State:
    """The state that an undo or a redo leads back to.

    Raises NothingToUndoError where there is none.
    """
    done, undone = _standing(event.kind for event in history)
    targets = done[:-1] if step == "undone" else undone
    if not targets:
        what = "undo" if step == "undone" else "redo"
        raise NothingToUndoError(f"there is nothing to {what} in this finding's history", step)
    state = state_after(history[: targets[-1] + 1])
    if state is None:  # the part of the history that tells is lost
        raise NothingToUndoError("what this finding was before is lost; edit it instead", step)
    return state


def _standing(kinds: Iterable[EventKind]) -> tuple[list[int], list[int]]:
    """Positions of the events that stand, the present one last, and of those taken back."""
    done: list[int] = []
    undone: list[int] = []
    for position, kind in enumerate(kinds):
        if kind == "undone" and len(done) > 1:
            undone.append(done.pop())
        elif kind == "redone" and undone:
            done.append(undone.pop())
        else:
            done, undone = [*([] if kind in _CLAIMS else done), position], []
    return done, undone
