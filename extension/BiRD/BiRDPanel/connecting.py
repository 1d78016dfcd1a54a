"""The section "Server": which one, whether it answers, whether images may go there; one of our own.

Addresses, consent and the local program are the user's, in the application's settings. Tokens are
stored nowhere: not in settings, and never in a scene.
"""

import os

import qt
import slicer
from slicer.i18n import tr as _

from BiRDLib.errors import BirdError, Cancelled
from BiRDLib.labels import remembered
from BiRDLib.localserver import LocalServer

from .section import Section, enable

SERVERS_SETTING = "BiRD/servers"
CONSENT_SETTING = "BiRD/allowedHosts"
PROGRAM_SETTING = "BiRD/serverProgram"
STUDIES_SETTING = "BiRD/studies"
DEFAULT_SERVER = "127.0.0.1:8000"
_MOST_SERVERS = 10


class Connecting(Section):
    """The server in use. `panel.connected(health)` hears of a new one."""

    def __init__(self, panel):
        super().__init__(panel)
        self.local = LocalServer(
            self.logic.background,
            self.onServerSaid,
            self.onServerReady,
            self.onServerEnded,
            slicer.util.startupEnvironment(),  # Slicer's own Python paths are not for others
        )
        self._asked = ""  # the address that is being connected to
        self.core.allowed_hosts = set(_lines(CONSENT_SETTING))
        self.ui.serverComboBox.addItems(_lines(SERVERS_SETTING) or [DEFAULT_SERVER])
        self.ui.serverComboBox.lineEdit().textEdited.connect(self.onServerEdited)
        self.ui.serverComboBox.lineEdit().returnPressed.connect(self.onConnect)
        self.ui.serverComboBox.activated.connect(self.onServerChosen)
        self.ui.tokenLineEdit.textEdited.connect(self.onServerEdited)
        self.ui.connectButton.clicked.connect(self.onConnect)
        self.ui.testButton.clicked.connect(self.onTest)
        self.ui.allowRemoteCheckBox.toggled.connect(self.onAllowRemote)
        self.ui.startServerButton.clicked.connect(self.onStartServer)
        self.ui.chooseProgramButton.clicked.connect(self.onChooseProgram)

    @property
    def starting(self):
        """Whether a server of our own is on its way up."""
        return self.local.running and not self.local.url

    def close(self):
        """The server of our own ends with the panel, that is with Slicer."""
        self.local.close()

    def update(self):
        ui, busy = self.ui, self.core.busy
        for button in (ui.connectButton, ui.testButton):
            enable(button, not busy, _("Wait for the answer, or cancel it."),
                   _TIPS[button.objectName])  # fmt: skip
        ui.startServerButton.text = _("Stop it") if self.local.running else _("Start one here")
        self._showConsent()

    def onConnect(self, *ignored):
        self._say(_("Connecting ..."))
        self._asked = self.ui.serverComboBox.currentText.strip()
        token = self.ui.tokenLineEdit.text
        self.core.connect(self._asked, token, self.onConnected, self.onFailed)
        self.panel.working()

    def onConnected(self, health):
        if self._asked != self.local.url:  # its port is another one each time
            self._remember(self._asked)
        self._say(_("Connected: {model} on {device}").format(
            model=health.model, device=health.device
        ))  # fmt: skip
        self.panel.connected(health)

    def onFailed(self, error):
        self._say(error.advice)
        self.panel.update()

    def onTest(self, *ignored):
        self.panel.log(_("Testing {server} ...").format(server=self.ui.serverComboBox.currentText))
        address, token = self.ui.serverComboBox.currentText, self.ui.tokenLineEdit.text
        self.core.test(address, token, self.onTested, self.onTestFailed)
        self.panel.working()

    def onTested(self, health, seconds):
        words = _("Works: BiRD {version}, {model} on {device}, answers in {ms:.0f} ms")
        self._say(words.format(
            version=health.version, model=health.model, device=health.device, ms=1000 * seconds
        ))  # fmt: skip
        self.panel.update()

    def onTestFailed(self, error):
        if not isinstance(error, Cancelled):
            self._say(_("Does not work: {advice}").format(advice=error.advice))
        self.panel.update()

    def onServerChosen(self, *ignored):
        self.ui.tokenLineEdit.text = ""  # no server gets the token of another one
        self.onServerEdited()

    def onServerEdited(self, *ignored):
        if self.core.health is not None:
            self.core.disconnect()
            self._say(_("Not connected"))
            self.panel.update()

    def onAllowRemote(self, allowed):
        if self.core.remote_host is None or bool(allowed) == self.core.allow_remote:
            return
        self.core.allow_remote = bool(allowed)
        qt.QSettings().setValue(CONSENT_SETTING, "\n".join(sorted(self.core.allowed_hosts)))
        self.panel.update()

    def onStartServer(self, *ignored):
        if self.local.running:
            self.local.stop()
            return
        settings = qt.QSettings()
        studies = settings.value(STUDIES_SETTING) or os.path.expanduser("~/BiRD studies")
        try:
            self.local.start(settings.value(PROGRAM_SETTING) or "", studies)
        except BirdError as error:
            self._say(error.advice)
            return
        self._say(_("The server loads its model ..."))
        self.panel.working()

    def onChooseProgram(self, *ignored):
        title = _("The server's program: bird, or the Python that has it")
        path = qt.QFileDialog.getOpenFileName(None, title, "")
        if path:
            qt.QSettings().setValue(PROGRAM_SETTING, path)
            self.panel.log(_("The server's program: {path}").format(path=path))

    def onServerSaid(self, line):
        self.panel.log(_("server: {line}").format(line=line))

    def onServerReady(self, url, token):
        self.ui.serverComboBox.setEditText(url)
        self.ui.tokenLineEdit.text = token
        self.onConnect()

    def onServerEnded(self, code):
        self.core.disconnect()
        self._say(_("The server on this computer has ended (code {code}).").format(code=code))
        self.panel.update()

    def _remember(self, address):
        known = remembered(_lines(SERVERS_SETTING), [address])[:_MOST_SERVERS]
        qt.QSettings().setValue(SERVERS_SETTING, "\n".join(known))
        self.ui.serverComboBox.clear()
        self.ui.serverComboBox.addItems(known)

    def _showConsent(self):
        """What is asked for is images to this one computer, and only where it is another one."""
        box, host = self.ui.allowRemoteCheckBox, self.core.remote_host
        box.checked = self.core.allow_remote
        if host is not None:
            box.text = _("Images may go to {host}").format(host=host)
            enable(box, True, "", _CONSENT)
        else:
            box.text = _("Images may leave this computer")
            here = self.core.client is not None
            reason = _("This server runs on this computer: nothing leaves it.")
            enable(box, False, reason if here else _("Connect to a server first."))

    def _say(self, words):
        self.ui.statusLabel.text = words
        self.panel.log(words)


def _lines(setting):
    return [line for line in (qt.QSettings().value(setting) or "").split("\n") if line]


_TIPS = {
    "connectButton": _("Use this server"),
    "testButton": _("Ask the server who it is; what is connected stays so"),
}
_CONSENT = _(
    "Voxels and their geometry are sent there; names and DICOM tags are not. Remembered for this"
    " computer's name until you take it back."
)
