"""Vigil compared with alternative libraries on a part of PhysioNet 2019. Outputs are checked to be equal first.

tsflex runs in this process. meds-tab pins other versions of shared dependencies, so it runs from a separate environment.
"""

import functools
import os
import subprocess
import time
import warnings
import zipfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tests.benchmarks.measure import Section, in_process, in_turn
from vigil.features.batch import group_observations, plan_computation
from vigil.features.catalogue import STANDARD, VITALS, list_features
from vigil.features.kernel import compute_window_statistics
from vigil.features.kernel.plan import order_by_signal, plan_kernel
from vigil.features.windows import declare_statistics
from vigil.models.cohort import index_times
from vigil.pipelines.cohort_store import CohortStore
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.ingest import ingest
from vigil.pipelines.sources.cinc2019 import Cinc2019

STAYS: Final = 500  # enough that the start of Python is not most of meds-tab's time
ROUNDS: Final = 3
WINDOWS: Final = (6, 24)  # hours
STATISTICS: Final = ("count", "mean", "min", "max", "std")
HOUR: Final = np.timedelta64(1, "h")

Times = NDArray[np.datetime64]
Frames = list[pd.DataFrame]


class Slice(NamedTuple):
    """Some stays: the home of their cohort, their checked observations of vital signs, and their index times."""

    home: Path
    observations: pd.DataFrame
    index: pd.DataFrame


def alternatives(cinc2019: Path, meds_tab: Path | None) -> Section:
    """Compare Vigil with tsflex and meds-tab.

    Args:
        cinc2019: path of training_setA.zip.
        meds_tab: ``bin`` folder of a virtual environment with meds-tab. None leaves meds-tab out.
    """
    with TemporaryDirectory() as folder:
        slice_ = _ingest_slice(cinc2019, Path(folder))
        size = f"{len(slice_.observations):,} readings of the 8 vital signs, {len(slice_.index):,} hourly index times"
        text = f"The first {STAYS} stays of PhysioNet 2019 set A: {size}.\n\n{_TSFLEX}"
        if meds_tab:
            text += f"\n\n{_MEDS_TAB.format(features=len(list_features(*STANDARD)))}"
        rows = [*_compare_tsflex(slice_), _compare_meds_tab(slice_, meds_tab, Path(folder))]
    return Section("Compared with tsflex and meds-tab", text, ["alternative", "Vigil", "alternative's time", "ratio"], rows)


_TSFLEX: Final = """\
**tsflex.** Count, mean, minimum, maximum and standard deviation of each vital sign over (t - 6 h, t] and (t - 24 h, t] at every
hour t of every stay: 80 columns. Both start from one frame of checked observations and one of index times, and all processing
of these frames is timed. Three ways to use tsflex were timed, after each gave the same numbers as Vigil (to 9 digits). tsflex
gets every advantage: one function returns all five statistics, its tables are not joined, and it may use several processes
where that helps. *Stay by stay* is the simple way. *End to end* places the stays one after the other in time, a day apart, so
that one call computes all of them. *On a grid* goes further, and works only because these data lie on whole hours: empty hours
become NaN, and numpy computes whole matrices of windows. Vigil accepts observations at any time, and leaves out those that were
not recorded by t."""

_MEDS_TAB: Final = """\
**meds-tab.** Both run as processes from files to files, including the start of Python. meds-tab (describe, then
tabularize-time-series, with one worker or one for each core, whichever was faster) computes count and sum of the 8 vital signs
over 6 h and 24 h, at the hours with an observation: 32 columns. Vigil reads a batch of the cohort and writes all {features}
features of every hour, including those of laboratory values. The 32 columns are among them, and were compared (to 5 digits,
since both store float32). meds-tab 0.2.0 needed two workarounds. It compares codes with column names (the code and "/value"),
so values are lost unless codes are named to suit. It drops the last event of each time, so each time was given one more.
Minimum, maximum and sum of squares are not timed, since their results were wrong even so: the first two write all rows into
the first row, and the third squares twice."""


