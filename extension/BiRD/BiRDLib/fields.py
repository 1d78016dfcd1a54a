"""Fields of a JSON answer, read into values of a known kind.

Anything missing or of the wrong kind becomes a ServerFault that names the field, never a KeyError.
Knows nothing about what the fields mean.
"""

import json
import math

from .errors import ServerFault
from .i18n import tr as _


def json_object(data):
    """The object that the bytes of an answer say."""
    try:
        answer = json.loads(data)
    except ValueError as error:
        raise ServerFault(
            _("What answers there is not a BiRD server: its answer is not JSON."),
            _("Check the address."),
        ) from error
    if not isinstance(answer, dict):
        raise ServerFault(_("The server's answer is no JSON object: {:.60}").format(repr(answer)))
    return answer


def value_of(answer, name):
    if not isinstance(answer, dict) or name not in answer:
        raise ServerFault(_("The server's answer lacks the field {!r}.").format(name))
    return answer[name]


def field(answer, name, kind):
    value = value_of(answer, name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ServerFault(
            _("The server's answer has {!r} = {:.60} where a {} belongs.").format(
                name, repr(value), kind.__name__
            )
        )
    return value


def number(answer, name):
    return numbers({name: [value_of(answer, name)]}, name, 1)[0]


def numbers(answer, name, count, kind=(int, float)):
    values = field(answer, name, list)
    good = all(isinstance(v, kind) and not isinstance(v, bool) for v in values)
    if not good or len(values) != count or not all(math.isfinite(v) for v in values):
        raise ServerFault(
            _("The server's answer has {!r} = {:.60} where {} numbers belong.").format(
                name, repr(values), count
            )
        )
    return tuple(values)


def rows(answer, name, rows, columns):
    values = field(answer, name, list)
    if len(values) != rows:
        raise ServerFault(
            _("The server's answer has {} rows in {!r} where {} belong.").format(
                len(values), name, rows
            )
        )
    return tuple(numbers({name: row}, name, columns) for row in values)


def strings(values, name):
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise ServerFault(_("The server's answer has no list of words in {!r}.").format(name))
    return values
