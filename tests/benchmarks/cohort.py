"""Whole cohorts: from the source's files to features on disk, and on to a training frame."""

import tempfile
from pathlib import Path

from tests.benchmarks.measure import Process, Section, in_process, seconds

_FEATURES = """
import sys, time
from pathlib import Path
from pipelines.environment import settle
settle()
from pipelines.jobs.build_features import build
from pipelines.jobs.ingest import ingest
from pipelines.sources.{module} import {source}
started = time.perf_counter()
source = {source}({argument})
{limit}
ingest(source, Path(sys.argv[1]))
build(Path(sys.argv[1]))
print(time.perf_counter() - started)
"""
_FRAME = """
import sys, time
from pathlib import Path
from pipelines.environment import settle
settle()
from features.store.client import Store
from models.cohort import index_times
from pipelines.cohort_store import CohortStore
started = time.perf_counter()
home = Path(sys.argv[1])
index = index_times(CohortStore(home).read("stays"))[["subject_id", "index_time"]]
frame = Store(home).training_frame(index, "everything")
assert len(frame) == len(index)
print(time.perf_counter() - started)
"""
STAYS = (1_000, 2_000, 5_000, 10_000)
WARD_PATIENTS = (80, 800, 8_000)  # some twelve thousand readings each


def cinc2019_section(data: Path) -> Section:
    """Challenge 2019 set A: growth with the number of stays, and the training frame of everything."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for stays in (*STAYS, None):
            home = Path(folder) / str(stays)
            took = _features(home, "cinc2019", "Cinc2019", "Path(sys.argv[2])", str(data), limit=stays)
            count, index_times = _size(home)
            rows.append(
                [
                    f"zip to feature Parquet, {count:,} stays, {index_times:,} index times",
                    *_cells(took),
                    f"{1e3 * took.work / count:.2f} ms",
                ]
            )
        frame = in_process(_FRAME, str(home))
        rows.append(
            [
                f"training frame of all {count:,} stays through Feast, every feature",
                *_cells(frame),
                f"{1e3 * frame.work / count:.2f} ms",
            ]
        )
    return Section(
        "A cohort of real stays",
        "PhysioNet/CinC Challenge 2019, training set A, nothing sampled; each row in a process of its own. The "
        "first includes compiling the kernel where that was not done before.",
        ["step", "time", "peak memory", "a stay"],
        rows,
    )


def ward_section() -> Section:
    """The simulated ward, ever larger: memory must not grow with it."""
    rows = []
    for patients in WARD_PATIENTS:
        with tempfile.TemporaryDirectory() as folder:
            took = _features(Path(folder), "simulated", "SimulatedWard", f"patients={patients}")
            readings, index_times = _readings(Path(folder)), _size(Path(folder))[1]
            rows.append(
                [
                    f"{patients:,}",
                    f"{readings / 1e6:.1f} M",
                    f"{index_times:,}",
                    *_cells(took),
                    f"{readings / took.work / 1e3:.0f} k",
                ]
            )
    return Section(
        "The simulated ward, ever larger",
        "Simulation, ingest and features in one process, part by part.",
        ["patients", "readings", "index times", "time", "peak memory", "readings a second"],
        rows,
    )


def _features(home: Path, module: str, source: str, argument: str, *arguments: str, limit: int | None = None) -> Process:
    cut = f"source._files = source._files[:{limit}]" if limit else ""
    return in_process(_FEATURES.format(module=module, source=source, argument=argument, limit=cut), str(home), *arguments)


def _cells(took: Process) -> list[str]:
    return [seconds(took.seconds), f"{took.gigabytes:.1f} GB"]


def _size(home: Path) -> tuple[int, int]:
    """Stays, and index times."""
    from models.cohort import index_times
    from pipelines.cohort_store import CohortStore

    stays = CohortStore(home).read("stays")
    return len(stays), len(index_times(stays))


def _readings(home: Path) -> int:
    from pipelines.cohort_store import CohortStore

    facts = CohortStore(home).facts
    return facts.observations + sum(facts.quarantined.values())
