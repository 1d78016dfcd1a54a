"""The rows of a findings table: what its columns hold, read, added and changed in one go.

A row is a box on a slice; what is true of the whole finding stands in each of its rows. Knows
nothing about ROI nodes, folders, or what a reviewer may do.
"""

import re
from collections import namedtuple

import numpy as np
import vtk

from .statuses import PROPOSED

_WHOLE = ("status", "model", "whole_score", "place", "comment", "reviewer", "server_id",
          "revision", "told", "asked")  # fmt: skip

# prompt: number and words of the question; finding: "prompt number/finding number", empty where
# the label is absent; corners_ras: 12 numbers, mm, volume RAS, around the box; whole_score: of the
# finding; place: the model's own 3D box (scene.py's placeText), empty where unknown; server_id and
# revision: in the server's store; told: see statuses.py, empty where there is nothing to tell;
# asked: the label before anybody renamed it.
Row = namedtuple(
    "Row",
    ("prompt", "finding", "label", "score", "plane", "slice", "corners_ras", *_WHOLE),
    defaults=(0.0, "", "", "", "", 0, "", ""),
)
_TYPES = dict.fromkeys(Row._fields, vtk.VTK_STRING)
_TYPES.update(score=vtk.VTK_DOUBLE, whole_score=vtk.VTK_DOUBLE)
_TYPES.update(slice=vtk.VTK_INT, revision=vtk.VTK_INT)
_UNSAFE = re.compile(r'[%"\t\r\n]')
_ESCAPED = re.compile("%(25|22|09|0D|0A)")
_MOST_READ = 16
_READ = {}  # time of a table's last change -> its rows then; the oldest goes first
_DRAWN = ("finding", "label", "score", "plane", "slice", "corners_ras")


def add_columns(table):
    """Gives a table the columns of Row that it lacks: a new one all, an older one the rest."""
    for name, kind in _TYPES.items():
        if table.GetTable().GetColumnByName(name) is not None:
            continue
        column = vtk.vtkAbstractArray.CreateArray(kind)
        column.SetName(name)
        for _ in range(table.GetNumberOfRows()):
            column.InsertNextValue(_default(name))
        table.AddColumn(column)
        table.SetColumnType(name, kind)


def read_rows(table):
    """The rows of a table as a tuple of Row; `corners_ras` as 4 points, or None."""
    stamp = table.GetTable().GetMTime()  # VTK gives no two changes of any objects the same
    if stamp not in _READ:
        columns = (_column(table, name) for name in Row._fields)
        while len(_READ) >= _MOST_READ:
            del _READ[next(iter(_READ))]
        _READ[stamp] = tuple(_read(row) for row in map(Row, *columns))
    return _READ[stamp]


def append_rows(table, rows):
    """Adds rows in one go: one ModifiedEvent, however many boxes."""
    add_columns(table)
    modifying = table.StartModify()
    data = table.GetTable()
    for name in Row._fields:
        column = data.GetColumnByName(name)
        for row in rows:
            column.InsertNextValue(_written(getattr(row, name)))
        column.Modified()
    _finish(table, modifying)


def change_rows(table, finding, **values):
    """Writes these columns' values into every row of one finding, in one go."""
    add_columns(table)
    modifying = table.StartModify()
    data = table.GetTable()
    keys = data.GetColumnByName("finding")
    own = [n for n in range(table.GetNumberOfRows()) if keys.GetValue(n) == finding]
    for name, value in values.items():
        column = data.GetColumnByName(name)
        for n in own:
            column.SetValue(n, _written(value))
        column.Modified()
    _finish(table, modifying)


def drawn_stamp(table):
    """Changes whenever what slice views draw of a table does; not with a status or a comment."""
    columns = (table.GetTable().GetColumnByName(name) for name in _DRAWN)
    return [(column.GetMTime(), column.GetNumberOfValues()) for column in columns]


def corners_text(corners_ras):
    return " ".join("{:.4f}".format(value) for corner in corners_ras for value in corner)


def _finish(table, modifying):
    table.GetTable().Modified()
    table.Modified()
    table.EndModify(modifying)


def _default(name):
    if name == "status":
        return PROPOSED
    return "" if _TYPES[name] == vtk.VTK_STRING else 0


def _column(table, name):
    """A column as a list, whatever type a file gave it; defaults where an older table has none."""
    column = table.GetTable().GetColumnByName(name)
    if column is None:
        return [_default(name)] * table.GetNumberOfRows()
    values = [column.GetValue(n) for n in range(column.GetNumberOfValues())]
    return list(map(_text if _TYPES[name] == vtk.VTK_STRING else _number, values))


def _written(value):
    """What a table's file can hold: it loses quotes, its columns end at tabs, its rows at lines."""
    if not isinstance(value, str):
        return value
    return _UNSAFE.sub(lambda match: "%{:02X}".format(ord(match.group())), value)


def _text(value):
    return _ESCAPED.sub(lambda match: chr(int(match.group(1), 16)), str(value))


def _number(value):
    return float(value) if value != "" else 0.0


def _read(row):
    numbers = np.array(row.corners_ras.split(), dtype=float).reshape(-1, 3).tolist()
    corners_ras = tuple(map(tuple, numbers)) or None
    return row._replace(slice=int(row.slice), revision=int(row.revision), corners_ras=corners_ras)