def _ingest_slice(cinc2019: Path, folder: Path) -> Slice:
    """Ingest the first stays."""
    with zipfile.ZipFile(cinc2019) as archive:
        archive.extractall(folder / "psv", sorted(name for name in archive.namelist() if name.endswith(".psv"))[:STAYS])
    home = folder / "home"
    ingest(Cinc2019(folder / "psv"), Home(home))
    cohort = CohortStore(home)
    observations = cohort.read_partition("observations", 0)
    vital = observations[observations["signal"].isin(VITALS)].reset_index(drop=True)
    return Slice(home, vital, index_times(cohort.read_partition("stays", 0)))


def _compute_by_kernel(observations: pd.DataFrame, index: pd.DataFrame) -> pd.DataFrame:
    features = order_by_signal([feature for window in WINDOWS for feature in declare_statistics(VITALS, window, *STATISTICS)])
    signals, plan = plan_kernel(features)
    codes, subjects = pd.factorize(index["subject_id"])
    readings = group_observations(observations, pd.Index(subjects))  # series of every signal of the catalogue
    series = [plan_computation().signals.index(signal) for signal in signals]
    out = np.empty((len(features), len(index)))
    compute_window_statistics(
        plan,
        readings._replace(
            begin=np.ascontiguousarray(readings.begin[series]),
            end=np.ascontiguousarray(readings.end[series]),
        ),
        _naive(index["index_time"]).astype(np.int64),
        np.searchsorted(codes, np.arange(len(subjects) + 1)).astype(np.int64),
        out,
    )
    return pd.DataFrame(out.T, columns=[feature.name for feature in features])


def _compare_tsflex(slice_: Slice) -> list[list[str]]:
    if find_spec("tsflex") is None:  # not in the lock file, since it pins an older dill
        return [["tsflex", "", "", "not measured: `pip install --no-deps tsflex dill multiprocess tqdm`"]]
    observations, index = slice_.observations, slice_.index
    ours = _compute_by_kernel(observations, index)
    methods: dict[str, Callable[[pd.DataFrame, pd.DataFrame], list[Frames]]] = {
        "stay by stay": _stay_by_stay,
        "stays end to end": _end_to_end,
        "stays end to end, on a grid": _on_a_grid,
    }
    rows = []
    for name, method in methods.items():
        theirs = _table(method(observations, index))[ours.columns]
        np.testing.assert_allclose(theirs.to_numpy(), ours.to_numpy(), rtol=1e-9, atol=1e-9, err_msg=name)
        compared = in_turn(
            lambda: _compute_by_kernel(observations, index), functools.partial(method, observations, index), ROUNDS
        )
        rows.append([f"tsflex {version('tsflex')}, {name}", *compared.cells])
    return rows


def _stay_by_stay(observations: pd.DataFrame, index: pd.DataFrame) -> list[Frames]:
    times = {subject: _naive(of_stay) for subject, of_stay in index.groupby("subject_id")["index_time"]}
    return [
        _calculate(_series(readings, _naive(readings["observed_at"])), times[subject], _summarise, processes=1)
        for subject, readings in observations.groupby("subject_id", observed=True)
    ]


def _end_to_end(observations: pd.DataFrame, index: pd.DataFrame) -> list[Frames]:
    observed, times = _place_end_to_end(observations, index)
    return [_calculate(_series(observations, observed), times, _summarise, processes=os.cpu_count() or 1)]


def _on_a_grid(observations: pd.DataFrame, index: pd.DataFrame) -> list[Frames]:
    observed, times = _place_end_to_end(observations, index)
    grid = np.arange(times[0] - max(WINDOWS) * HOUR, times[-1] + HOUR, HOUR)
    series = [of_signal.reindex(grid) for of_signal in _series(observations, observed)]
    frames = _calculate(series, grid[max(WINDOWS) :], _summarise_rows, processes=1, vectorized=True)
    rows = (times - times[0]) // HOUR
    return [[frame.iloc[rows] for frame in frames]]


def _place_end_to_end(observations: pd.DataFrame, index: pd.DataFrame) -> tuple[Times, Times]:
    """Shift observations and index times so that a stay begins after the last window of the stay before it."""
    stay, subjects = pd.factorize(index["subject_id"])
    times = _naive(index["index_time"])
    first = np.searchsorted(stay, np.arange(len(subjects) + 1))
    length = times[first[1:] - 1] - times[first[:-1]] + (max(WINDOWS) + 1) * HOUR
    shift = times[0] + np.cumsum(length) - length - times[first[:-1]]
    of_reading = pd.Index(subjects).get_indexer(pd.Index(observations["subject_id"].astype(object)))
    return _naive(observations["observed_at"]) + shift[of_reading], times + shift[stay]


