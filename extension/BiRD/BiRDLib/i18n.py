"""The user's language. Every text that a user reads goes through `tr`, imported as `_`.

Slicer's translations are found under a context, the file's package and name, and only inside
Slicer: elsewhere the texts stay as they are written. So this imports nothing of Slicer's.
"""

import sys


def tr(text):
    """The text in the application's language; the context is the module of the caller.

    >>> tr("Connect to a server first.")
    'Connect to a server first.'
    """
    slicer_i18n = sys.modules.get("slicer.i18n")
    if slicer_i18n is None:
        return text
    module = sys._getframe(1).f_globals["__name__"]
    return slicer_i18n.translate(".".join(module.split(".")[-2:]), text)
