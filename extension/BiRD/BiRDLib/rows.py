"""The rows of a findings table: what its columns hold, read, added and changed in one go.

A row is a box on a slice; what is true of the whole finding stands in each of its rows. Knows
nothing about ROI nodes, folders, or what a reviewer may do.
"""

import re
from collections import namedtuple

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
    stamp = _stamp(table)
    if stamp not in _READ:
        _keep(stamp, map(Row, *(_column(table, name) for name in Row._fields)))
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
    data.Modified()
    _finish(table, modifying)


def change_rows(table, changes):
    """Writes values into every row of some findings, in one go; `changes`: key -> {column: value}.

    Columns that stay as they are count as unchanged.
    """
    add_columns(table)
    modifying = table.StartModify()
    data, rows, touched = table.GetTable(), list(read_rows(table)), set()
    for n, row in enumerate(rows):
        values = changes.get(row.finding, {})
        new = {name: value for name, value in values.items() if getattr(row, name) != value}
        for name, value in new.items():
            data.GetColumnByName(name).SetValue(n, _written(value))
        rows[n] = row._replace(**new) if new else row
        touched |= new.keys()
    for name in touched:
        data.GetColumnByName(name).Modified()
    data.Modified()
    _keep(_stamp(table), rows)  # reading a thousand anew takes long
    _finish(table, modifying)


def drawn_stamp(table):
    """Changes whenever what slice views draw of a table does; not with a status or a comment."""
    columns = (table.GetTable().GetColumnByName(name) for name in _DRAWN)
    return [(column.GetMTime(), column.GetNumberOfValues()) for column in columns]


def corners_text(corners_ras):
    return " ".join("{:.4f}".format(value) for corner in corners_ras for value in corner)


def _stamp(table):
    """VTK gives no two changes of any objects the same."""
    return table.GetTable().GetMTime()


def _keep(stamp, rows):
    while len(_READ) >= _MOST_READ:
        del _READ[next(iter(_READ))]
    _READ[stamp] = tuple(rows)


def _finish(table, modifying):
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
        return [_READERS[name](_default(name))] * table.GetNumberOfRows()
    values = [column.GetValue(n) for n in range(column.GetNumberOfValues())]
    return list(map(_READERS[name], values))


def _written(value):
    """What a table's file can hold: it loses quotes, its columns end at tabs, its rows at lines."""
    if not isinstance(value, str):
        return value
    return _UNSAFE.sub(lambda match: "%{:02X}".format(ord(match.group())), value)


def _text(value):
    return _ESCAPED.sub(lambda match: chr(int(match.group(1), 16)), str(value))


def _number(value):
    return float(value) if value != "" else 0.0


def _corners(value):
    """Four points of a cell, or None for an empty one."""
    numbers = list(map(float, str(value).split()))
    return tuple(zip(numbers[::3], numbers[1::3], numbers[2::3])) or None  # noqa: B905


def _whole(value):
    return int(_number(value))


_READERS = {name: _text if kind == vtk.VTK_STRING else _number for name, kind in _TYPES.items()}
_READERS.update(slice=_whole, revision=_whole, corners_ras=_corners)
