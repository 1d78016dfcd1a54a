"""What can go wrong with the review store and its exports; each message says what to do next."""

from bird_vlm.errors import BirdError


class ReviewError(BirdError):
    """The review store cannot do what it was asked."""


class UnknownFindingError(ReviewError):
    """A finding id that is not in the store."""


class UnknownCaseError(ReviewError):
    """A volume digest that nothing was proposed for."""


class StaleRevisionError(ReviewError):
    """Somebody else changed the finding first; `revision` is the one it has now."""

    def __init__(self, message: str, revision: int) -> None:
        super().__init__(message)
        self.revision = revision


class NothingToUndoError(ReviewError):
    """No change of a person is left to take back, or none that was taken back to make again."""

    def __init__(self, message: str, step: str) -> None:
        super().__init__(message)
        self.step = step  # "undone" or "redone"


class StoreBusyError(ReviewError):
    """Another process kept the database locked for longer than the timeout."""

    retry_after_s = 2


class StoreWriteError(ReviewError):
    """The disk is full or refuses to be written; nothing of the change is stored."""


class DamagedStoreError(ReviewError):
    """The database file was found broken while in use."""


class NewerStoreError(ReviewError):
    """The database was written by a newer version, or by another program."""


class ExportError(ReviewError):
    """A case that cannot be written in the wanted format."""
