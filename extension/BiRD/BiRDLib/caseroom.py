"""Cases of the server's review store in the scene: list, choose, open, report.

Runs on the GUI thread; what it asks the server, it asks on a worker. Knows nothing about Qt or
HTTP, nor how this application loads a volume: that is handed in.
"""

import tempfile

from .adopting import CASE, adopt
from .errors import BirdError, UnusableInput
from .findings import Findings
from .i18n import tr as _
from .reviewclient import ReviewClient
from .session import require
from .worklist import WorkList


class CaseRoom:
    """`load_volume(path)` returns a new volume node; callbacks come on the GUI thread."""

    def __init__(self, scene, session, display, load_volume):
        self.list = WorkList()
        self._scene = scene
        self._session = session
        self._display = display
        self._load_volume = load_volume
        self._findings = Findings(scene)

    def refresh(self, wanted, on_done, on_error):
        """Reads the work list through a CaseFilter; `on_done(WorkList)`."""
        client = ReviewClient(self._session.client)

        def done(answer):
            self.list.cases, self.list.total = answer
            on_done(self.list)

        self._start(lambda job: client.cases(**wanted.query()), done, on_error)

    def choose(self, strategy, on_done, on_error):
        """The most useful case to review next; `on_done(cases.NextCase)`."""
        client, here = ReviewClient(self._session.client), self.list.open
        self._start(lambda job: client.next_case(strategy, here), on_done, on_error)

    def open(self, summary, on_done, on_error):
        """Brings a case into the scene; `on_done(volume node)`.

        A volume of this case that is here already is taken; else the server sends it, where it
        lies among its studies.
        """
        volume = self.volumeOf(summary.volume_digest)
        if volume is None and summary.image is None:
            on_error(
                UnusableInput(
                    _("{} does not lie among the server's studies.").format(summary.name),
                    _("Load the scan yourself and choose 'Get review'."),
                )
            )
            return
        client = ReviewClient(self._session.client)

        def work(job):
            case = client.case(summary.volume_digest)
            if volume is not None:
                return case, None, None
            folder = tempfile.TemporaryDirectory(prefix="BiRD-")
            return case, folder, client.image(summary.image, folder.name, job.cancelled)

        def done(answer):
            case, folder, path = answer
            node = volume if folder is None else self._loaded(folder, path, summary.name)
            self._adopted(node, case)
            on_done(node)

        self._start(work, done, on_error)

    def fetch(self, volume, on_done, on_error):
        """Brings what the server knows of a volume that is here into the scene."""
        try:
            require(*self._session.can_ask(volume))
            parcel = self._session.uploads.parcel(volume)
        except BirdError as error:
            on_error(error)
            return
        client, uploads = self._session.client, self._session.uploads

        def work(job):
            ask = ReviewClient(client).case
            return uploads.deliver(client, parcel, ask, lambda *sent: None, job.cancelled)

        def done(case):
            self._adopted(volume, case)
            on_done(volume)

        self._start(work, done, on_error)

    def export(self, volume, kind, path, on_done, on_error):
        """Writes the server's report of a volume's case to `path`; `on_done(path)`."""
        table = self._findings.table(volume) if volume is not None else None
        case = table.GetAttribute(CASE) if table is not None else None
        if not case:
            on_error(
                UnusableInput(_("The server has no review of this volume."), _("Accept a finding."))
            )
            return
        client = ReviewClient(self._session.client)
        self._start(lambda job: client.export(case, kind, path, job.cancelled), on_done, on_error)

    def volumeOf(self, digest):
        """The volume of the scene that the store calls `digest`, or None."""
        for table in self._findings.tables():
            if table.GetAttribute(CASE) == digest:
                return self._findings.volume(table)
        return None

    def _loaded(self, folder, path, name):
        with folder:
            node = self._load_volume(str(path))
        if node is None:
            raise UnusableInput(_("{} could not be loaded.").format(name), _("See the log."))
        node.SetName(name)
        return node

    def _adopted(self, volume, case):
        adopt(self._findings, volume, case)
        self.list.open = case.summary.volume_digest
        self._display.apply()

    def _start(self, work, done, failed):
        possible, reason = self._session.can_reach()
        if not possible:
            failed(UnusableInput(reason, ""))
            return
        self._session.start(work, done, failed)
