"""`bird view` as a user starts it: a process, its address, its end. Test helper."""

import os
import re
import signal
import subprocess
import sys
from urllib.parse import parse_qs, urlsplit

_ADDRESS = re.compile(r"^BiRD shows .* at (http://\S+)$")


class ViewProcess:
    """Runs until `stop()`; the page can be opened once it is made."""

    def __init__(self, scan, *options, log):
        words = [sys.executable, "-m", "bird_vlm.cli", "view", str(scan)]
        words += ["--port", "0", "--no-browser", *map(str, options)]
        self._log = log
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                words,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        self.url = self._wait_for_address()
        query = parse_qs(urlsplit(self.url).query)
        self.address, (self.key,) = urlsplit(self.url).netloc, query["secret"]

    def stop(self, by=signal.SIGTERM):
        """Ends it; returns its exit code."""
        self.process.send_signal(by)
        return self.process.wait(60)

    def said(self):
        """Everything on its stderr so far, its own server's words among them."""
        return self._log.read_text()

    def _wait_for_address(self):
        for line in self.process.stdout:
            if found := _ADDRESS.match(line.strip()):
                return found.group(1)
        raise RuntimeError(self.said())
