"""Runs a module as `python -m MODULE` does, but no longer than the process that started it.

    python -m bird_server.learning.leashed PARENT_PID MODULE [ARGUMENT ...]

A server that is killed cannot stop its training; so the training looks whether its server lives.
It gets the processor after the server, which answers meanwhile.
Knows nothing about what the module does.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

_LOOK_S = 1.0
_NICER = 10  # than the server, whose clients wait


def main() -> None:
    parent, module = int(sys.argv[1]), sys.argv[2]
    sys.argv[:] = sys.argv[2:]
    if os.name == "posix":
        os.nice(_NICER)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with(parent: int) -> None:
    """Ends this process and those that it started, which are its process group."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    if os.name == "posix" and os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
