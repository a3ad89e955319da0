"""Time in range and the ambulatory glucose profile of continuous glucose monitors (CGM).

Ranges, and the rule that 70 % of 14 days are enough: Battelino T, et al. Clinical targets for continuous glucose monitoring
data interpretation: recommendations from the international consensus on time in range. Diabetes Care 2019;42:1593-1603. Trials
report the same figures: Battelino T, et al. Continuous glucose monitoring and metrics for clinical trials: an international
consensus statement. Lancet Diabetes Endocrinol 2023;11:42-57.

Shares are of time and not of readings, since sensors differ in how often they measure. A reading stands for the time until the
next one, and at most for the interval of its sensor: so no gap is filled. The interval is the median of the nine spacings
around the reading, and never more than 15 minutes. The consensus leaves this open; it is our choice.

A value is put into a range as a whole number of mg/dL, since the ranges are written so (70-180, then 181-250). Then values in
mmol/L with one decimal fall into the same ranges as the consensus states for mmol/L.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.declarations import Declarations, SourceDeclaration
from vigil.features.errors import VigilError
from vigil.features.measures import name_signal
from vigil.features.observations import REQUIRED, ObservationError, check
from vigil.features.signals import SIGNALS, bound_name, signal_with_bounds
from vigil.features.units import CONVERSIONS, canonical_unit, understood_units

GLUCOSE: Final = "glucose"
OWN_UNIT: Final = SIGNALS[GLUCOSE].unit
# Highest whole mg/dL of each range but the last. Battelino 2019, table 2 and figure 1.
RANGES: Final = {"very_low": 53.0, "low": 69.0, "in_range": 180.0, "high": 250.0, "very_high": np.inf}
PERIOD_DAYS: Final = 14.0  # Battelino 2019, table 2
ENOUGH_PERCENT: Final = 70.0  # of the period, with an active sensor: the same table
# Bergenstal RM, et al. Glucose management indicator (GMI). Diabetes Care 2018;41:2275-2280. The mean is in mg/dL.
GMI_INTERCEPT: Final = 3.31
GMI_SLOPE: Final = 0.02392
PERCENTILES: Final = {"p05": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95}

_BEYOND: Final = 1.0  # mg/dL: a bound counts as one step beyond its limit, as programs of manufacturers write 39 and 401
_LONGEST_INTERVAL: Final = 15.0  # minutes between readings of the slowest sensors in use
_SPACINGS: Final = 9  # around a reading, of which the median is the interval of its sensor; ours
_DAY_MINUTES: Final = 24 * 60
_MINUTE: Final = 60e6  # microseconds

Float64 = NDArray[np.float64]


class GlucoseError(VigilError):
    """Readings of glucose that cannot be summarised."""


def time_in_range(
    frame: pd.DataFrame,
    *,
    unit: str | None = None,
    time_zone: str | None = None,
    sensor_range: tuple[float, float] | None = None,
    days: float = PERIOD_DAYS,
) -> pd.DataFrame:
    """Return the consensus figures of each patient over their last days.

    Args:
        frame: a row a reading: ``subject_id, observed_at, signal, value``, and others (:mod:`vigil.features.observations`).
            Rows of other signals than glucose do not count.
        unit: of the results, and of values that state none, such as ``mmol/L``. None: mg/dL, and every value states its unit.
        time_zone: of times without one, such as ``Europe/Berlin``.
        sensor_range: lowest and highest value that the sensors measure, in ``unit``: what ``Low`` and ``High`` stand for.
        days: the period, which ends with the last reading of each patient.

    Returns:
        A row a patient:

        - ``subject_id``; ``start, end`` of the period (UTC); ``readings`` in it; ``left_out``: readings that could not be used,
          of any time, duplicates apart;
        - ``active``: percent of the period with an active sensor; ``sufficient``: whether the period has 14 days or more and
          the sensor was active for 70 % of it or more;
        - percent of the active time: ``very_low`` (below 54 mg/dL), ``low`` (54-69), ``in_range`` (70-180), ``high`` (181-250),
          ``very_high`` (above 250), and ``at_limit``: with Low or High in place of a value, one mg/dL beyond the limit;
        - weighted by time: ``mean`` (in ``unit``), ``gmi`` (percent), ``cv`` (percent: standard deviation over mean).

        Without a usable reading the figures are NaN.

    Raises:
        GlucoseError: no reading can be used, or its unit, or what Low means, is not stated.
        ObservationError: a column is missing, or a time has no time zone and none is given.

    >>> times = pd.date_range("2026-03-01T00:00Z", periods=4032, freq="5min")
    >>> values = [60, 100, 100, 200] * 1008
    >>> frame = pd.DataFrame({"subject_id": "a", "observed_at": times, "signal": "glucose", "value": values, "unit": "mg/dL"})
    >>> time_in_range(frame)[["active", "sufficient", "low", "in_range", "high", "mean", "gmi"]].round(2).values.tolist()
    [[100.0, True, 25.0, 50.0, 25.0, 115.0, 6.06]]
    """
    readings, left_out = read_sensors(frame, unit=unit, time_zone=time_zone, sensor_range=sensor_range)
    per_unit = 1 / _own_per_unit(unit or OWN_UNIT)
    rows = []
    for subject, own in _last_days(readings, days).groupby("subject_id"):
        value, minutes, end = own["value"].to_numpy(), own["minutes"].to_numpy(), own["end"].iloc[0]
        mean = float(np.average(value, weights=minutes))
        active = 100 * float(minutes.sum()) / (days * _DAY_MINUTES)
        rows.append(
            {
                "subject_id": subject,
                "start": end - pd.Timedelta(days=days),
                "end": end,
                "readings": len(own),
                "active": active,
                "sufficient": days >= PERIOD_DAYS and active >= ENOUGH_PERCENT,
                **_shares(value, minutes),
                "at_limit": 100 * float(minutes[own["at_limit"]].sum() / minutes.sum()),
                "mean": mean * per_unit,
                "gmi": GMI_INTERCEPT + GMI_SLOPE * mean,
                "cv": 100 * float(np.sqrt(np.average((value - mean) ** 2, weights=minutes))) / mean,
            }
        )
    table = pd.DataFrame(rows).set_index("subject_id").reindex(left_out.index)
    table.insert(3, "left_out", left_out)
    table["readings"] = table["readings"].fillna(0).astype(np.int64)
    table["active"] = table["active"].fillna(0.0)
    table["sufficient"] = table["sufficient"].eq(True)
    return table.reset_index()


def glucose_profile(
    frame: pd.DataFrame,
    *,
    time_zone: str | Mapping[str, str],
    unit: str | None = None,
    sensor_range: tuple[float, float] | None = None,
    days: float = PERIOD_DAYS,
    bin_minutes: int = 15,
) -> pd.DataFrame:
    """Return the ambulatory glucose profile of each patient: percentiles by time of day over their last days.

    Percentiles are weighted by time, and not smoothed. On the day on which the clocks go back, both hours of one name count for
    that name; on the day on which they go forward, the hour that is skipped has no readings.

    Args:
        frame, unit, sensor_range, days: as :func:`time_in_range` takes them.
        time_zone: where the patients live, by whose clocks their day goes: one for all, or one for each ``subject_id``.
        bin_minutes: width of a bin of the day, which divides it without rest.

    Returns:
        A row for each patient and bin: ``subject_id``; ``minute`` of the local day at which the bin begins; ``p05, p25, median,
        p75, p95`` in ``unit`` (NaN: no reading); ``readings``, and ``days`` with one.

    Raises:
        GlucoseError: as :func:`time_in_range`; or a time zone is unknown, or bins do not divide the day.
    """
    if bin_minutes < 1 or _DAY_MINUTES % bin_minutes:
        raise GlucoseError(f"bin_minutes={bin_minutes}: expected a number of minutes that divides the day, such as 15")
    one = time_zone if isinstance(time_zone, str) else None
    readings, _ = read_sensors(frame, unit=unit, time_zone=one, sensor_range=sensor_range)
    readings = _last_days(readings, days)
    local = local_times(readings, time_zone)
    per_unit = 1 / _own_per_unit(unit or OWN_UNIT)
    minutes = local.dt.hour * 60 + local.dt.minute
    placed = readings.assign(minute=minutes // bin_minutes * bin_minutes, date=local.dt.date)
    rows = [
        {
            "subject_id": subject,
            "minute": minute,
            **_percentiles(own["value"].to_numpy() * per_unit, own["minutes"].to_numpy()),
            "readings": len(own),
            "days": own["date"].nunique(),
        }
        for (subject, minute), own in placed.groupby(["subject_id", "minute"])
    ]
    bins = range(0, _DAY_MINUTES, bin_minutes)
    every = pd.MultiIndex.from_product([placed["subject_id"].unique(), bins], names=["subject_id", "minute"])
    table = pd.DataFrame(rows).set_index(["subject_id", "minute"]).reindex(every)
    return table.fillna({"readings": 0, "days": 0}).astype({"readings": np.int64, "days": np.int64}).reset_index()


def read_sensors(
    frame: pd.DataFrame,
    *,
    unit: str | None = None,
    time_zone: str | None = None,
    sensor_range: tuple[float, float] | None = None,
) -> tuple[pd.DataFrame, "pd.Series[int]"]:
    """Return the readings of glucose, one at each time, and how many of each patient were left out.

    Args:
        frame, unit, time_zone, sensor_range: as :func:`time_in_range` takes them.

    Returns:
        ``subject_id, observed_at, value`` (mg/dL), ``at_limit`` (a bound in place of a value) and ``minutes`` that a reading
        stands for, by patient and time; and the number of unusable readings by ``subject_id``, duplicates apart.

    Raises:
        GlucoseError, ObservationError: as :func:`time_in_range`.
    """
    if missing := [column for column in REQUIRED if column not in frame]:
        raise ObservationError(f"frame: missing column {', '.join(missing)}; expected {', '.join(REQUIRED)}")
    names = {sent: name_signal(sent) for sent in frame["signal"].unique()}
    rows = frame[frame["signal"].astype(object).map(names).isin(signal_with_bounds(GLUCOSE))]
    if rows.empty:
        raise GlucoseError(f"frame: no reading of glucose among {len(frame):,} rows; expected rows with the signal {GLUCOSE}")
    checked = check(_localise(rows, time_zone), declared=_declare(unit, time_zone, sensor_range))
    quarantined = checked.quarantined[~checked.quarantined["reason"].str.startswith(("duplicate", "superseded"))]
    _require_meaning(quarantined["reason"], None if checked.accepted.empty else len(checked.accepted))
    readings = one_reading_a_time(checked.accepted)
    left_out = quarantined.groupby("subject_id", observed=True).size()
    return readings.assign(minutes=_minutes(readings)), left_out.reindex(rows["subject_id"].dropna().unique(), fill_value=0)


def one_reading_a_time(accepted: pd.DataFrame) -> pd.DataFrame:
    """Return the glucose of checked observations, one reading at each time of a patient.

    Of several the one that was recorded later counts, and of those recorded together the worse, as everywhere
    (:mod:`vigil.features.ties`).

    Returns:
        ``subject_id, observed_at, value`` (mg/dL; a bound counts as one step beyond its limit) and ``at_limit``.
    """
    signal = accepted["signal"].astype(str)
    below, above = signal == bound_name(GLUCOSE, "below"), signal == bound_name(GLUCOSE, "above")
    value = accepted["value"] + _BEYOND * (above.astype(float) - below.astype(float))
    rows = accepted[["subject_id", "observed_at", "recorded_at"]].assign(
        subject_id=accepted["subject_id"].astype(str), value=value, at_limit=below | above
    )
    rows["severity"] = (value - SIGNALS[GLUCOSE].usual).abs()
    rows = rows.sort_values(["subject_id", "observed_at", "recorded_at", "severity"], kind="stable")
    rows = rows.drop_duplicates(["subject_id", "observed_at"], keep="last", ignore_index=True)
    return rows[["subject_id", "observed_at", "value", "at_limit"]]


def local_times(readings: pd.DataFrame, time_zone: str | Mapping[str, str]) -> "pd.Series[pd.Timestamp]":
    """Return the time of each reading by the clock of its patient, without a zone.

    Args:
        readings: ``subject_id, observed_at``.
        time_zone: one for all, or one for each ``subject_id``.

    Raises:
        GlucoseError: a time zone is unknown, or that of a patient is missing.
    """
    if isinstance(time_zone, str):
        everywhere: pd.Series[pd.Timestamp] = readings["observed_at"].dt.tz_convert(_zone(time_zone)).dt.tz_localize(None)
        return everywhere
    zones = readings["subject_id"].map(dict(time_zone))
    if zones.isna().any():
        raise GlucoseError("time_zone: none for some of the patients; expected one for each subject_id, or one for all")
    local = pd.Series(pd.NaT, index=readings.index, dtype="datetime64[us]")
    for name, own in readings["observed_at"].groupby(zones):
        local.loc[own.index] = own.dt.tz_convert(_zone(str(name))).dt.tz_localize(None)
    return local


def _last_days(readings: pd.DataFrame, days: float) -> pd.DataFrame:
    """Return the readings of each patient's last days, and the ``end`` of these: of the time for which the last one stands."""
    if not days > 0:
        raise GlucoseError(f"days={days:g}: expected more than 0; the consensus takes {PERIOD_DAYS:g}")
    last = readings.drop_duplicates("subject_id", keep="last").set_index("subject_id")
    end = readings["subject_id"].map(
        last["observed_at"] + pd.to_timedelta(last["minutes"], unit="min").astype("timedelta64[us]")
    )
    return readings.assign(end=end)[readings["observed_at"] >= end - pd.Timedelta(days=days)]


