"""How a command speaks on the terminal: answers on stdout, all else on stderr.

An error that the user can mend is one line and exit code 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps

from rich.console import Console
from rich.progress import Progress as ProgressBar

from bird_vlm.errors import BirdError

console = Console(stderr=True)


def plain_errors(command: Callable) -> Callable:
    """Print a BirdError as one line and leave with exit code 2; 130 where the user interrupts."""

    @wraps(command)
    def run(*args: object, **kwargs: object) -> None:
        try:
            command(*args, **kwargs)
        except BirdError as error:
            line = " ".join(str(error).split())
            console.print(
                f"error: {line}", style="red", markup=False, highlight=False, soft_wrap=True
            )
            raise SystemExit(2) from error
        except KeyboardInterrupt as error:
            console.print("cancelled")
            raise SystemExit(130) from error

    return run


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar; yields a function that takes (done, total)."""
    with ProgressBar(console=console, transient=True) as bar:
        job = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(job, completed=done, total=total)
