"""Progress of long work: a bar if the number of steps is known, else a clock.

On a terminal it is on standard error. In a notebook it is in the cell, by HTML alone, since widgets may not be installed. A
line with the duration takes its place at the end.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Final, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

CONSOLE: Final = Console(stderr=True)

_LEAST_WAIT: Final = 0.2  # seconds between two pictures of a bar in a notebook

T = TypeVar("T")


def track(steps: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield the steps, and show how many of the total are done."""
    with _shown(what, total) as advance:
        for step in steps:
            yield step
            advance()


@contextmanager
def timed_step(what: str) -> Iterator[None]:
    """Show that one long step is running, and for how long."""
    with _shown(what, None):
        yield


@contextmanager
def _shown(what: str, total: int | None) -> Iterator[Callable[[], object]]:
    """Show work of some steps (None: their number is unknown); yield what to call after each."""
    started = time.monotonic()
    if CONSOLE.is_jupyter:
        bar = _NotebookBar(what, total)
        yield bar.advance
        bar.end(f"  {what}: done in {time.monotonic() - started:.1f} s")
        return
    counts: tuple[ProgressColumn, ...] = () if total is None else (BarColumn(), MofNCompleteColumn())
    columns = (SpinnerColumn(), TextColumn("{task.description}"), *counts, TimeElapsedColumn())
    with Progress(*columns, console=CONSOLE, transient=True, disable=not CONSOLE.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)
    CONSOLE.print(f"  {what}: done in {time.monotonic() - started:.1f} s", highlight=False)


class _NotebookBar:
    """A bar in the output of a cell. rich draws its own there with ipywidgets only."""

    def __init__(self, what: str, total: int | None) -> None:
        from IPython.display import display

        self._what, self._total, self._done, self._drawn = what, total, 0, time.monotonic()
        self._handle = display(self._picture(), raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def advance(self) -> None:
        """Count a step, and draw the bar if the last picture is some time old."""
        self._done += 1
        if time.monotonic() - self._drawn >= _LEAST_WAIT:
            self._drawn = time.monotonic()
            self._handle.update(self._picture(), raw=True)

    def end(self, line: str) -> None:
        """Put a line in the place of the bar."""
        self._handle.update({"text/plain": line}, raw=True)

    def _picture(self) -> dict[str, str]:
        of_total = "" if self._total is None else f' value="{self._done}" max="{self._total}"'
        count = "" if self._total is None else f" {self._done} of {self._total}"
        html = f"<progress{of_total}></progress> {escape(self._what)}{count}"
        return {"text/plain": f"  {self._what}{count}", "text/html": html}
