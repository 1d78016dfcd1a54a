"""Where a language model elsewhere is, and how hard it may be asked. Knows nothing about HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from bird_vlm.errors import BirdError

KEY_VARIABLE = "OPENAI_API_KEY"


@dataclass(frozen=True)
class EndpointSettings:
    """Raises BirdError for an address or a limit that cannot work."""

    base_url: str  # ends in /v1 on most servers
    model: str
    key_variable: str = KEY_VARIABLE  # environment variable; need not be set for local servers
    timeout_s: float = 120.0  # for one whole answer
    attempts: int = 5  # per question, the first one included
    total_s: float = 900.0  # per question: no pause for another try ends later than this
    concurrency: int = 8  # questions under way at a time
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None  # questions and answers together

    def __post_init__(self) -> None:
        check_address(self.base_url, self.key_variable)
        if not self.model:
            raise BirdError("model: name one; `curl URL/models` lists what a server has")
        for name in ("timeout_s", "attempts", "total_s", "concurrency"):
            if getattr(self, name) <= 0:
                raise BirdError(f"{name}: must be above 0, got {getattr(self, name)}")
        for name in ("requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise BirdError(f"{name}: must be above 0, got {value}")


def check_address(base_url: str, key_variable: str) -> None:
    """Raises BirdError, without a password in it, where `base_url` is no address to ask."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BirdError(f"endpoint: {base_url!r} is not an http or https address")
    if parts.username or parts.password or parts.query:
        raise BirdError(
            f"endpoint: the address of {parts.hostname} carries a name, password or query; "
            f"put the key into the environment variable {key_variable} instead"
        )
