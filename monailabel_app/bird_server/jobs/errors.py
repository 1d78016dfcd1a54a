"""What can go wrong with jobs; each message says what to do next."""

from __future__ import annotations

from bird_vlm.errors import BirdError


class JobError(BirdError):
    """The queue cannot do what it was asked."""


class UnknownJobError(JobError):
    """A job id that nobody got, or whose time is over."""


class JobNotFinishedError(JobError):
    """The result of a job that is still waiting or at work."""


class JobCancelledError(JobError):
    """The result of a job that somebody cancelled."""


class JobInterruptedError(JobError):
    """The server stopped before the job was done, and it is not taken up again."""


class StoppingError(JobError):
    """A job for a server that is about to stop."""


class WorkerCrashedError(JobError):
    """The worker that had the job broke down; another one took its place."""


class NoWorkerError(JobError):
    """Every worker broke down and none could be started again."""


class JournalError(JobError):
    """A job that cannot be noted down, since the disk is full or refuses to be written."""


class QueueFullError(JobError):
    """More jobs than the server lets wait; `retry_after_s` is when to try again, in seconds."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
