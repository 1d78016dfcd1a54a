"""Logic on one thread, and what came back from it. Test helper."""

import threading


class AtOnce:
    """Work and results on the caller's thread, in order."""

    def start(self, work):
        work()

    def post(self, callback):
        callback()

    later = post


class Outcome:
    """What came back, as `on_done`, `on_error` and `on_progress`."""

    def __init__(self):
        self.done, self.errors, self.progress, self.threads = [], [], [], set()

    def on_done(self, *answer):
        self.threads.add(threading.current_thread())
        self.done.append(answer)

    def on_error(self, failure):
        self.threads.add(threading.current_thread())
        self.errors.append(failure)

    def on_progress(self, fraction, words):
        self.threads.add(threading.current_thread())
        self.progress.append((fraction, words))

    @property
    def callbacks(self):
        return {"on_done": self.on_done, "on_error": self.on_error, "on_progress": self.on_progress}

    @property
    def over(self):
        return bool(self.done or self.errors)