def _minutes(readings: pd.DataFrame) -> Float64:
    """Return for how many minutes each reading stands."""
    time = readings["observed_at"].to_numpy("datetime64[us]").astype(np.int64)
    subject = readings["subject_id"].to_numpy()
    until_next = np.append(np.diff(time) / _MINUTE, np.nan)
    until_next[np.append(subject[1:] != subject[:-1], True)] = np.nan
    spacings = pd.Series(until_next).groupby(subject, sort=False)
    around = spacings.transform(lambda own: own.rolling(_SPACINGS, center=True, min_periods=1).median())
    interval = around.fillna(_LONGEST_INTERVAL).clip(upper=_LONGEST_INTERVAL).to_numpy()
    minutes: Float64 = np.fmin(until_next, interval)
    return minutes


def _shares(value: Float64, minutes: Float64) -> dict[str, float]:
    """Return the percent of time in each range."""
    position = np.searchsorted(np.array(list(RANGES.values())), np.rint(value))
    time = np.bincount(position, weights=minutes, minlength=len(RANGES))
    return dict(zip(RANGES, (100 * time / time.sum()).tolist(), strict=True))


def _percentiles(value: Float64, minutes: Float64) -> dict[str, float]:
    shares = list(PERCENTILES.values())
    found = np.quantile(value, shares, weights=minutes, method="inverted_cdf")
    return dict(zip(PERCENTILES, found.tolist(), strict=True))


