"""The tab "Cases": the server's work list, remarks and reports."""

import qt
import slicer
from slicer.i18n import tr as _

from BiRDLib.caseroom import CaseRoom
from BiRDLib.notes import notes
from BiRDLib.reviewclient import EXPORTS, STRATEGIES
from BiRDLib.worklist import COLUMNS, FILTERS, CaseFilter, case_cells, choice_words

from .section import Section, enable
from .using import chosen_file

_SUFFIXES = {"html": ".html", "csv": ".csv", "markups": ".mrk.json", "coco": ".json",
             "dicom-sr": ".dcm"}  # fmt: skip
_HEADS = [_("Case"), _("To review"), _("Reviewed"), _("Missing")]  # COLUMNS
_FILTERS = [_("all"), _("unreviewed"), _("expected organ missing")]  # FILTERS


class Casework(Section):
    """Lists, opens and closes off cases."""

    def __init__(self, panel, reviewing):
        super().__init__(panel)
        self._review = reviewing.review
        self.room = CaseRoom(panel.scene, self.core, self.core.display, slicer.util.loadVolume)
        ui = self.ui
        ui.casesTable.columnCount = len(COLUMNS)
        ui.casesTable.setHorizontalHeaderLabels(_HEADS)
        ui.casesTable.cellDoubleClicked.connect(self.onOpen)
        ui.casesTable.itemSelectionChanged.connect(self.update)
        ui.caseFilterComboBox.addItems(_FILTERS)
        ui.caseFilterComboBox.activated.connect(self.onRefresh)
        ui.caseNameLineEdit.returnPressed.connect(self.onRefresh)
        ui.strategyComboBox.addItems(list(STRATEGIES))
        ui.refreshCasesButton.clicked.connect(self.onRefresh)
        ui.openCaseButton.clicked.connect(self.onOpen)
        ui.previousCaseButton.clicked.connect(lambda *ignored: self.step(-1))
        ui.nextCaseButton.clicked.connect(lambda *ignored: self.step(1))
        ui.chooseCaseButton.clicked.connect(self.onChoose)
        ui.fetchReviewButton.clicked.connect(self.onFetch)
        ui.noteLineEdit.returnPressed.connect(self.onNote)
        ui.exportComboBox.addItems(list(EXPORTS.values()))
        ui.exportButton.clicked.connect(self.onExport)

    def update(self):
        ui = self.ui
        possible, reason = self.core.can_reach()
        if possible and self.core.busy:
            possible, reason = False, _("Wait for the answer, or cancel it.")
        for button in (
            ui.refreshCasesButton,
            ui.previousCaseButton,
            ui.nextCaseButton,
            ui.chooseCaseButton,
            ui.exportButton,
        ):
            enable(button, possible, reason, _TIPS.get(button.objectName, ""))
        chosen = ui.casesTable.currentRow() >= 0
        enable(ui.openCaseButton, possible and chosen, reason or _("Select a case in the list."),
               _TIPS["openCaseButton"])  # fmt: skip
        enable(ui.fetchReviewButton, *self.core.can_ask(self.volume), _TIPS["fetchReviewButton"])
        table = self.core.findings.table(self.volume) if self.volume is not None else None
        remarks = notes(table) if table is not None else []
        ui.notesLabel.text = "\n".join("{}: {}".format(note.reviewer, note.text)
                                       for note in remarks)  # fmt: skip
        enable(ui.noteLineEdit, self.volume is not None, _("No volume is chosen."),
               _TIPS["noteLineEdit"])  # fmt: skip

    def onRefresh(self, *ignored):
        wanted = CaseFilter(
            FILTERS[self.ui.caseFilterComboBox.currentIndex], self.ui.caseNameLineEdit.text
        )
        self.room.refresh(wanted, self.onListed, self.failed)
        self.panel.working()

    def onListed(self, worklist):
        table = self.ui.casesTable
        table.rowCount = len(worklist.cases)
        for row, case in enumerate(worklist.cases):
            for column, words in enumerate(case_cells(case)):
                table.setItem(row, column, qt.QTableWidgetItem(words))
        table.resizeColumnsToContents()
        self.panel.progress(1.0, _("{n} of {total} cases").format(
            n=len(worklist.cases), total=worklist.total
        ))  # fmt: skip
        self.panel.update()

    def onOpen(self, *ignored):
        row = self.ui.casesTable.currentRow()
        if 0 <= row < len(self.room.list.cases):
            self._open(self.room.list.cases[row])

    def step(self, by):
        case = self.room.list.neighbour(by)
        if case is None:
            self.panel.log(_("The list has no more cases."))
        else:
            self._open(case)

    def onChoose(self, *ignored):
        self.room.choose(self.ui.strategyComboBox.currentText, self.onChosen, self.failed)
        self.panel.working()

    def onChosen(self, choice):
        self.ui.reasonLabel.text = choice_words(choice)
        if choice.case is not None:
            self._open(choice.case)

    def onFetch(self, *ignored):
        self.room.fetch(self.volume, self.onOpened, self.failed)
        self.panel.working()

    def onOpened(self, volume):
        self.parameters.volume = volume
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
        self.panel.progress(1.0, _("{name} is open").format(name=volume.GetName()))
        self.panel.update()

    def onNote(self):
        if self.attempt(self._review.note, self.volume, self.ui.noteLineEdit.text):
            self.ui.noteLineEdit.text = ""
        self.panel.update()

    def onExport(self, *ignored):
        kind = list(EXPORTS)[self.ui.exportComboBox.currentIndex]
        name = "review{}".format(_SUFFIXES[kind])
        path = chosen_file(_("Save report"), name, "*{}".format(_SUFFIXES[kind]))
        if path:
            self.room.export(self.volume, kind, path, self.onExported, self.failed)
            self.panel.working()

    def onExported(self, path):
        self.panel.log(_("Written: {path}").format(path=path))
        self.panel.progress(1.0, _("Done"))
        self.panel.update()

    def _open(self, case):
        self._review.finish()
        self.room.open(case, self.onOpened, self.failed)
        self.panel.working()


_TIPS = {
    "previousCaseButton": _("The case above in the list"),
    "nextCaseButton": _("The case below in the list"),
    "openCaseButton": _("Bring the selected case into the scene"),
    "fetchReviewButton": _("What the server's store knows about the chosen volume"),
    "noteLineEdit": _("A remark about the whole volume. Enter stores it."),
    "refreshCasesButton": _("Read the list from the server"),
    "chooseCaseButton": _("The case from which the model would learn most"),
    "exportButton": _("The server's report of the chosen volume"),
}
