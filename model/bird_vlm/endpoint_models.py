"""Which models a server has: asked once, before the first question.

Finds out whether anybody is there, and whether the key is right. Knows nothing about questions.
"""

from __future__ import annotations

import json
import os
from typing import Any

from bird_vlm.endpoint_errors import Complaint
from bird_vlm.endpoint_settings import EndpointSettings

_PATIENCE_S = 10.0
_REFUSED_KEY = (401, 403)


def served_models(settings: EndpointSettings) -> tuple[str, ...]:
    """The names that the server lists; () where it answers, but does not say.

    A name that is not listed may work all the same: some servers load what they are asked for.
    Raises EndpointDownError where nobody answers or the key is refused.
    """
    import openai

    key = os.environ.get(settings.key_variable, "")
    complaint = Complaint(settings.base_url, settings.model, settings.key_variable, key)
    try:
        with openai.OpenAI(
            api_key=key or "none",
            base_url=settings.base_url,
            timeout=min(settings.timeout_s, _PATIENCE_S),
            max_retries=0,
        ) as client:
            return _names(client.models.with_raw_response.list().text)
    except openai.APIStatusError as error:
        if error.status_code in _REFUSED_KEY:
            raise complaint.of_status(error.status_code, error.response.text, None) from None
        return ()
    except openai.APIConnectionError as error:  # a timeout is one too
        raise complaint.unreachable(error) from error


def _names(text: str) -> tuple[str, ...]:
    try:
        listed: Any = json.loads(text)["data"]
        return tuple(str(model["id"]) for model in listed)
    except (ValueError, KeyError, TypeError):
        return ()
