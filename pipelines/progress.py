"""Progress of long work on standard error: a bar if the number of steps is known, else a clock."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

CONSOLE: Final = Console(stderr=True)

T = TypeVar("T")


def track(steps: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield the steps, and show how many of the total are done."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    started = time.monotonic()
    with Progress(*columns, console=CONSOLE, transient=True, disable=not CONSOLE.is_terminal) as progress:
        yield from progress.track(steps, total=total, description=what)
    _print_duration(what, started)


@contextmanager
def timed_step(what: str) -> Iterator[None]:
    """Show that one long step is running, and for how long."""
    started = time.monotonic()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=CONSOLE, transient=True, disable=not CONSOLE.is_terminal) as progress:
        progress.add_task(what, total=None)
        yield
    _print_duration(what, started)


def _print_duration(what: str, started: float) -> None:
    CONSOLE.print(f"  {what}: done in {time.monotonic() - started:.1f} s", highlight=False)
