"""The errors that a user can cause, each with one line that says what to do next."""


class BirdError(ValueError):
    """A request, file or checkpoint that BiRD cannot work with; the message is for the user."""


class BadVolumeError(BirdError):
    """A file that is no usable volume or image."""


class BadRequestError(BirdError):
    """A question whose arguments do not fit the volume or the model."""


class UnknownLabelError(BadRequestError):
    """A label that the model was not trained on."""


class CheckpointError(BirdError):
    """A model folder that cannot be loaded or converted."""


class GrammarError(BirdError):
    """An answer of the model that is not in the language of boxes; the text is in the message."""
