"""How fast jobs go, so that clients who have to come again know when."""

from __future__ import annotations

from datetime import datetime

from bird_server.jobs.job import Job

_FIRST_GUESS_S = 2.0
_WEIGHT = 0.2  # of the latest job
_LONGEST_S = 120


class Pace:
    """A running mean of the seconds that a job takes once it has begun."""

    def __init__(self) -> None:
        self._mean_s = _FIRST_GUESS_S

    def took(self, job: Job) -> None:
        if job.started is not None and job.state == "done":
            begun, over = map(datetime.fromisoformat, (job.started, job.finished))
            self._mean_s += _WEIGHT * ((over - begun).total_seconds() - self._mean_s)

    def retry_after_s(self, unfinished: int) -> int:
        """When a quarter of the unfinished jobs should be done: 1 to 120 s."""
        return round(min(_LONGEST_S, max(1, self._mean_s * unfinished / 4)))
