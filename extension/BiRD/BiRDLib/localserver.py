"""A BiRD server on this computer: found, started, listened to, stopped.

Knows the command `bird serve` and the line it prints when it answers; nothing about HTTP, Qt or
MRML. Runs on the GUI thread, except the reading of what the server says.
"""

import os
import re
import secrets
import shutil
import subprocess
import weakref
from functools import partial
from pathlib import Path

from .errors import UnusableInput
from .i18n import tr as _

INSTALL = "pip install 'bird-slicer[server]' && pip install --no-deps monailabel==0.8.5"
_READY = re.compile(r"^BiRD serves .* at (https?://\S+?), studies in ")
_PYTHON = re.compile(r"python[\d.]*(\.exe)?$", re.IGNORECASE)
_STOP_WITHIN_S = 5.0  # for a Slicer that closes; a server that is stopped by hand gets longer
_NO_WINDOW = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # Windows would open a console


def find_program(chosen=""):
    """The path of `bird`, or of what the user chose; raises UnusableInput where there is none."""
    found = shutil.which(chosen or "bird")
    if found is None:
        what = (
            _("{} is no program.").format(chosen) if chosen else _("No BiRD server is installed.")
        )
        hint = _("Install it with a Python 3.11 of your own: {}. Then choose its program `bird`.")
        raise UnusableInput(what, hint.format(INSTALL))
    return found


def command(program, studies):
    """The words that start a server with `bird` or a Python, on a free port."""
    is_python = _PYTHON.match(Path(program).name) is not None
    start = [program, "-m", "bird_server"] if is_python else [program, "serve"]
    return [*start, "--port", "0", "--studies", str(studies)]


class LocalServer:
    """At most one server process of ours; it ends with this program.

    `background` is as for Session; `on_line(words)` gets what the server says, `on_ready(url,
    token)` its address, `on_end(exit code)` its end, all on the GUI thread.
    """

    def __init__(self, background, on_line, on_ready, on_end, environment=None):
        """`environment`: variables for the server; None for those of this program."""
        self._background = background
        self._on_line, self._on_ready, self._on_end = on_line, on_ready, on_end
        self._environment = os.environ if environment is None else environment
        self._process = None
        self.url = ""  # as soon as it answers
        self._token = ""
        self._leave = None  # ends the process with this program

    @property
    def running(self):
        """Whether there is a process, even if it does not answer yet."""
        return self._process is not None

    def start(self, program, studies):
        """Starts a server whose folder of images is `studies`; raises UnusableInput."""
        if self.running:
            return
        self.url = ""
        self._token = secrets.token_hex(16)  # other users of this computer do not know it
        try:
            Path(studies).mkdir(parents=True, exist_ok=True)
            self._process = self._started(command(find_program(program), studies))
        except OSError as error:
            raise UnusableInput(_("The server did not start: {}.").format(error)) from error
        process = self._process
        self._leave = weakref.finalize(self, _end, process)
        self._background.start(lambda: self._listen(process))

    def stop(self):
        """Asks the server to end; `on_end` follows."""
        if self._process is not None:
            self._process.terminate()

    def close(self):
        """Ends the server and waits a moment for it, without a word."""
        process, self._process = self._process, None
        if process is not None:
            self._leave.detach()
            _end(process)

    def _started(self, words):
        added = {"BIRD_TOKEN": self._token, "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            words,
            env={**self._environment, **added},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            creationflags=_NO_WINDOW,
        )

    def _listen(self, process):
        """On a worker: passes on what the server says until it ends."""
        for line in process.stdout:
            self._background.post(partial(self._heard, process, line.rstrip()))
        code = process.wait()
        self._background.post(partial(self._ended, process, code))

    def _heard(self, process, line):
        if process is not self._process:
            return
        self._on_line(line)
        ready = _READY.match(line)
        if ready is not None:
            self.url = ready.group(1)
            self._on_ready(self.url, self._token)

    def _ended(self, process, code):
        if process is self._process:
            self._leave.detach()
            self._process, self.url = None, ""
            self._on_end(code)


def _end(process):
    process.terminate()
    try:
        process.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
