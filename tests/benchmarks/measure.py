"""How things are measured: in turn with what they are compared with, in one run, and told as ratios.

Machines are shared and noisy, so no time is ever asserted; a ratio of two that ran one after the other means something.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

Work = Callable[[], object]


@dataclass(frozen=True)
class Section:
    """A part of the page: a title, what was measured, and a table."""

    title: str
    text: str
    head: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return f"## {self.title}\n\n{self.text}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


@dataclass(frozen=True)
class Compared:
    """Seconds of ours and of the other's rounds, in turn."""

    ours: list[float]
    other: list[float]

    @property
    def cells(self) -> list[str]:
        """Medians, and the ratio with its spread over the rounds."""
        ratios = [other / ours for ours, other in zip(self.ours, self.other, strict=True)]
        return [
            seconds(statistics.median(self.ours)),
            seconds(statistics.median(self.other)),
            f"**{statistics.median(ratios):.1f}x** ({min(ratios):.1f}-{max(ratios):.1f})",
        ]


def in_turn(ours: Work, other: Work, rounds: int = 5) -> Compared:
    """Time both, one after the other, after one round that is not counted."""
    measured: tuple[list[float], list[float]] = ([], [])
    for round_ in range(rounds + 1):
        for work, times in zip((ours, other), measured, strict=True):
            started = time.perf_counter()
            work()
            if round_:
                times.append(time.perf_counter() - started)
    return Compared(*measured)


def seconds(value: float) -> str:
    return f"{value * 1e3:.2g} ms" if value < 0.1 else f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


@dataclass(frozen=True)
class Process:
    """What one process took.

    Attributes:
        seconds: from its start to its end, imports included.
        work: what it says its work alone took.
        gigabytes: its largest resident memory.
    """

    seconds: float
    work: float
    gigabytes: float


# Linux counts the memory of the parent as the child's own in getrusage and wait4, but not here.
_PEAK = """
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def in_process(code: str, *arguments: str) -> Process:
    """Run Python code in a process of its own, with arguments in sys.argv[1:]; it prints the seconds of its work."""
    started = time.perf_counter()
    ran = subprocess.run([sys.executable, "-c", code + _PEAK, *arguments], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"exit status {ran.returncode}: {ran.stderr[-2000:]}")
    work, kilobytes = ran.stdout.split()[-2:]
    return Process(time.perf_counter() - started, float(work), float(kilobytes) / 1e6)
