"""The window kernel compared with Polars and pandas. The outputs are checked to be equal before they are timed."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from tests.benchmarks.measure import Section, in_turn
from vigil.features.kernel import ObservationArrays, compute_window_statistics
from vigil.features.kernel.plan import HOUR_US, order_by_signal, plan_kernel
from vigil.features.windows import declare_statistics

SIGNALS = ("heart_rate", "respiratory_rate", "spo2", "systolic_bp", "diastolic_bp", "mean_bp")
PATIENTS, MINUTES = 100, 43_200  # a month each: 4.3 M readings of each signal
START = 1_700_002_800_000_000  # a whole hour
WINDOWS = (1, 6, 24)
PLAIN = ("count", "mean", "min", "max", "std", "last", "change")


class Month:
    """One-minute readings of some patients over a month, as each library would hold them in memory."""

    def __init__(self, patients: int, signals: tuple[str, ...]) -> None:
        rng = np.random.default_rng(2026)
        self.signals = signals
        self.bounds = np.arange(patients + 1) * MINUTES
        self.patient = np.repeat(np.arange(patients), MINUTES)
        self.observed = np.tile(START + np.arange(MINUTES) * (HOUR_US // 60), patients)
        self.outputs: dict[
            tuple[int, int, int], np.ndarray
        ] = {}  # reused output arrays, since Polars reuses its allocations as well
        self.values = {name: np.round(rng.normal(80, 12, patients * MINUTES)).clip(20, 300) for name in signals}
        self.hours = np.tile(START + np.arange(MINUTES // 60) * HOUR_US, patients)
        self.hour_bounds = np.arange(patients + 1) * (MINUTES // 60)

    def by_kernel(self, windows: tuple[int, ...], statistics: tuple[str, ...], *, dense: bool = False) -> list[np.ndarray]:
        """Run the kernel at each whole hour or (dense) at each reading, in parallel over patients; one row a feature."""
        features = order_by_signal(
            [feature for hours in windows for feature in declare_statistics(self.signals, hours, *statistics)]
        )
        names, planned = plan_kernel(features)
        times, bounds = (self.observed, self.bounds) if dense else (self.hours, self.hour_bounds)
        observed = np.concatenate([self.observed[:MINUTES]] * len(names))
        begin = np.arange(len(names))[:, None] * MINUTES
        shape = (len(bounds) - 1, len(features), bounds[1])
        if shape not in self.outputs:
            self.outputs[shape] = np.zeros(shape)
        out = self.outputs[shape]

        def compute(patient: int) -> np.ndarray:
            own = slice(self.bounds[patient], self.bounds[patient + 1])
            steps = np.empty((len(names), MINUTES), dtype=np.int64)
            for signal, name in enumerate(names):
                steps[signal] = np.rint(self.values[name][own] * 100)
            forgotten = np.zeros((0, 0, 3), dtype=np.int64)
            readings = ObservationArrays(observed, observed, steps.ravel(), begin, begin + MINUTES, forgotten)
            t = times[bounds[patient] : bounds[patient + 1]]
            compute_window_statistics(planned, readings, t, np.array([0, len(t)]), out[patient])
            return out[patient]

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(compute, range(len(bounds) - 1)))

    def frame_by_kernel(self, windows: tuple[int, ...], statistics: tuple[str, ...], *, dense: bool = False) -> pd.DataFrame:
        features = order_by_signal(
            [feature for hours in windows for feature in declare_statistics(self.signals, hours, *statistics)]
        )
        values = np.concatenate(self.by_kernel(windows, statistics, dense=dense), axis=1)
        return pd.DataFrame(values.T, columns=[feature.name for feature in features])

    def polars_frame(self):
        import polars as pl

        columns = {"patient": self.patient, "t": self.observed, **self.values}
        return pl.DataFrame(columns).with_columns(pl.col("t").cast(pl.Datetime("us")))

    def pandas_frame(self) -> pd.DataFrame:
        return pd.DataFrame({"patient": self.patient, "t": self.observed.astype("datetime64[us]"), **self.values})


def polars_hourly(frame, signals, windows, statistics):
    """Compute hourly windows with group_by_dynamic. The slope uses sums, which is many times faster than cov and var."""
    import polars as pl

    if "slope" in statistics:
        x = (pl.col("t").cast(pl.Int64) - START) / HOUR_US
        products = [(x * pl.col(name)).alias(f"{name}_x") for name in signals]
        frame = frame.with_columns(x.alias("x"), (x * x).alias("xx"), *products)
    n, sx, sxx = pl.len(), pl.col("x").sum(), pl.col("xx").sum()

    def expression(name, statistic):
        v = pl.col(name)
        if statistic == "slope":
            return (n * pl.col(f"{name}_x").sum() - sx * v.sum()) / (n * sxx - sx * sx)
        plain = {"count": n, "change": v.last() - v.first()}
        return plain.get(statistic) if statistic in plain else getattr(v, statistic)()

    frames = []
    for hours in windows:
        aggregates = [expression(name, s).alias(f"{name}_{s}_{hours}h") for name in signals for s in statistics]
        dynamic = frame.group_by_dynamic(
            "t", every="1h", period=f"{hours}h", offset=f"-{hours}h", closed="right", label="right", group_by="patient"
        )
        frames.append(dynamic.agg(aggregates))
    return frames


def polars_dense(frame, signals, hours, statistics):
    import polars as pl

    def expression(name, statistic):
        return pl.len() if statistic == "count" else getattr(pl.col(name), statistic)()

    aggregates = [expression(name, s).alias(f"{name}_{s}_{hours}h") for name in signals for s in statistics]
    return frame.rolling("t", period=f"{hours}h", group_by="patient").agg(aggregates)


def pandas_hourly(frame: pd.DataFrame, signals, windows) -> list[pd.DataFrame]:
    """Compute windows at every reading with rolling, and select the whole hours, since pandas has no coarser index."""
    frames = []
    for hours in windows:
        rolling = frame.groupby("patient").rolling(f"{hours}h", on="t")[list(signals)]
        rolled = pd.concat({s: getattr(rolling, s)() for s in ("count", "mean", "min", "max", "std")}, axis=1)
        frames.append(rolled.iloc[::60])
    return frames


def kernel_section() -> Section:
    """Measure all comparisons of the kernel."""
    month, few, single_signal = Month(PATIENTS, SIGNALS), Month(10, SIGNALS), Month(PATIENTS, SIGNALS[:1])
    _check(few, single_signal)
    frame, single, small = month.polars_frame(), single_signal.polars_frame(), few.pandas_frame()
    every, alone = (*PLAIN, "slope"), [frame.select("patient", "t", name) for name in SIGNALS]
    rows = [
        [
            f"hourly, 6 signals, each with its own times, 1 / 6 / 24 h: {', '.join(every)}",
            "Polars `group_by_dynamic`, slope from sums",
            *in_turn(
                lambda: month.by_kernel(WINDOWS, every),
                lambda: [polars_hourly(each, each.columns[2:], WINDOWS, every) for each in alone],
            ).cells,
        ],
        [
            "the same, all signals at the same times (no difference for Vigil)",
            "Polars, all columns at once",
            *in_turn(lambda: month.by_kernel(WINDOWS, every), lambda: polars_hourly(frame, SIGNALS, WINDOWS, every)).cells,
        ],
        [
            "the same without slope",
            "Polars, all columns at once",
            *in_turn(lambda: month.by_kernel(WINDOWS, PLAIN), lambda: polars_hourly(frame, SIGNALS, WINDOWS, PLAIN)).cells,
        ],
        [
            "hourly, a tenth of the patients: count, mean, min, max, std",
            "pandas `groupby.rolling`",
            *in_turn(lambda: few.by_kernel(WINDOWS, PLAIN[:5]), lambda: pandas_hourly(small, SIGNALS, WINDOWS), rounds=3).cells,
        ],
        [
            "at every reading, 1 signal, 24 h: count, mean, min, max, std",
            "Polars `rolling`",
            *in_turn(
                lambda: single_signal.by_kernel((24,), PLAIN[:5], dense=True),
                lambda: polars_dense(single, SIGNALS[:1], 24, PLAIN[:5]),
            ).cells,
        ],
    ]
    return Section(
        "Window statistics",
        f"{PATIENTS * MINUTES / 1e6:.1f} M one-minute readings of each signal, {PATIENTS} patients. Each library may use all "
        "cores and starts from columns in memory. Vigil's time includes rounding the values to whole steps. The outputs were "
        "compared first.",
        ["index and outputs", "alternative", "Vigil", "alternative's time", "ratio"],
        rows,
    )


def _check(few: Month, single_signal: Month) -> None:
    """Check that outputs are equal, from the second day on: at the edges of a series the windows differ."""
    statistics = (*PLAIN, "slope")
    ours = few.frame_by_kernel(WINDOWS, statistics).assign(patient=np.repeat(np.arange(10), MINUTES // 60), t=few.hours)
    for frame in polars_hourly(few.polars_frame(), SIGNALS, WINDOWS, statistics):
        theirs = frame.to_pandas()
        theirs["t"] = theirs["t"].astype("datetime64[us]").astype("int64")
        both = ours[ours["t"] >= START + 24 * HOUR_US].merge(theirs, on=["patient", "t"], suffixes=("", "_other"))
        assert len(both) == 10 * (MINUTES // 60 - 24)
        for name in theirs.columns.drop(["patient", "t"]):
            np.testing.assert_allclose(both[name], both[f"{name}_other"], rtol=1e-6, atol=1e-6, err_msg=name)
    for hours, frame in zip(WINDOWS, pandas_hourly(few.pandas_frame(), SIGNALS, WINDOWS), strict=True):
        for statistic in PLAIN[:5]:
            theirs = frame[statistic]["spo2"].to_numpy()
            np.testing.assert_allclose(ours[f"spo2_{statistic}_{hours}h"], theirs, rtol=1e-6, atol=1e-6, err_msg=statistic)
    dense = single_signal.frame_by_kernel((24,), PLAIN[:5], dense=True)
    theirs = polars_dense(single_signal.polars_frame(), SIGNALS[:1], 24, PLAIN[:5]).to_pandas()
    for name in dense.columns:
        np.testing.assert_allclose(dense[name], theirs[name].astype(float), rtol=1e-6, atol=1e-6, err_msg=name)
