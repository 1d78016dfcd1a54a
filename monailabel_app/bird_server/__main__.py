"""`python -m bird_server`: the arguments of `serve`, and its errors as one line and exit code 2."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bird_server.access.token_files import token_of
from bird_server.access.tokens import Tokens
from bird_server.operations.logs import LOG_FORMATS
from bird_server.serve import Access, ServeError, serve
from bird_server.service import DEFAULT_MODEL
from bird_vlm.backend import CONCURRENCY, TIMEOUT_S, Backend
from bird_vlm.dialects import DIALECTS
from bird_vlm.endpoint_settings import KEY_VARIABLE
from bird_vlm.errors import BadRequestError, BirdError
from bird_vlm.running import PRECISIONS, QUANTIZATIONS, Running

ROLES = (
    "The write token may do everything. The read token (BIRD_READ_TOKEN, or its file) may look "
    "(GET), and POST /bird/v1/refer and /ask, of which nothing is kept. Without tokens only this "
    "machine may ask. /bird/v1/live and /ready need no token."
)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bird_server", description=__doc__)
    parser.add_argument("--studies", required=True, help="folder of images; made where absent")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", default=8000, type=int, help="0 takes a free one (%(default)s)")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="folder or id (%(default)s)")
    parser.add_argument("--device", help="cpu or cuda; cuda where there is one")
    parser.add_argument("--precision", default="auto", help=f"{', '.join(PRECISIONS)}")
    parser.add_argument("--quantize", help=f"weights in {' or '.join(QUANTIZATIONS)}")
    secured = parser.add_argument_group("who may ask", ROLES)
    secured.add_argument("--token", help="BIRD_TOKEN or a file is better: others see options")
    secured.add_argument("--token-file", type=Path, help="one line: the write token")
    secured.add_argument("--read-token-file", type=Path, help="one line: the read token")
    secured.add_argument(
        "--allow-origin", action="append", default=[], help="web pages that may ask; repeatable"
    )
    logged = parser.add_argument_group("the log")
    logged.add_argument("--log-format", default="text", choices=LOG_FORMATS, help="(%(default)s)")
    logged.add_argument(
        "--log-questions", action="store_true", help="also free text, which may name patients"
    )
    elsewhere = parser.add_argument_group("a model on another server")
    elsewhere.add_argument("--backend", help="OpenAI-compatible address, http://HOST:PORT/v1")
    elsewhere.add_argument("--dialect", help=f"how it writes boxes: {', '.join(DIALECTS)}")
    elsewhere.add_argument("--key-variable", default=KEY_VARIABLE, help="it holds the key")
    elsewhere.add_argument("--concurrency", default=CONCURRENCY, type=int, help="(%(default)s)")
    elsewhere.add_argument("--timeout", default=TIMEOUT_S, type=float, help="s (%(default)s)")
    elsewhere.add_argument("--cache", type=Path, help="folder of answers")
    return parser.parse_args(argv)


def access_of(given: dict[str, Any]) -> Access:
    """Who may ask, and what is logged; takes these choices out of `given`. Raises BirdError."""
    write = token_of("--token", given.pop("token"), given.pop("token_file"), "BIRD_TOKEN")
    read = token_of("--read-token", None, given.pop("read_token_file"), "BIRD_READ_TOKEN")
    origins = tuple(given.pop("allow_origin"))
    return Access(Tokens(write, read), origins, given.pop("log_format"), given.pop("log_questions"))


def running_of(given: dict[str, Any]) -> Running:
    """How the model is run; takes these choices out of `given`. Raises BirdError."""
    here = [given.pop(name) for name in ("device", "precision", "quantize")]
    names = ("backend", "dialect", "key_variable", "concurrency", "timeout", "cache")
    url, *elsewhere = [given.pop(name) for name in names]
    if url is None and elsewhere[0] is not None:
        raise BadRequestError("dialect: is for models elsewhere; name their --backend too")
    return Running(*here, Backend(url, *elsewhere) if url else None)


def main(argv: list[str] | None = None) -> int:
    given = vars(arguments(argv))
    try:
        serve(running=running_of(given), access=access_of(given), **given)
    except (ServeError, BirdError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
