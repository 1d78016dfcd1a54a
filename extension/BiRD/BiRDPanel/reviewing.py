"""The tab "Review": the list of findings, and what a reviewer decides about them."""

import time
from dataclasses import replace

import qt
from slicer.i18n import tr as _

from BiRDLib.background import TURN_S
from BiRDLib.colors import label_color
from BiRDLib.lines import COLUMNS, Listing, cells, neighbour, next_open, tally
from BiRDLib.statuses import REJECTED, STATUSES

from .section import Section, enable

_HEADS = [_("Label"), _("Status"), _("Score"), _("Slices"), _("Size (mm)"), _("Model")]  # COLUMNS
_ROWS_MEASURED = 50  # for the columns' widths; all of a thousand would take long
REVIEWER_SETTING = "BiRD/reviewer"
_NOTHING = _("Select a finding in the list.")


class Reviewing(Section):
    """The list follows the scene; keys A, E and R work while the focus is in this tab."""

    def __init__(self, panel):
        super().__init__(panel)
        self._listing = Listing()
        self._shown = []  # the lines in the list, in its order
        self._unfilled = {}  # rows whose cells are not written yet, the first ones first
        self._filling = False  # a later turn is asked for
        self.review = self.logic.makeReview(self.onNews, panel.update)
        table = self.ui.findingsTable
        table.columnCount = len(COLUMNS)
        table.setHorizontalHeaderLabels(_HEADS)
        table.horizontalHeader().setResizeContentsPrecision(_ROWS_MEASURED)
        table.horizontalHeader().sectionClicked.connect(self.onSorted)
        table.itemSelectionChanged.connect(self.onSelected)
        self.ui.statusFilterComboBox.addItems([_("every status"), *STATUSES])
        self.ui.statusFilterComboBox.activated.connect(self.onFiltered)
        self.ui.findingsFilterLineEdit.textChanged.connect(self.onFiltered)
        self._connectButtons()
        reviewer = qt.QSettings().value(REVIEWER_SETTING) or self.review.decisions.reviewer
        self.ui.reviewerLineEdit.text = reviewer
        self.onReviewer()

    def _connectButtons(self):
        ui = self.ui
        for button, slot, key in (
            (ui.acceptButton, self.onAccept, "A"),
            (ui.editButton, self.onEdit, "E"),
            (ui.rejectButton, self.onReject, "R"),
            (ui.reopenButton, self.onReopen, None),
            (ui.undoButton, self.onUndo, "Ctrl+Z"),
            (ui.redoButton, self.onRedo, "Ctrl+Y"),
            (ui.previousButton, lambda *ignored: self.step(-1), None),
            (ui.nextButton, lambda *ignored: self.step(1), None),
        ):
            button.clicked.connect(slot)
            if key is not None:
                shortcut = qt.QShortcut(qt.QKeySequence(key), ui.reviewTab)
                shortcut.context = qt.Qt.WidgetWithChildrenShortcut
                shortcut.activated.connect(slot)
        ui.commentLineEdit.returnPressed.connect(self.onComment)
        ui.nameLineEdit.returnPressed.connect(self.onRename)
        ui.addFindingButton.clicked.connect(self.onAddFinding)
        ui.reviewerLineEdit.editingFinished.connect(self.onReviewer)

    @property
    def selected(self):
        """Keys of the selected findings, in the list's order."""
        rows = (index.row() for index in self.ui.findingsTable.selectionModel().selectedRows())
        return [self._shown[row].key for row in sorted(rows) if self._shown[row].key]

    def update(self):
        lines = self.review.lines(self.volume)
        self._fill(self._listing.of(lines))
        self.ui.tallyLabel.text = "{}, {}".format(
            tally(lines), _("{n} not sent yet (*)").format(n=self.review.outbox.waiting())
        )
        any_selected = bool(self.selected)
        for button in ("acceptButton", "editButton", "rejectButton", "reopenButton"):
            enable(getattr(self.ui, button), any_selected, _NOTHING, _TIPS[button])
        for name in ("commentLineEdit", "nameLineEdit"):
            enable(getattr(self.ui, name), any_selected, _NOTHING, _TIPS[name])
        decisions = self.review.decisions
        enable(self.ui.undoButton, decisions.canUndo, _("Nothing was decided yet."),
               _TIPS["undoButton"])  # fmt: skip
        enable(self.ui.redoButton, decisions.canRedo, _("Nothing was taken back."),
               _TIPS["redoButton"])  # fmt: skip
        self.ui.editButton.checked = self.review.handles.key is not None
        drawn = self.parameters is not None and self.parameters.roi is not None
        reason = _("Draw or choose an ROI in the tab Ask, around what was missed.")
        enable(self.ui.addFindingButton, drawn, reason, _("The ROI becomes an accepted finding."))

    def showFrom(self, threshold):
        """The threshold acts at once, on views and list, without asking the server."""
        self._listing = replace(self._listing, threshold=threshold)
        self.core.display.showFrom(threshold)
        self.update()

    def step(self, by):
        """Selects the next (or previous) finding of the list."""
        now = self.selected
        key = neighbour(self._shown, now[-1 if by > 0 else 0] if now else None, by)
        if key is not None:
            self.select(key)

    def select(self, key):
        row = [line.key for line in self._shown].index(key)
        self.ui.findingsTable.selectRow(row)

    def onSelected(self):
        self._showDetails()
        keys = self.selected
        if len(keys) == 1:
            self.attempt(self.review.jump, self.volume, keys[0])
        self.update()

    def onAccept(self, *ignored):
        self._decide(self.review.accept)

    def onReject(self, *ignored):
        self._decide(self.review.reject)

    def onReopen(self, *ignored):
        self.attempt(self.review.reopen, self.volume, self.selected)

    def onEdit(self, *ignored):
        keys = self.selected
        if keys:
            self.attempt(self.review.edit, self.volume, keys[0])
        self.update()

    def onComment(self):
        text = self.ui.commentLineEdit.text
        self.attempt(self.review.comment, self.volume, self.selected, text)

    def onRename(self):
        self.attempt(self.review.rename, self.volume, self.selected, self.ui.nameLineEdit.text)

    def onAddFinding(self, *ignored):
        parameters = self.parameters
        label = self.ui.newFindingLineEdit.text
        if self.attempt(
            self.review.addByHand, self.volume, parameters.roi, label, parameters.plane
        ):
            self.ui.newFindingLineEdit.text = ""

    def onUndo(self, *ignored):
        self.attempt(self.review.undo)

    def onRedo(self, *ignored):
        self.attempt(self.review.redo)

    def onSorted(self, column):
        by = COLUMNS[column]
        again = by == self._listing.by
        descending = not self._listing.descending if again else by == "score"
        self._listing = replace(self._listing, by=by, descending=descending)
        self.update()

    def onFiltered(self, *ignored):
        index = self.ui.statusFilterComboBox.currentIndex
        statuses = frozenset(STATUSES[index - 1 : index]) if index > 0 else frozenset()
        words = self.ui.findingsFilterLineEdit.text
        self._listing = replace(self._listing, statuses=statuses, words=words)
        self.update()

    def onReviewer(self):
        name = self.ui.reviewerLineEdit.text.strip()
        if name:
            self.review.decisions.reviewer = name
            qt.QSettings().setValue(REVIEWER_SETTING, name)

    def onNews(self, words):
        self.panel.log(words)

    def _decide(self, decide):
        """Decides about what is selected and goes on to what is still to decide."""
        keys = self.selected
        if not keys:
            return
        after = next_open([line for line in self._shown if line.key not in keys[:-1]], keys[-1])
        if self.attempt(decide, self.volume, keys) and after is not None and after not in keys:
            self.select(after)

    def _fill(self, lines):
        """Writes only the cells that changed; the selection stays on the same findings."""
        selected, table = set(self.selected), self.ui.findingsTable
        table.blockSignals(True)
        table.rowCount = len(lines)
        stale = [
            row
            for row, line in enumerate(lines)
            if row >= len(self._shown) or self._shown[row] != line or row in self._unfilled
        ]
        changed = lines != self._shown
        moved = [line.key for line in lines] != [line.key for line in self._shown]
        self._shown = lines
        self._unfilled = dict.fromkeys(stale)
        self._fillSome()
        if moved:
            self._reselect(selected)
        if changed:
            table.resizeColumnsToContents()
            self._showDetails()
        table.blockSignals(False)

    def _fillSome(self):
        """Writes rows for as long as a turn allows; the rest follow in the next ones."""
        end = time.monotonic() + TURN_S
        while self._unfilled and time.monotonic() < end:
            row = next(iter(self._unfilled))
            del self._unfilled[row]
            self._fillRow(row, self._shown[row])
        if self._unfilled and not self._filling:
            self._filling = True
            self.logic.background.later(self._fillOn)

    def _fillOn(self):
        self._filling = False
        self.ui.findingsTable.blockSignals(True)
        self._fillSome()
        self.ui.findingsTable.blockSignals(False)

    def _showDetails(self):
        """Name and comment of the first selected finding."""
        keys = self.selected
        line = next((line for line in self._shown if keys and line.key == keys[0]), None)
        self.ui.commentLineEdit.text = line.comment if line is not None else ""
        self.ui.nameLineEdit.text = line.label if line is not None else ""

    def _fillRow(self, row, line):
        for column, words in enumerate(cells(line)):
            item = qt.QTableWidgetItem(words)
            item.setToolTip(line.comment or line.prompt)
            if line.status == REJECTED or not line.key:
                item.setForeground(qt.QBrush(qt.QColor("gray")))
            if column == 0 and line.key:
                color = qt.QColor.fromRgbF(*label_color(line.label))
                item.setData(qt.Qt.DecorationRole, color)
            self.ui.findingsTable.setItem(row, column, item)

    def _reselect(self, keys):
        table = self.ui.findingsTable
        table.clearSelection()
        mode = table.selectionMode
        table.selectionMode = qt.QAbstractItemView.MultiSelection
        for row, line in enumerate(self._shown):
            if line.key in keys:
                table.selectRow(row)
        table.selectionMode = mode


_TIPS = {
    "acceptButton": _("Right as it is (A)"),
    "editButton": _("Move its box by the handles; again to finish (E)"),
    "rejectButton": _("Wrong (R)"),
    "reopenButton": _("Undecided again"),
    "commentLineEdit": _("About the selected findings. Enter stores it."),
    "nameLineEdit": _("Another name for the selected findings. Enter stores it."),
    "undoButton": _("Take the last decision back (Ctrl+Z)"),
    "redoButton": _("Decide so again (Ctrl+Y)"),
}
