"""What a reviewer decides about findings, undone and redone at will.

Decisions are kept in the findings table, so they are saved with the scene; the steps back belong to
the session. Knows nothing about HTTP, Qt, or how a decision reaches the server's store.
"""

from collections import namedtuple

from .errors import UnusableInput
from .findings import Findings
from .i18n import tr as _
from .places import same_place
from .statuses import ACCEPTED, EDITED, PROPOSED, REJECTED, UNTOLD

# What one decision can change of a finding; place: of its 3D box, or None where it has none.
State = namedtuple("State", "status label comment place")
_Step = namedtuple("_Step", "table key before after")


class Decisions:
    """The decisions of one session about the findings of one scene.

    Methods take a findings table and the keys of findings in it, and return the keys that changed.
    Several findings at once are one step for `undo`. Each raises UnusableInput for a finding that
    is gone, before anything is changed.
    """

    def __init__(self, scene):
        self.reviewer = ""
        self._findings = Findings(scene)
        self._done = []  # lists of _Step, the last one last
        self._undone = []

    def accept(self, table, keys):
        return self._decide(table, keys, status=ACCEPTED)

    def reject(self, table, keys):
        return self._decide(table, keys, status=REJECTED)

    def reopen(self, table, keys):
        """Back among the undecided."""
        return self._decide(table, keys, status=PROPOSED)

    def comment(self, table, keys, text):
        return self._decide(table, keys, comment=text.strip())

    def rename(self, table, keys, label):
        """Another name for a finding; its reviewer stands for it."""
        label = " ".join(label.split())
        if not label:
            raise UnusableInput(_("A finding needs a name."), _("Write one."))
        return self._decide(table, keys, label=label, status=EDITED)

    def moved(self, table, key, before):
        """Takes note that a finding's 3D box was moved by hand from the Place `before`."""
        now = self._state(table, key)
        step = _Step(table.GetID(), key, now._replace(place=before), now._replace(status=EDITED))
        return self._do([step])

    @property
    def canUndo(self):
        return bool(self._done)

    @property
    def canRedo(self):
        return bool(self._undone)

    def undo(self):
        """Takes the last step back; returns its keys."""
        return self._walk(self._done, self._undone, lambda step: (step.after, step.before))

    def redo(self):
        """Takes the last step forward again; returns its keys."""
        return self._walk(self._undone, self._done, lambda step: (step.before, step.after))

    def forget(self):
        """For a scene that closes: nothing is left to undo."""
        self._done.clear()
        self._undone.clear()

    def _decide(self, table, keys, **changes):
        steps = []
        for key in keys:
            before = self._state(table, key)
            after = before._replace(**changes)
            if after[:3] != before[:3]:
                steps.append(_Step(table.GetID(), key, before, after))
        return self._do(steps)

    def _do(self, steps):
        if not steps:
            return []
        self._write([(step, step.before, step.after) for step in steps])
        self._done.append(steps)
        self._undone.clear()
        return [step.key for step in steps]

    def _walk(self, source, target, wanted):
        while source:
            steps = source.pop()
            alive = [step for step in steps if self._table(step) is not None]
            if alive:
                self._write([(step, *wanted(step)) for step in alive])
                target.append(alive)
                return [step.key for step in alive]
        return []

    def _state(self, table, key):
        row = self._findings.row(table, key)
        return State(row.status, row.label, row.comment, self._findings.place(table, key))

    def _write(self, wanted):
        """Makes findings what they are to be: (_Step, State now, State then) of each."""
        changes = {}
        for step, before, state in wanted:
            table = self._table(step)
            if _moved(before.place, state.place):
                self._findings.setPlace(table, step.key, state.place)
            values = {"status": state.status, "comment": state.comment, "told": UNTOLD}
            if state.label != before.label:
                values["label"] = state.label
            changes.setdefault(table, {})[step.key] = dict(values, reviewer=self.reviewer)
        for table, of_table in changes.items():
            self._findings.changeAll(table, of_table)

    def _table(self, step):
        """The table of a step, or None where it or the finding has left the scene."""
        for table in self._findings.tables():
            if table.GetID() == step.table:
                alive = any(row.finding == step.key for row in self._findings.rows(table))
                return table if alive else None
        return None


def _moved(place, wanted):
    return place is not None and wanted is not None and not same_place(place, wanted)