def _series(observations: pd.DataFrame, times: Times) -> list["pd.Series[float]"]:
    values = pd.Series(observations["value"].to_numpy(), index=times)
    return [of_signal.rename(str(signal)) for signal, of_signal in values.groupby(observations["signal"].array, observed=True)]


def _calculate(
    series: list["pd.Series[float]"], times: Times, function: Callable[..., object], processes: int, **options: bool
) -> Frames:
    collection = _collection(function, tuple(str(of_signal.name) for of_signal in series), **options)
    with warnings.catch_warnings(action="ignore"):  # about windows that extend beyond the observations
        frames: Frames = collection.calculate(
            series,
            segment_end_idxs=times + np.timedelta64(1, "us"),  # its windows are [begin, end), those of Vigil (begin, end]
            bound_method="outer",
            approve_sparsity=True,
            n_jobs=processes,
        )
    return frames


@functools.cache
def _collection(function: Callable[..., object], signals: tuple[str, ...], **options: bool) -> Any:
    """Return a collection for all stays with the same signals, since it requires every signal that it knows."""
    from tsflex.features import FeatureCollection, FuncWrapper, MultipleFeatureDescriptors

    wrapped = FuncWrapper(function, output_names=list(STATISTICS), **options)
    windows = [pd.Timedelta(hours=window) for window in WINDOWS]
    return FeatureCollection(MultipleFeatureDescriptors(wrapped, list(signals), windows))


def _summarise(values: NDArray[np.float64]) -> tuple[float, ...]:
    if not len(values):
        return 0, np.nan, np.nan, np.nan, np.nan
    return len(values), values.mean(), values.min(), values.max(), values.std(ddof=1) if len(values) > 1 else np.nan


