"""From the scene to the server and back: connect, ground, refer. No Qt, no HTTP, no matrices.

Everything here runs on the GUI thread, except the `work` handed to a Job; that touches no node that
is in a scene. One question is in flight at a time.
"""

from . import scene as geometry
from .client import Client
from .errors import BirdError, UnusableInput
from .findings import Findings
from .job import Job
from .question import summary
from .slicepool import SlicePool
from .uploads import Uploads

_SENDING_SHARE = 0.2  # of the progress bar; the answering has the rest


class Logic:
    """One scene, at most one server.

    `background` has `start(work)` and `post(callback)`; `make_client(url, token)` returns a
    client.Client. Callbacks come on the GUI thread: `on_done(answer)`, `on_error(BirdError)`,
    `on_progress(fraction, words)`.
    """

    def __init__(self, scene, background, make_client=Client):
        self.findings = Findings(scene)
        self.pool = SlicePool(scene)
        self.health = None  # answers.Health of the connected server
        self.allow_remote = False  # the user agreed that images leave this computer
        self._scene = scene
        self._background = background
        self._make_client = make_client
        self._uploads = Uploads()
        self._client = None
        self._job = None

    @property
    def busy(self):
        return self._job is not None

    def close(self):
        """Stops what is in flight without a word and takes the outlines out of the scene."""
        self.abandon()
        self.pool.close()

    def cancel(self):
        """Stops the question in flight; its `on_error` gets a Cancelled."""
        if self._job is not None:
            self._job.cancel()

    def abandon(self):
        """Stops the question in flight without a word, for a scene that closes."""
        if self._job is not None:
            self._job.abandon()
            self._job = None

    def disconnect(self):
        self.abandon()
        self.health = self._client = None

    def connect(self, url, token, on_done, on_error):
        """Says hello to a server; `on_done(answers.Health)`."""
        self.disconnect()
        try:
            client = self._make_client(url, token)
        except BirdError as error:
            on_error(error)
            return

        def connected(health):
            self.health, self._client = health, client
            on_done(health)

        self._start(lambda job: client.health(), connected, on_error)

    def can_ground(self, question):
        """(yes, why not): the text is the button's tooltip."""
        possible, reason = self._can_ask(question.volume)
        if not possible:
            return False, reason
        if not question.labels:
            return False, "Write what to look for, one name per line."
        if len(question.labels) > self.health.max_labels:
            return False, "Ask for at most {} names at once.".format(self.health.max_labels)
        return True, ""

    def can_refer(self, volume, roi):
        """(yes, why not): the text is the button's tooltip."""
        possible, reason = self._can_ask(volume)
        if possible and roi is None:
            return False, "Draw or choose an ROI around the thing to ask about."
        return possible, reason

    def ground(self, question, on_done, on_error, on_progress=None):
        """Where are these things? `on_done(answers.Grounding, new ROI nodes)`.

        Boxes show in the slice views as they arrive; they are stored when all have.
        """
        try:
            _require(*self.can_ground(question))
            parcel = self._uploads.parcel(question.volume)
            index, options = self._grounding_options(question)
        except BirdError as error:
            on_error(error)
            return
        stream = _Stream(self.pool, question, on_progress or _ignore)
        client = self._client

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
            stream.close()
            asked = summary(question, index)
            on_done(grounding, self.findings.add(question.volume, grounding, asked))

        def failed(error):
            stream.close()
            on_error(error)

        self._start(work, done, failed)

    def refer(self, question, roi, on_done, on_error, on_progress=None):
        """What is in this ROI? `on_done(answers.Referring)`."""
        volume = question.volume
        try:
            _require(*self.can_refer(volume, roi))
            box_ras = geometry.boxOfRoi(volume, roi)
            parcel = self._uploads.parcel(volume)
        except BirdError as error:
            on_error(error)
            return
        client, window = self._client, _window(question)

        def work(job):
            def ask(volume_id):
                return client.refer(
                    volume_id,
                    box_ras,
                    plane=question.plane,
                    window=window,
                    cancelled=job.cancelled,
                )

            return self._deliver(job, client, parcel, ask, on_progress or _ignore)

        self._start(work, on_done, on_error)

    def _can_ask(self, volume):
        if self._client is None or self.health is None:
            return False, "Connect to a server first."
        if self._job is not None:
            return False, "Wait for the answer, or cancel it."
        address = self._client.address
        if not address.is_loopback and not self.allow_remote:
            return False, "{} is another computer: allow images to leave this one.".format(
                address.host
            )
        try:
            geometry.requireUsableVolume(volume)
        except UnusableInput as error:
            return False, error.advice
        return True, ""

    def _grounding_options(self, question):
        """(slice index or None, keyword arguments of Client.ground)."""
        volume, plane = question.volume, question.plane
        options = {
            "plane": plane,
            "window": _window(question),
            "threshold": question.threshold,
        }
        if not question.whole_volume:
            index = geometry.currentSlice(self._scene, volume, plane)
            return index, dict(options, slices=(index, index + 1))
        return None, dict(options, near=self._slice_in_view(volume, plane))

    def _slice_in_view(self, volume, plane):
        """The slice that the user looks at, or None where the views stand elsewhere."""
        try:
            return geometry.currentSlice(self._scene, volume, plane)
        except UnusableInput:
            return None

    def _deliver(self, job, client, parcel, ask, on_progress):
        def sent(done, total):
            words = "Sending {:.0f} of {:.0f} MB".format(done / 1e6, total / 1e6)
            job.report(on_progress, _SENDING_SHARE * done / max(total, 1), words)

        return self._uploads.deliver(client, parcel, ask, sent, job.cancelled)

    def _start(self, work, done, failed):
        if self._job is not None:
            failed(BirdError("Wait for the answer, or cancel it."))
            return
        self._job = Job(self._background, work, done, failed, self._job_is_over)
        self._job.start()

    def _job_is_over(self):
        self._job = None


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
        self.on_progress(fraction, "{} of {} answered".format(event.done, event.total))

    def close(self):
        self._pool.endPreview()


def _window(question):
    return geometry.shownWindow(question.volume) if question.send_window else None


def _require(possible, reason):
    if not possible:
        raise UnusableInput(reason, "")


def _ignore(fraction, words):
    """For callers that show no progress."""
