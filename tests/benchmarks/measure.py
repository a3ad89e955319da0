"""How benchmarks measure: Vigil and the alternative in turn, in one run, reported as ratios.

Machines are shared and noisy, so no time is asserted. The ratio of two times measured one after the other is meaningful.
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
    """A section of the page: a title, a description of the measurement, and a table."""

    title: str
    text: str
    head: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """Return the section as Markdown."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return f"## {self.title}\n\n{self.text}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


@dataclass(frozen=True)
class Compared:
    """Times of Vigil and of the alternative in each round, in seconds."""

    ours: list[float]
    other: list[float]

    @property
    def cells(self) -> list[str]:
        """The medians, and the ratio with its range over the rounds."""
        ratios = [other / ours for ours, other in zip(self.ours, self.other, strict=True)]
        return [
            format_seconds(statistics.median(self.ours)),
            format_seconds(statistics.median(self.other)),
            f"**{statistics.median(ratios):.1f}x** ({min(ratios):.1f}-{max(ratios):.1f})",
        ]


def in_turn(ours: Work, other: Work, rounds: int = 5) -> Compared:
    """Time both in turn, after one round that is not counted."""
    measured: tuple[list[float], list[float]] = ([], [])
    for round_ in range(rounds + 1):
        for work, times in zip((ours, other), measured, strict=True):
            started = time.perf_counter()
            work()
            if round_:
                times.append(time.perf_counter() - started)
    return Compared(*measured)


def format_seconds(value: float) -> str:
    """Return a time in words, such as ``20 ms``."""
    return f"{value * 1e3:.2g} ms" if value < 0.1 else f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


@dataclass(frozen=True)
class Process:
    """Time and memory of one process.

    Attributes:
        seconds: from its start to its end, including imports.
        work: seconds of its work alone, as it printed them.
        gigabytes: its peak resident memory.
    """

    seconds: float
    work: float
    gigabytes: float


# With getrusage and wait4, Linux counts the memory of the parent as that of the child. In this file it does not.
_PEAK = """
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def in_process(code: str, *arguments: str) -> Process:
    """Run Python code in a new process, with arguments in sys.argv[1:]. The code prints the seconds of its work."""
    started = time.perf_counter()
    ran = subprocess.run([sys.executable, "-c", code + _PEAK, *arguments], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"exit status {ran.returncode}: {ran.stderr[-2000:]}")
    work, kilobytes = ran.stdout.split()[-2:]
    return Process(time.perf_counter() - started, float(work), float(kilobytes) / 1e6)
