"""Remarks about a whole volume, kept with its findings table and saved with the scene.

Knows nothing about HTTP or Qt.
"""

import json
from collections import namedtuple

_NOTES = "BiRD.notes"

# A remark; told: whether the server's store has it.
Note = namedtuple("Note", "reviewer text time told", defaults=("", False))


def notes(table):
    """The remarks about a table's volume, the oldest first."""
    return [Note(*fields) for fields in json.loads(table.GetAttribute(_NOTES) or "[]")]


def add_note(table, reviewer, text, time=""):
    """Adds a remark; the last one again adds nothing."""
    kept, text = notes(table), text.strip()
    if text and (not kept or kept[-1][:2] != (reviewer, text)):
        _write(table, [*kept, Note(reviewer, text, time)])


def replace_notes(table, told):
    """Takes the server's remarks (Note) for the told ones here; those not told yet stay."""
    _write(table, [*told, *(note for note in notes(table) if not note.told)])


def told_notes(table, sent):
    """Marks these remarks as known to the server."""
    _write(table, [n._replace(told=True) if n in sent else n for n in notes(table)])


def _write(table, kept):
    table.SetAttribute(_NOTES, json.dumps(kept, ensure_ascii=True))
    table.Modified()
