"""A cohort of tables that is larger than memory should be: the peak of memory and the time until every batch is checked."""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import duckdb
import pandas as pd

from tests.benchmarks.measure import Section
from vigil.pipelines.jobs.ingest import check_observations
from vigil.pipelines.sources import open_source

SIZES: Final = (2_000_000, 20_000_000)  # observations
ROWS_PER_STAY: Final = 500
KINDS: Final = ("parquet", "csv", "query")
# The rows of a stay lie far from each other, as in an export that is ordered by time.
TABLE: Final = """
    SELECT 's' || (i % {stays}) AS stay,
        strftime(TIMESTAMP '2026-01-01' + to_minutes(10 * (i // {stays})), '%Y-%m-%dT%H:%M:%SZ') AS time,
        ['heart_rate', 'respiratory_rate', 'spo2', 'systolic_bp', 'body_temperature'][1 + (i // {stays}) % 5] AS signal,
        round([80, 16, 97, 120, 37][1 + (i // {stays}) % 5] + random(), 1) AS value
    FROM range({rows}) AS numbers(i)
"""
MAPPING: Final = """
name = "large"
deidentified = true
database = "files"

[default]
time_zone = "UTC"
units = {{ heart_rate = "/min", respiratory_rate = "/min", spo2 = "%", systolic_bp = "mm[Hg]", body_temperature = "Cel" }}

[[observations]]
{origin}
stay = "stay"
time = "time"
signal = "signal"
value = "value"
"""


def large_cohort_section() -> Section:
    """Measure each kind of table in each size, each in a process of its own."""
    rows = []
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            write_tables(Path(folder), size)
            for kind in KINDS:
                program = f"from tests.benchmarks.large_cohort import check; check({folder!r}, {kind!r})"
                process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
                observations, batches, seconds, own, megabytes = process.stdout.split()[-5:]
                rows.append(
                    [
                        kind,
                        f"{int(observations):,}",
                        batches,
                        f"{float(seconds):.0f} s",
                        f"{float(own):.0f} s",
                        f"{int(megabytes):,} MB",
                    ]
                )
    return Section(
        "Large cohorts",
        f"Observations of a long table, {ROWS_PER_STAY} a stay, whose rows lie far from each other. A new process opens the "
        "mapping and checks every batch, as `vigil ingest` does, without storing it. Memory is the peak of the process.",
        ["table", "observations", "batches", "time", "processor time", "memory"],
        rows,
    )


def write_tables(folder: Path, rows: int) -> None:
    """Write the observations as Parquet and as CSV, and a mapping of each kind."""
    with duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")
        table = TABLE.format(rows=rows, stays=rows // ROWS_PER_STAY)
        connection.execute(f"COPY ({table}) TO '{folder}/large.parquet'")
        connection.execute(f"COPY (FROM '{folder}/large.parquet') TO '{folder}/large.csv'")
    origins = {"parquet": 'file = "large.parquet"', "csv": 'file = "large.csv"'}
    origins["query"] = "query = \"SELECT stay, time, signal, value FROM 'large.parquet' WHERE value IS NOT NULL\""
    for kind, origin in origins.items():
        (folder / f"{kind}.toml").write_text(MAPPING.format(origin=origin))


def check(folder: str, kind: str) -> None:
    """Check every batch, and print observations, batches, seconds, those of processors, and the peak of memory in megabytes."""
    begun, now = time.perf_counter(), pd.Timestamp("2027-01-01T00:00:00Z")
    source = open_source(None, None, Path(folder) / f"{kind}.toml")
    observations = batches = 0
    for batch in source.batches():
        observations += len(check_observations(batch, source, now).accepted)
        batches += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    sys.stdout.write(f"{observations} {batches} {time.perf_counter() - begun:.1f} {time.process_time():.1f} {peak}\n")
