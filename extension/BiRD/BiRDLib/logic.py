"""From the scene to the server and back: ground, refer, ask. No Qt, no HTTP, no matrices.

Everything here runs on the GUI thread, except the `work` handed to a Job; that touches no node that
is in a scene. One question is in flight at a time (session.py).
"""

from functools import partial

import numpy as np

from . import scene as geometry
from . import views
from .answers import Box
from .client import Client
from .display import Display
from .errors import BirdError, UnusableInput
from .findings import Findings
from .i18n import tr as _
from .question import CURRENT, VISIBLE, summary
from .session import Session, require
from .slicepool import SlicePool

_SENDING_SHARE = 0.2  # of the progress bar; the answering has the rest


class Logic(Session):
    """One scene, at most one server.

    Callbacks come on the GUI thread: `on_done(answer)`, `on_error(BirdError)`,
    `on_progress(fraction, words)`.
    """

    def __init__(self, scene, background, make_client=Client):
        super().__init__(background, make_client)
        self.findings = Findings(scene)
        self.pool = SlicePool(scene)
        self.display = Display(scene, self.pool)
        self._scene = scene

    def close(self):
        """Stops what is in flight without a word and takes the outlines out of the scene."""
        self.abandon()
        self.pool.close()

    def can_ground(self, question):
        """(yes, why not): the text is the button's tooltip."""
        possible, reason = self.can_ask(question.volume)
        if not possible:
            return False, reason
        if not question.labels:
            return False, _("Write what to look for, one name per line.")
        if len(question.labels) > self.health.max_labels:
            return False, _("Ask for at most {} names at once.").format(self.health.max_labels)
        return True, ""

    def can_refer(self, volume, roi):
        """(yes, why not): the text is the button's tooltip."""
        possible, reason = self.can_ask(volume)
        if possible and roi is None:
            return False, _("Draw or choose an ROI around the thing to ask about.")
        return possible, reason

    def ground(self, question, on_done, on_error, on_progress=None):
        """Where are these things? `on_done(answers.Grounding, new ROI nodes)`.

        Boxes show in the slice views as they arrive; they are stored when all have.
        """
        try:
            require(*self.can_ground(question))
            parcel = self.uploads.parcel(question.volume)
            slices, options = self._grounding_options(question)
        except BirdError as error:
            on_error(error)
            return
        stream = _Stream(self.pool, question, on_progress or _ignore)
        client = self.client

        def work(job):
            def ask(volume_id):
                return client.ground(
                    volume_id,
                    question.labels,
                    on_event=lambda event: job.report(stream.show, event),
                    cancelled=job.cancelled,
                    **options,
                )

            return self._deliver(job, client, parcel, ask, stream.on_progress)

        def done(grounding):
            asked = summary(question, slices)
            steps = self._storing(question.volume, grounding, asked)
            self.walk(steps, partial(stored, grounding), failed)

        def stored(grounding, rois):
            stream.close()
            self.display.apply()
            on_done(grounding, rois)

        def failed(error):
            stream.close()
            on_error(error)

        self.start(work, done, failed)

    def refer(self, question, roi, on_done, on_error, on_progress=None, task="roc"):
        """What is in this ROI? `on_done(answers.Referring)`.

        `task` is "roc" for its name, "rc" for a description.
        """
        volume = question.volume
        try:
            require(*self.can_refer(volume, roi))
            box_ras = geometry.boxOfRoi(volume, roi)
            parcel = self.uploads.parcel(volume)
        except BirdError as error:
            on_error(error)
            return
        client, window = self.client, _window(question)

        def work(job):
            def ask(volume_id):
                plane = question.plane
                return client.refer(volume_id, box_ras, task, plane, window, job.cancelled)

            return self._deliver(job, client, parcel, ask, on_progress or _ignore)

        self.start(work, on_done, on_error)

    def can_converse(self, question, words):
        """(yes, why not) for a free question in words."""
        possible, reason = self.can_ask(question.volume)
        if possible and not words.strip():
            return False, _("Write a question.")
        return possible, reason

    def converse(self, question, words, conversation, on_done, on_error, on_progress=None):
        """A free question about the slice in view, going on from a Conversation.

        `on_done(answers.Reply)`, after the turn was added to the conversation.
        """
        volume, plane = question.volume, question.plane
        try:
            require(*self.can_converse(question, words))
            index = views.currentSlice(self._scene, volume, plane)
            parcel = self.uploads.parcel(volume)
        except BirdError as error:
            on_error(error)
            return
        client, window, volume_id = self.client, _window(question), volume.GetID()
        prompt = conversation.prompt(words, volume_id)

        def work(job):
            def ask(stored):
                return client.ask(stored, prompt, plane, index, window, job.cancelled)

            return self._deliver(job, client, parcel, ask, on_progress or _ignore)

        def done(reply):
            conversation.add(words, reply, volume_id)
            on_done(reply)

        self.start(work, done, on_error)

    def follow(self, conversation, anchor):
        """Jumps to what a link of a conversation stands for, and outlines it."""
        turn, part = conversation.link(anchor)
        volume = self._scene.GetNodeByID(turn.volume_id)
        if volume is None:
            raise UnusableInput(_("That volume is no longer in the scene."), _("Load it again."))
        plane, index = turn.reply.plane, turn.reply.slice
        boxes = part.boxes_norm if part is not None else ()
        around = [geometry.cornersOfNormBox(volume, plane, index, box) for box in boxes]
        whole = geometry.cornersOfNormBox(volume, plane, index, (0, 0, 1000, 1000))
        middle_ras = np.mean(around or [whole], axis=(0, 1))
        views.jumpToPosition(self._scene, geometry.toWorld(volume, [middle_ras])[0])
        words = part.words if part is not None else ""
        marked = [Box(words, index, 1.0, tuple(map(tuple, corners))) for corners in around]
        self.pool.preview(volume, plane, marked)

    def _storing(self, volume, grounding, asked):
        """Steps of storing an answer, the last gives its ROIs; the views follow at the end."""
        with self.pool.held():
            for stored in self.findings.adding(volume, grounding, asked):
                yield stored
            for _step in self.pool.refreshing():
                yield stored

    def _grounding_options(self, question):
        """(slice range or None, keyword arguments of Client.ground)."""
        volume, plane = question.volume, question.plane
        options = {
            "plane": plane,
            "window": _window(question),
            "threshold": question.threshold,
        }
        if question.extent == CURRENT:
            index = views.currentSlice(self._scene, volume, plane)
            slices, near = (index, index + 1), None
        else:
            wanted = question.extent == VISIBLE
            slices = views.visibleSlices(self._scene, volume, plane) if wanted else None
            near = self._slice_in_view(volume, plane)
        return slices, dict(options, slices=slices, near=near)

    def _slice_in_view(self, volume, plane):
        """The slice that the user looks at, or None where the views stand elsewhere."""
        try:
            return views.currentSlice(self._scene, volume, plane)
        except UnusableInput:
            return None

    def _deliver(self, job, client, parcel, ask, on_progress):
        def sent(done, total):
            words = _("Sending {:.0f} of {:.0f} MB").format(done / 1e6, total / 1e6)
            job.report(on_progress, _SENDING_SHARE * done / max(total, 1), words)

        return self.uploads.deliver(client, parcel, ask, sent, job.cancelled)


class _Stream:
    """Shows the boxes of one question as they arrive."""

    def __init__(self, pool, question, on_progress):
        self.on_progress = on_progress
        self._pool = pool
        self._question = question
        self._boxes = []

    def show(self, event):
        self._boxes.extend(event.boxes)
        if self._question.volume.GetScene() is not None:
            self._pool.preview(self._question.volume, self._question.plane, self._boxes)
        fraction = _SENDING_SHARE + (1 - _SENDING_SHARE) * event.done / max(event.total, 1)
        self.on_progress(fraction, _("{} of {} answered").format(event.done, event.total))

    def close(self):
        self._pool.endPreview()


def _window(question):
    return geometry.shownWindow(question.volume) if question.send_window else None


def _ignore(fraction, words):
    """For callers that show no progress."""
