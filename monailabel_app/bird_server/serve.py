"""Starting the server: checks everything that can be wrong first, and says so in one line.

Sets MONAI Label's settings through its environment variables and runs uvicorn on a socket that is
already bound. Knows nothing about routes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
from pathlib import Path

from bird_server.guard import is_loopback
from bird_server.service import DEFAULT_MODEL, open_service, use
from bird_vlm.running import USUAL, Running

INSTALL_HINT = (
    "the server needs MONAI Label: pip install 'bird-slicer[server]', "
    "then pip install --no-deps monailabel==0.8.5"
)
IMAGE_PATTERNS = ["*.nii.gz", "*.nii", "*.nrrd", "*.mha", "*.png", "*.jpg", "*.jpeg"]


class ServeError(RuntimeError):
    """Why the server cannot start; the message is for whoever starts it."""


def serve(
    studies: str | Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    model: str = DEFAULT_MODEL,
    token: str | None = None,
    running: Running = USUAL,
) -> None:
    """Serves `studies` (made where absent) until the process is told to stop.

    `model` is a folder of weights or the id of shipped ones; with `running.backend` it is the name
    of a model there. `token`, by default the environment's BIRD_TOKEN, is what every request must
    bring; without one only this machine may ask, and hosts other than loopback ones are refused.
    Port 0 takes a free one. Raises ServeError, and BirdError for a model that cannot be loaded.
    """
    token = token or os.environ.get("BIRD_TOKEN") or None
    check_installed()
    check_access(host, token)
    studies = made_folder(studies)
    with bound_socket(host, port) as listener:
        os.environ.update(settings(studies, listener.getsockname()[1], token))
        service = open_service(studies, model, running)
        card = service.card  # loads the model: what is wrong with it shows before the first request
        use(service)
        address = f"[{host}]" if ":" in host else host
        url = f"http://{address}:{listener.getsockname()[1]}"
        run(listener, f"BiRD serves {card.id} on {card.device} at {url}, studies in {studies}")


def run(listener: socket.socket, greeting: str) -> None:
    """Serves until told to stop; says `greeting` as soon as requests are answered."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(greeting, flush=True)

    config = uvicorn.Config("bird_server.asgi:app", log_level="info", access_log=False)
    Server(config).run(sockets=[listener])


def check_installed() -> None:
    for package in ("fastapi", "uvicorn", "monailabel"):
        if importlib.util.find_spec(package) is None:
            raise ServeError(INSTALL_HINT)


def check_access(host: str, token: str | None) -> None:
    """A token wherever other machines can reach the server."""
    if token is not None and (not token.isascii() or not token.isprintable() or " " in token):
        raise ServeError("--token: needs printable ASCII characters without spaces")
    if not token and not is_loopback(host):
        raise ServeError(
            f"--host {host} lets other machines in: give --token or set BIRD_TOKEN, "
            "or stay on 127.0.0.1"
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


def settings(studies: Path, port: int, token: str | None) -> dict[str, str]:
    """Environment variables that MONAI Label and our app read when they are first imported."""
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
        "BIRD_TOKEN": token or "",
    }
