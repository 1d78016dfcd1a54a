"""`python -m bird_server`: the arguments of `serve`, and its errors as one line and exit code 2."""

from __future__ import annotations

import argparse
import sys

from bird_server.serve import ServeError, serve
from bird_server.service import DEFAULT_MODEL
from bird_vlm.errors import BirdError
from bird_vlm.running import PRECISIONS, QUANTIZATIONS, Running


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bird_server", description=__doc__)
    parser.add_argument("--studies", required=True, help="folder of images; made where absent")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", default=8000, type=int, help="0 takes a free one (%(default)s)")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="folder or id (%(default)s)")
    parser.add_argument("--device", help="cpu or cuda; cuda where there is one")
    parser.add_argument("--precision", default="auto", help=f"{', '.join(PRECISIONS)}")
    parser.add_argument("--quantize", help=f"weights in {' or '.join(QUANTIZATIONS)}")
    parser.add_argument("--token", help="what clients must send; better set BIRD_TOKEN")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    given = vars(arguments(argv))
    try:
        running = Running(*(given.pop(name) for name in ("device", "precision", "quantize")))
        serve(**given, running=running)
    except (ServeError, BirdError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
