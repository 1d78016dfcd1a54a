"""What every section of the panel has: the widgets, the logic, a way to tell the user.

Knows nothing about any one section.
"""

from slicer.i18n import tr as _

from BiRDLib.errors import BirdError, Cancelled


class Section:
    """A part of the panel; `panel` is the BiRDWidget that holds it."""

    def __init__(self, panel):
        self.panel = panel
        self.ui = panel.ui
        self.logic = panel.logic

    @property
    def core(self):
        return self.logic.core

    @property
    def parameters(self):
        """The parameter node's wrapper, or None while the module is not entered."""
        return self.panel.parameters

    @property
    def volume(self):
        return self.parameters.volume if self.parameters is not None else None

    def update(self):
        """Buttons and lists follow what is there now; called after every change."""

    def attempt(self, work, *arguments):
        """Runs `work` at once and tells its BirdError in the log; True where there was none."""
        try:
            work(*arguments)
        except BirdError as error:
            self.panel.log(error.advice)
            return False
        return True

    def failed(self, error):
        """A question came to nothing."""
        self.panel.progress(0.0, "" if isinstance(error, Cancelled) else _("Failed"))
        self.panel.log(error.advice)
        self.panel.update()


def enable(button, possible, reason, otherwise=""):
    """A disabled button says in its tooltip why it is, an enabled one what it does."""
    button.enabled = possible
    button.toolTip = otherwise if possible else reason
