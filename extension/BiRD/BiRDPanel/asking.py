"""The tab "Ask": where is it, what is this, and questions about the image."""

import qt
from slicer.i18n import tr as _

from BiRDLib import scene as geometry
from BiRDLib import views
from BiRDLib.conversation import Conversation
from BiRDLib.errors import UnusableInput
from BiRDLib.labels import completions, known_labels, presets, remembered, with_labels
from BiRDLib.question import CURRENT, parse_labels, question_of

from .section import Section, enable

HISTORY_SETTING = "BiRD/history"


class Asking(Section):
    """Asks, and shows what came of it."""

    def __init__(self, panel):
        super().__init__(panel)
        self.conversation = Conversation()
        self._known = ()
        self._typing = False  # the text changes by our own hand
        self._names = qt.QStringListModel()
        self._completer = qt.QCompleter()
        self._completer.setModel(self._names)
        self._completer.completionMode = qt.QCompleter.UnfilteredPopupCompletion
        self._completer.setWidget(self.ui.labelsTextEdit)
        self._completer.activated.connect(self.onCompleted)
        self._shortcut = qt.QShortcut(qt.QKeySequence("Ctrl+Return"), self.ui.askTab)
        self._shortcut.context = qt.Qt.WidgetWithChildrenShortcut
        self._shortcut.activated.connect(self.onGround)
        self.ui.labelsTextEdit.textChanged.connect(self.onTyped)
        self.ui.presetComboBox.activated.connect(self.onPreset)
        self.ui.groundButton.clicked.connect(self.onGround)
        self.ui.referButton.clicked.connect(lambda *ignored: self.refer("roc"))
        self.ui.describeButton.clicked.connect(lambda *ignored: self.refer("rc"))
        self.ui.questionLineEdit.textChanged.connect(lambda *ignored: self.update())
        self.ui.questionLineEdit.returnPressed.connect(self.onAsk)
        self.ui.askButton.clicked.connect(self.onAsk)
        self.ui.newConversationButton.clicked.connect(self.onNewConversation)
        self.ui.conversationBrowser.anchorClicked.connect(self.onLink)
        self._offer()

    def connected(self, health):
        """The server is known: so are the names it understands."""
        self._known = known_labels(health.labels)
        names = ", ".join(self._known) or _("any words")
        self.ui.labelsTextEdit.toolTip = _("One name per line. The model knows: {names}").format(
            names=names
        )
        self._offer()

    def update(self):
        if self.parameters is None:
            return
        question = question_of(self.parameters)
        volume, roi = question.volume, self.parameters.roi
        enable(self.ui.groundButton, *self.core.can_ground(question), _("Ctrl+Enter"))
        enable(self.ui.referButton, *self.core.can_refer(volume, roi), _("Its name"))
        enable(self.ui.describeButton, *self.core.can_refer(volume, roi), _("In a sentence"))
        words = self.ui.questionLineEdit.text
        enable(self.ui.askButton, *self.core.can_converse(question, words), _("Enter"))
        talked = bool(self.conversation.turns)
        enable(self.ui.newConversationButton, talked, _("Nothing was said yet."),
               _("Forget what was said."))  # fmt: skip

    def onGround(self, *ignored):
        if self.parameters is None or not self.ui.groundButton.enabled:
            return
        question = question_of(self.parameters)
        self._logWindow(question)
        self._remember(question.labels)
        self.core.ground(question, self.onGrounded, self.failed, self.panel.progress)
        self.panel.working()

    def onGrounded(self, grounding, rois):
        found = ", ".join(roi.GetName() for roi in rois) or _("nothing")
        self.panel.log(_("Found: {found}.").format(found=found))
        if grounding.absent:
            absent = ", ".join(grounding.absent)
            self.panel.log(_("Not found: {absent}.").format(absent=absent))
        self.panel.progress(1.0, _("Done"))
        if rois and self.parameters is not None and self.parameters.extent != CURRENT:
            views.jumpTo(self.panel.scene, rois[0])
        self.panel.update()

    def refer(self, task):
        question = question_of(self.parameters)
        self.ui.answerLabel.text = ""
        self.core.refer(
            question, self.parameters.roi, self.onReferred, self.failed, self.panel.progress, task
        )
        self.panel.working()

    def onReferred(self, answer):
        words = _("{text} ({score:.0%}, {plane} slice {slice})").format(
            text=answer.text, score=answer.score, plane=answer.plane, slice=answer.slice
        )
        self.ui.answerLabel.text = words
        self.panel.log(words)
        self.panel.progress(1.0, _("Done"))
        self.panel.update()

    def onAsk(self, *ignored):
        if self.parameters is None or not self.ui.askButton.enabled:
            return
        question, words = question_of(self.parameters), self.ui.questionLineEdit.text
        self.core.converse(
            question, words, self.conversation, self.onReplied, self.failed, self.panel.progress
        )
        self.panel.working()

    def onReplied(self, reply):
        self.ui.questionLineEdit.text = ""
        self._showConversation()
        self.panel.progress(1.0, _("Done"))
        self.panel.update()

    def onLink(self, url):
        try:
            self.core.follow(self.conversation, url.toString())
        except KeyError:
            self.panel.log(_("That answer is no longer there."))
        except UnusableInput as error:
            self.panel.log(error.advice)

    def onNewConversation(self, *ignored):
        self.conversation.clear()
        self.core.pool.endPreview()
        self._showConversation()
        self.update()

    def onPreset(self, *ignored):
        labels = self._offers().get(self.ui.presetComboBox.currentText, ())
        self.ui.presetComboBox.currentIndex = 0
        self._write(with_labels(self.ui.labelsTextEdit.plainText, labels))

    def onTyped(self, *ignored):
        if self._typing:
            return
        line = self.ui.labelsTextEdit.textCursor().block().text()
        taken = parse_labels(self.ui.labelsTextEdit.plainText)
        offered = completions(line, self._known or tuple(self._history()), taken)
        self._names.setStringList(list(offered))
        if offered and self.ui.labelsTextEdit.focus:
            self._completer.complete()
        else:
            self._completer.popup().hide()

    def onCompleted(self, *ignored):
        cursor = self.ui.labelsTextEdit.textCursor()
        cursor.movePosition(qt.QTextCursor.StartOfBlock)
        cursor.movePosition(qt.QTextCursor.EndOfBlock, qt.QTextCursor.KeepAnchor)
        self._typing = True
        cursor.insertText(self._completer.currentCompletion())
        self._typing = False

    def _showConversation(self):
        self.ui.conversationBrowser.html = self.conversation.as_html()
        bar = self.ui.conversationBrowser.verticalScrollBar()
        bar.value = bar.maximum

    def _write(self, text):
        self._typing = True
        self.ui.labelsTextEdit.plainText = text
        self._typing = False

    def _offers(self):
        """Words of the list of presets -> names."""
        offers = dict(presets(self._known))
        offers.update((name, (name,)) for name in self._history())
        return offers

    def _offer(self):
        self.ui.presetComboBox.clear()
        self.ui.presetComboBox.addItems([_("Add a region or an earlier name ..."), *self._offers()])

    def _history(self):
        return [name for name in (qt.QSettings().value(HISTORY_SETTING) or "").split("\n") if name]

    def _remember(self, labels):
        qt.QSettings().setValue(HISTORY_SETTING, "\n".join(remembered(self._history(), labels)))
        self._offer()

    def _logWindow(self, question):
        window = geometry.shownWindow(question.volume) if question.send_window else None
        words = _("L {:.6g} W {:.6g}").format(*window) if window else _("the server's choice")
        asked = ", ".join(question.labels)
        self.panel.log(_("Asked: {asked} (window: {words})").format(asked=asked, words=words))