def _declare(unit: str | None, time_zone: str | None, sensor_range: tuple[float, float] | None) -> Declarations:
    """Return what the arguments say of values that state no unit, and of Low and High."""
    declared = SourceDeclaration(time_zone=None if time_zone is None else _zone(time_zone))
    if unit is not None:
        _own_per_unit(unit)
        declared = replace(declared, units={GLUCOSE: unit})
    if sensor_range is not None:
        low, high = sensor_range
        if not low < high:
            raise GlucoseError(f"sensor_range=({low:g}, {high:g}): expected the lowest value first, such as (40, 400) in mg/dL")
        declared = replace(declared, ranges={GLUCOSE: (low, high)})
    return Declarations(declared)


def _require_meaning(reasons: "pd.Series[str]", accepted: int | None) -> None:
    """Refuse readings that would bias every figure if they were left out, and readings of which none can be used."""
    counts = reasons.value_counts()
    if number := int(counts.get("missing_unit", 0)):
        raise GlucoseError(f"unit: {number:,} readings state none; give unit='mg/dL' or unit='mmol/L', or a column unit")
    if number := int(counts.get("undeclared_range", 0)):
        raise GlucoseError(
            f"sensor_range: {number:,} readings are Low or High, and what the sensor measures is not stated; give, for "
            "example, sensor_range=(40, 400) in mg/dL"
        )
    if accepted is None:
        why = ", ".join(f"{reason} {number:,}" for reason, number in counts.items())
        raise GlucoseError(
            f"frame: no reading of glucose can be used ({why}); expected values in {OWN_UNIT} or with their unit"
        )


def _localise(rows: pd.DataFrame, time_zone: str | None) -> pd.DataFrame:
    """Return rows whose timestamps have a zone, where one is given; a time that the clocks had not, or twice, becomes NaT."""
    times = rows["observed_at"]
    if time_zone is None or not pd.api.types.is_datetime64_dtype(times):
        return rows
    return rows.assign(observed_at=times.dt.tz_localize(_zone(time_zone), ambiguous="NaT", nonexistent="NaT"))


def _own_per_unit(unit: str) -> float:
    """Return how many mg/dL one of a unit is."""
    canonical = canonical_unit(unit)
    if canonical == OWN_UNIT:
        return 1.0
    if canonical not in CONVERSIONS[GLUCOSE]:
        raise GlucoseError(f"unit={unit!r}: not understood; expected one of {', '.join(understood_units(GLUCOSE))}")
    return float(CONVERSIONS[GLUCOSE][canonical].factor)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise GlucoseError(f"time_zone={name!r}: unknown; expected a name such as Europe/Berlin") from None
