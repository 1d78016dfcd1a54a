"""Decisions on their way to the server's review store.

They are kept in the scene and marked as untold until the store has them, so a lost connection or a
closed Slicer loses nothing. Runs on the GUI thread; what it sends, it sends on a worker
(telling.py).
"""

import uuid

from .adopting import CASE, take_news
from .errors import BirdError, NotFound
from .findings import ID, Findings
from .i18n import tr as _
from .job import Job
from .notes import notes, told_notes
from .places import place_of
from .reviewclient import ReviewClient
from .statuses import DISPUTED, PROPOSED, TOLD, UNTOLD
from .telling import Wanted, same_decision, tell

_NAMESPACE = uuid.UUID("5c1d66c0-6a1b-4f9e-9a5c-2f8d0b1c7e44")


class Outbox:
    """Sends one volume's decisions at a time; `on_news(words)` and `on_change()` tell the panel."""

    def __init__(self, scene, session, on_news, on_change):
        self._findings = Findings(scene)
        self._session = session
        self._on_news = on_news
        self._on_change = on_change
        self._job = None
        self._again = []  # volumes that were asked for meanwhile

    @property
    def busy(self):
        return self._job is not None

    def abandon(self):
        """For a scene that closes; what is untold stays marked in it."""
        if self._job is not None:
            self._job.abandon()
            self._job = None
        self._again.clear()

    def send_all(self):
        """Sends whatever is untold, of every volume of the scene."""
        for table in self._findings.tables():
            self.send(self._findings.volume(table))

    def send(self, volume):
        """Sends what is untold about a volume, if a server is there; else it waits in the scene."""
        table = self._findings.table(volume) if volume is not None else None
        if table is None or not self._session.can_reach()[0]:
            return
        if self._job is not None:
            self._again.append(volume)
            return
        wanted, remarks = self._untold(table), [n for n in notes(table) if not n.told]
        if wanted or remarks:
            self._send(volume, table, wanted, remarks)

    def waiting(self):
        """How many decisions and remarks the store has not heard of."""
        tables = self._findings.tables()
        decisions = sum(line.told == UNTOLD for t in tables for line in self._findings.lines(t))
        return decisions + sum(not note.told for t in tables for note in notes(t))

    def _send(self, volume, table, wanted, remarks):
        case = table.GetAttribute(CASE)
        possible, reason = self._session.can_send(volume) if not case else (True, "")
        if not possible:
            self._on_news(reason)
            return
        try:
            parcel = None if case else self._session.uploads.parcel(volume)
        except BirdError as error:
            self._on_news(error.advice)
            return
        client, uploads = self._session.client, self._session.uploads

        def work(job):
            review = ReviewClient(client)

            def ask(case):
                return _tell_all(review, case, wanted, remarks)

            if parcel is None:
                return ask(case)
            return uploads.deliver(client, parcel, ask, lambda *sent: None, job.cancelled)

        def done(answer):
            self._heard(table, wanted, remarks, *answer)
            self._next()

        def failed(error):
            self._again.clear()
            self._on_news(_kept(error))

        self._job = Job(self._session.background, work, done, failed, self._over)
        self._job.start()

    def _over(self):
        self._job = None

    def _next(self):
        while self._again and self._job is None:
            volume = self._again.pop(0)
            if volume.GetScene() is not None:
                self.send(volume)

    def _untold(self, table):
        rows = {row.finding: row for row in reversed(self._findings.rows(table))}
        return [self._wanted(table, row) for key, row in rows.items() if row.told == UNTOLD]

    def _wanted(self, table, row):
        return Wanted(
            key=row.finding,
            server_id=row.server_id,
            revision=row.revision,
            new_id=uuid.uuid5(_NAMESPACE, table.GetAttribute(ID) + row.finding).hex,
            status=row.status,
            label=row.label,
            prompt=row.asked or row.label,
            comment=row.comment,
            plane=row.plane,
            proposed=place_of(row.place) if row.model else None,
            place=self._findings.place(table, row.finding),
            reviewer=row.reviewer,
        )

    def _heard(self, table, wanted, remarks, told, digest):
        if table.GetScene() is None:
            return
        table.SetAttribute(CASE, digest)
        told_notes(table, remarks)
        sent = {each.key: each for each in wanted}
        for each in told:
            self._take(table, sent[each.key], each)
        self._on_change()

    def _take(self, table, sent, told):
        """Writes what the store said about one finding; a decision made meanwhile stays untold."""
        now = self._wanted(table, self._findings.row(table, sent.key))
        changed = not same_decision(now, sent)
        values = {"told": UNTOLD if changed else DISPUTED if told.dispute else TOLD}
        if told.finding is not None:
            values.update(server_id=told.finding.finding_id, revision=told.finding.revision)
        self._findings.change(table, sent.key, **values)
        if told.dispute:
            self._on_news(_("{} Decide again to overrule it.").format(told.dispute))
        elif told.finding is not None and not changed and sent.status == PROPOSED:
            take_news(self._findings, table, sent.key, told.finding)


def _tell_all(review, case, wanted, remarks):
    told = tell(review, case, wanted)
    for note in remarks:
        review.note(case, note.reviewer, note.text)
    if all(each.finding is None for each in told) and not remarks:
        return told, ""
    return told, review.case(case).summary.volume_digest


def _kept(error):
    if isinstance(error, NotFound) and not error.code:
        return _("This server keeps no reviews; your decisions are kept in the scene.")
    return _("{} Your decisions are kept in the scene.").format(error)
