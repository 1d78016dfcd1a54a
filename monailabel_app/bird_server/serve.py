"""Starting the server: checks everything that can be wrong first, and says so in one line.

Sets MONAI Label's settings through its environment variables and runs uvicorn on a socket that is
already bound. Knows nothing about routes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bird_server.access.tokens import Tokens, is_loopback
from bird_server.jobs.yielding import take_short_turns
from bird_server.opening import open_service
from bird_server.operations import logs
from bird_server.operations.logs import LogFormat
from bird_server.service import DEFAULT_MODEL, use
from bird_vlm.running import USUAL, Running

INSTALL_HINT = (
    "the server needs MONAI Label: pip install 'bird-slicer[server]', "
    "then pip install --no-deps monailabel==0.8.5"
)
STOP_WITHIN_S = 30  # at the end: for answers under way
IMAGE_PATTERNS = ["*.nii.gz", "*.nii", "*.nrrd", "*.mha", "*.png", "*.jpg", "*.jpeg"]


class ServeError(RuntimeError):
    """Why the server cannot start; the message is for whoever starts it."""


@dataclass(frozen=True)
class Access:
    """Who may ask from where, and what the log may tell."""

    tokens: Tokens = field(default_factory=Tokens)
    origins: tuple[str, ...] = ()  # web pages that may ask; none of other sites by default
    log_format: LogFormat = "text"
    log_questions: bool = False  # free text and names of files may name patients


def serve(
    studies: str | Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    model: str = DEFAULT_MODEL,
    access: Access | None = None,
    running: Running = USUAL,
) -> None:
    """Serves `studies` (made where absent) until the process is told to stop.

    `model` is a folder of weights or the id of shipped ones; with `running.backend` it is the name
    of a model there. Without tokens only this machine may ask, and hosts other than loopback ones
    are refused. Port 0 takes a free one. Raises ServeError, and BirdError for a model that cannot
    be loaded.
    """
    access = access or Access()
    check_installed()
    check_access(host, access)
    studies = made_folder(studies)
    with bound_socket(host, port) as listener:
        bound = listener.getsockname()[1]
        os.environ.update(settings(studies, bound, access.tokens) | log_settings(access))
        logs.configure(access.log_format)
        service = open_service(studies, model, running)
        card = service.card  # loads the model: what is wrong with it shows before the first request
        use(service)
        address = f"[{host}]" if ":" in host else host
        url = f"http://{address}:{bound}"
        run(listener, f"BiRD serves {card.id} on {card.device} at {url}, studies in {studies}")


def run(listener: socket.socket, greeting: str) -> None:
    """Serves until told to stop; says `greeting` as soon as requests are answered."""
    import uvicorn

    from bird_server.access.connections import HurriedProtocol

    take_short_turns()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(greeting, flush=True)

    config = uvicorn.Config(
        "bird_server.asgi:app",
        http=HurriedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_WITHIN_S,
    )
    with suppress(KeyboardInterrupt):
        Server(config).run(sockets=[listener])


def check_installed() -> None:
    for package in ("fastapi", "uvicorn", "monailabel"):
        if importlib.util.find_spec(package) is None:
            raise ServeError(INSTALL_HINT)


def check_access(host: str, access: Access) -> None:
    """A token wherever other machines can reach the server. Raises ServeError."""
    tokens = access.tokens
    if not tokens and not is_loopback(host):
        raise ServeError(
            f"--host {host} lets other machines in: give --token-file or set BIRD_TOKEN, "
            "or stay on 127.0.0.1"
        )
    if tokens.read and tokens.read == tokens.write:
        raise ServeError("--read-token: is the write token too; choose another one")
    if tokens.read and not tokens.write:
        raise ServeError("--read-token: needs a write token as well; give --token-file")
    for origin in access.origins:
        check_origin(origin)


def check_origin(origin: str) -> None:
    """Raises ServeError for what no browser sends as an origin; `*` is none."""
    parts = urlsplit(origin)
    if parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}":
        raise ServeError(
            f"--allow-origin {origin}: needs SCHEME://HOST[:PORT], such as https://viewer.example"
        )


def made_folder(studies: str | Path) -> Path:
    path = Path(studies).expanduser().resolve()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServeError(
            f"--studies {studies}: cannot make this folder ({error.strerror})"
        ) from error
    if not os.access(path, os.W_OK):
        raise ServeError(f"--studies {studies}: cannot write into this folder")
    return path


def bound_socket(host: str, port: int) -> socket.socket:
    """The server's socket, not listening yet: clients are refused while the model loads."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        if os.name == "posix":  # elsewhere this option would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        return listener
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise ServeError(f"--host {host} --port {port}: {reason}; try another --port") from error


def app_folder() -> Path:
    """The folder with `main.py`: beside this package in a checkout, inside it when installed."""
    here = Path(__file__).resolve().parent
    for folder in (here / "app", here.parent):
        if (folder / "main.py").is_file() and (folder / "lib").is_dir():
            return folder
    raise ServeError(
        f"{here}: main.py is missing from this installation; install bird-slicer again"
    )


def settings(studies: Path, port: int, tokens: Tokens | None) -> dict[str, str]:
    """Environment variables that MONAI Label and our app read when they are first imported."""
    tokens = tokens or Tokens()
    private = studies / ".bird"
    return {
        "MONAI_LABEL_APP_DIR": str(app_folder()),
        "MONAI_LABEL_STUDIES": str(studies),
        "MONAI_LABEL_APP_CONF": "{}",
        "MONAI_LABEL_SERVER_PORT": str(port),
        "MONAI_LABEL_SESSION_PATH": str(private / "sessions"),
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps(IMAGE_PATTERNS),
        "MONAI_LABEL_TASKS_BATCH_INFER": "false",
        "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
        "MONAI_LABEL_AUTH_ENABLE": "false",
        "MONAI_LABEL_TRACKING_ENABLED": "false",
        "BIRD_TOKEN": tokens.write or "",
        "BIRD_READ_TOKEN": tokens.read or "",
    }


def log_settings(access: Access) -> dict[str, str]:
    """As `settings`: which web pages may ask, and what the log tells."""
    return {
        "BIRD_ALLOW_ORIGINS": " ".join(access.origins),
        logs.QUESTIONS_VARIABLE: "1" if access.log_questions else "",
    }
