"""What went wrong with the hub, as one line that says what to do next.

Knows the errors of huggingface_hub; knows nothing about what was being fetched but its id.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from bird_vlm.errors import CheckpointError

_LOGIN = "log in with `hf auth login` (or set HF_TOKEN to a token that may read it)"


@contextmanager
def explained(model_id: str, subfolder: str = "") -> Iterator[None]:
    """Turn what huggingface_hub raises into CheckpointError."""
    try:
        yield
    except CheckpointError:
        raise
    except (OSError, HTTPError, ValueError) as error:
        raise CheckpointError(f"model: {_reason(error, model_id, subfolder)}") from error


def elsewhere(model_id: str, subfolder: str = "") -> str:
    """How to bring a model to a machine without a network."""
    only = f' --include "{subfolder}/*"' if subfolder else ""
    folder = "DIR/" + subfolder if subfolder else "DIR"
    return (
        f"where there is a network, run `hf download {model_id}{only} --local-dir DIR`, copy DIR "
        f"here and say `--model {folder}`; or point HF_HOME at a copy of that machine's cache"
    )


def _reason(error: Exception, model_id: str, subfolder: str) -> str:
    page = f"{constants.ENDPOINT}/{model_id}"
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, HfHubHTTPError):
        error = error.__cause__  # the hub did answer
    if isinstance(error, GatedRepoError):
        return f"{model_id} is gated: accept its licence at {page}, then {_LOGIN}"
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"the hub has no model {model_id!r} for you: check the spelling at {page}; "
            f"if it is private, {_LOGIN}; a folder of this machine is given by its path"
        )
    if isinstance(error, HfHubHTTPError):
        return _refusal(error.response.status_code, model_id, page)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk became full while {model_id} was being fetched; {more_room()}"
    if isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled, HTTPError)):
        return (
            f"{model_id} is not on this machine and the hub ({constants.ENDPOINT}) cannot be "
            f"reached, or the connection was lost; try again, whole files are kept; "
            f"or {elsewhere(model_id, subfolder)}"
        )
    return (
        f"{model_id} could not be fetched ({_first_line(error)}); try again, whole files are kept"
    )


def more_room() -> str:
    """What to do where the cache's disk is too small."""
    return (
        f"free some in {constants.HF_HUB_CACHE} (`hf cache prune`), or set HF_HOME to a folder "
        "on a larger disk"
    )


def _refusal(status: int, model_id: str, page: str) -> str:
    if status in (401, 403):
        return f"the hub refuses {model_id} to you ({status}): see {page}, and {_LOGIN}"
    return f"the hub answered {status} for {model_id}; try again later, whole files are kept"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
