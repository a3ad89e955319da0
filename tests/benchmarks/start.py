"""The start: what an import costs, and how long a server takes from its command until it is ready."""

import os
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import psutil

from tests.benchmarks.measure import Section, format_seconds
from vigil.pipelines.environment import LOOPBACK
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.run import run
from vigil.pipelines.operations.server import bind_socket
from vigil.pipelines.sources.simulated import SimulatedWard

PATIENTS = 220
ROUNDS = 5
VIGIL = [sys.executable, "-c", "from vigil.pipelines.cli.main import app; app()"]
IMPORTS = (
    "vigil.features",
    "vigil.features.batch",
    "vigil.models",
    "vigil.models.registry",
    "vigil.serving.service",
    "vigil.serving.composition",
)

Spent = tuple[float, float]  # seconds from the start, and seconds of processors


def start_section() -> Section:
    """Measure imports, ``vigil --help`` and the start of a server on a new home."""
    rows = [_row(f"`import {name}`", lambda name=name: _run([sys.executable, "-c", f"import {name}"])) for name in IMPORTS]
    rows.append(_row("`vigil --help`", lambda: _run([*VIGIL, "--help"])))
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        run(SimulatedWard(patients=PATIENTS, patients_per_batch=PATIENTS), Home(home))
        rows.append(_row("`vigil serve`, until `/readyz` is 200", lambda: _serve(home)))
        rows.append(_row("the same, with the libraries read from disk", lambda: _serve(home, cold=True)))
    return Section(
        "Start",
        f"Each row is a new Python process, {ROUNDS} times after one that is not counted; its median and range. "
        "`vigil.serving.service` is what the server's supervisor imports, `vigil.serving.composition` what its "
        "two processes import. "
        "`vigil serve` has a champion; its processor time is that of all its processes.",
        ["what", "time", "range", "processor time"],
        rows,
    )


def _row(what: str, measure: Callable[[], Spent]) -> list[str]:
    measure()
    times, spent = zip(*(measure() for _ in range(ROUNDS)), strict=True)
    medians = [format_seconds(statistics.median(values)) for values in (times, spent)]
    return [what, medians[0], f"{format_seconds(min(times))}-{format_seconds(max(times))}", medians[1]]


def _run(command: list[str]) -> Spent:
    before, started = _children(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started, _children() - before


def _children() -> float:
    """Return the processor time of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _serve(home: Path, *, cold: bool = False) -> Spent:
    """Start a server as a user does, and wait until it is ready."""
    with bind_socket() as free:
        port = free.getsockname()[1]
    if cold:
        _forget_files(Path(sysconfig.get_path("platlib")))
    started = time.perf_counter()
    command = [*VIGIL, "serve", "--home", str(home), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            while not _is_ready(f"http://{LOOPBACK}:{port}/readyz"):
                if server.poll() is not None:
                    raise RuntimeError(f"vigil serve ended with exit status {server.returncode}")
                time.sleep(0.05)
            seconds = time.perf_counter() - started
            process = psutil.Process(server.pid)
            times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
            return seconds, sum(each.user + each.system for each in times)
        finally:
            server.terminate()


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (URLError, OSError):
        return False


def _forget_files(folder: Path) -> None:
    """Let the kernel forget the content of files, as after a boot. It keeps what another process has mapped."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