def _summarise_rows(windows: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Return the same for each row, where NaN means no observation."""
    count = np.isfinite(windows).sum(axis=1)
    present = np.where(count > 0, count, np.nan)
    mean = np.nansum(windows, axis=1) / present
    squares = np.nansum((windows - mean[:, None]) ** 2, axis=1)
    std = np.sqrt(squares / np.where(count > 1, count - 1, np.nan))
    return count, mean, np.fmin.reduce(windows, axis=1), np.fmax.reduce(windows, axis=1), std


def _table(parts: Sequence[Frames]) -> pd.DataFrame:
    """Return the result of tsflex under the names of Vigil. A signal that a stay lacks has a count of 0."""
    table = pd.concat([pd.concat(frames, axis=1) for frames in parts])
    table.columns = table.columns.str.replace("__w=6h", "_6h").str.replace("__w=1D", "_24h").str.replace("__", "_")
    counts = [column for column in table if "_count_" in column]
    return table.fillna(dict.fromkeys(counts, 0)).reset_index(drop=True)


_OUR_STEP: Final = """
import sys
import time
from pathlib import Path

from vigil.features.batch import build_features
from vigil.features.store.partitions import FeatureParts
from vigil.models.cohort import index_times
from vigil.pipelines.cohort_store import CohortStore

started = time.perf_counter()
cohort = CohortStore(Path(sys.argv[1]))
features = build_features(cohort.read_partition("observations", 0), index_times(cohort.read_partition("stays", 0)))
FeatureParts(Path(sys.argv[2])).write(0, features, "benchmark")
print(time.perf_counter() - started)
"""


def _compare_meds_tab(slice_: Slice, meds_tab: Path | None, folder: Path) -> list[str]:
    if meds_tab is None:
        return ["meds-tab", "", "", "not measured: `python -m venv X && X/bin/pip install meds-tab`, then `--meds-tab X/bin`"]
    data, ours, theirs = folder / "meds", folder / "ours", folder / "theirs"
    theirs.mkdir()
    times = _as_meds(slice_.observations, data)

    def our_step() -> None:
        in_process(_OUR_STEP, str(slice_.home), str(ours))

    def their_step(workers: int) -> float:
        started = time.perf_counter()
        with TemporaryDirectory(dir=theirs) as out:  # a new folder each time, since meds-tab does not repeat existing output
            _run_meds_tab(meds_tab, data, Path(out), workers)
        return time.perf_counter() - started

    our_step()
    _run_meds_tab(meds_tab, data, theirs / "checked", workers=1)
    _check_meds_tab(ours, theirs / "checked", times)
    workers = min({1, os.cpu_count() or 1}, key=their_step)
    number = _run(meds_tab / "python", "-c", "from importlib.metadata import version; print(version('meds-tab'))").strip()
    return [f"meds-tab {number}", *in_turn(our_step, lambda: their_step(workers), ROUNDS).cells]


def _as_meds(observations: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Write observations as MEDS events that meds-tab 0.2.0 can read, and return the times that have one.

    meds-tab reads values of a code X/value only if a code X exists as well, and never the last event of a time. So the code of
    every observation is X/value, and every time ends with an event X. The value of that event is not read.
    """
    stay, subjects = pd.factorize(observations["subject_id"])
    events = pd.DataFrame(
        {
            "subject_id": stay.astype(np.int64),
            "time": _naive(observations["observed_at"]),
            "code": observations["signal"].astype(str) + "/value",
            "numeric_value": observations["value"].astype(np.float32),
        }
    )
    times = events[["subject_id", "time"]].drop_duplicates().sort_values(["subject_id", "time"])
    ends = times.assign(code=np.resize(np.array(VITALS, dtype=object), len(times)), numeric_value=np.float32(1))
    (folder / "train").mkdir(parents=True)
    ordered = pd.concat([events, ends]).sort_values(["subject_id", "time"], kind="stable")  # the additional events stay last
    ordered.to_parquet(folder / "train" / "0.parquet", index=False)
    return times.assign(subject=np.asarray(subjects, dtype=object)[times["subject_id"]])


def _run_meds_tab(programs: Path, data: Path, out: Path, workers: int) -> None:
    folders = (f"input_dir={data}", f"output_dir={out}")
    aggregations = ("tabularization.window_sizes=[6h,24h]", "tabularization.aggs=[value/count,value/sum]")
    parallel = ("--multirun", f"worker=range(0,{workers})", "hydra/launcher=joblib") if workers > 1 else ()
    _run(programs / "meds-tab-describe", *folders)
    _run(programs / "meds-tab-tabularize-time-series", *parallel, *folders, *aggregations)


def _run(program: Path, *arguments: str) -> str:
    """Run a program of the other environment, without PYTHONPATH, and return its output."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False, env=environment)
    if process.returncode:
        raise RuntimeError(f"exit status {process.returncode} of {program.name}: {process.stderr[-2000:]}")
    return process.stdout


def _check_meds_tab(ours: Path, theirs: Path, times: pd.DataFrame) -> None:
    """Compare count and sum at the times with an observation, for which meds-tab writes one row each."""
    features = pd.read_parquet(ours / "vital_signs" / "part-00000.parquet").set_index(["subject_id", "event_timestamp"])
    rows = features.loc[pd.MultiIndex.from_arrays([times["subject"], times["time"].dt.tz_localize("UTC")])]
    codes = sorted(pd.read_parquet(theirs / "metadata" / "codes.parquet")["code"])
    columns = [code for code in codes if code.endswith("/value")]
    for window in WINDOWS:
        counts = rows[[f"{signal}_count_{window}h" for signal in VITALS]].to_numpy(np.float64)
        means = rows[[f"{signal}_mean_{window}h" for signal in VITALS]].to_numpy(np.float64)
        for name, expected in (("count", counts), ("sum", np.where(counts > 0, counts * means, 0))):
            with np.load(theirs / "tabularize" / "train" / "0" / f"{window}h" / "value" / f"{name}.npz") as file:
                (values, row, column), shape = file["array"], file["shape"]
            matrix = np.zeros(shape)
            matrix[row.astype(int), column.astype(int)] = values
            matrix = matrix[:, [columns.index(f"{signal}/value/value") for signal in VITALS]]
            np.testing.assert_allclose(matrix, expected, rtol=1e-5, err_msg=f"meds-tab {name} {window}h")


def _naive(times: "pd.Series[pd.Timestamp]") -> Times:
    """Convert times to numpy, in UTC without a time zone."""
    return times.to_numpy("datetime64[us]")
