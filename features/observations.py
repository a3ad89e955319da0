"""The contract of observations, and the check that every observation passes before features are computed from it.

A frame of observations is long: one row is one observation. Rows that fail the check are not dropped. They are quarantined
with a reason, and only the quarantine holds the offending value.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from features.errors import VigilError
from features.identifiers import is_identifier
from features.signals import SIGNALS

TIME: Final = "datetime64[us, UTC]"  # microseconds: Feast cannot materialize nanoseconds
REQUIRED: Final = ("subject_id", "observed_at", "signal", "value")
COLUMNS: Final = (*REQUIRED, "recorded_at", "device_id", "source", "message_id")
KEY: Final = ["subject_id", "signal", "observed_at", "recorded_at", "value"]
# Each gateway numbers its own messages, and one message may carry several observations.
MESSAGE_KEY: Final = ["source", "message_id", "subject_id", "signal", "observed_at"]

_LARGEST: Final = 2**62  # far above the plausible range of every signal

# Reasons in the order in which they are tested. An observation is quarantined for the first reason that applies.
REASONS: Final = {
    "missing_subject": "subject_id is missing",
    "unclear_subject": "subject_id begins or ends with a space, or has an invisible character or one with two encodings",
    "missing_time": "observed_at or recorded_at is missing, unreadable, or in an impossible year",
    "recorded_before_observed": "recorded_at is earlier than observed_at",
    "in_the_future": "recorded_at is later than the present",
    "unknown_signal": "signal is not in the signal table",
    "unknown_unit": "unit is not the signal's UCUM unit",
    "not_a_number": "value is missing, infinite or not a number",
    "not_a_code": "value is not a whole number, but the signal is coded",
    "implausible": "value is outside the signal's plausible range",
    "duplicate_message": "this observation of this message was received before",
    "duplicate_reading": "the same value of the same signal at the same time was received before",
}


class ObservationError(VigilError):
    """A frame cannot be read as observations at all."""


@dataclass(frozen=True)
class CheckedObservations:
    """The result of :func:`check`.

    Attributes:
        accepted: Usable observations with the columns :data:`COLUMNS`, sorted by :data:`KEY`. Values are rounded to the
            resolution of their signal.
        quarantined: The other rows, unchanged, with a column ``reason`` (a key of :data:`REASONS`).
    """

    accepted: pd.DataFrame
    quarantined: pd.DataFrame


def check(frame: pd.DataFrame, now: pd.Timestamp | None = None) -> CheckedObservations:
    """Separate observations that can be used from those that cannot.

    Args:
        frame: One row is one observation. Required columns: ``subject_id``, ``observed_at`` (with time zone), ``signal``,
            ``value``. Optional columns: ``recorded_at`` (default: ``observed_at``), ``device_id``, ``source``,
            ``message_id``, and ``unit`` (UCUM; if given, it must be the signal's unit).
        now: The present. An observation recorded after it is quarantined. Leave it out for a cohort, whose times may lie in
            any year.

    Raises:
        ObservationError: A required column is missing, or a time has no time zone. No row can then be checked.

    >>> time = pd.Timestamp("2026-01-31T08:00:00Z")
    >>> frame = pd.DataFrame({"subject_id": "a", "observed_at": time, "signal": "heart_rate", "value": [80.004, 0.0]})
    >>> checked = check(frame)
    >>> checked.accepted[["subject_id", "signal", "value"]].values.tolist()
    [['a', 'heart_rate', 80.0]]
    >>> checked.quarantined[["value", "reason"]].values.tolist()
    [[0.0, 'implausible']]
    """
    missing = [column for column in REQUIRED if column not in frame]
    if missing:
        raise ObservationError(
            f"observations: missing column {', '.join(missing)}; expected {', '.join(REQUIRED)} "
            f"and optionally {', '.join(COLUMNS[len(REQUIRED) :])}, unit; got {', '.join(map(str, frame.columns))}"
        )
    rows = frame.reset_index(drop=True)
    normalised = pd.DataFrame(
        {
            "subject_id": rows["subject_id"],
            "observed_at": _to_utc(rows["observed_at"], "observed_at"),
            "signal": rows["signal"],
            "value": to_numbers(rows["value"]),
        }
    )
    normalised["recorded_at"] = (
        _to_utc(rows["recorded_at"], "recorded_at") if "recorded_at" in rows else normalised["observed_at"]
    )
    for column in ("device_id", "source", "message_id"):
        normalised[column] = rows[column] if column in rows else pd.Series(pd.NA, index=rows.index, dtype="string")

    reason = _first_reason(normalised, rows.get("unit"), now)
    accepted = normalised[reason == ""].copy()
    accepted["value"] = to_resolution(accepted["value"].to_numpy(), accepted["signal"])
    accepted = accepted.sort_values(KEY, kind="stable")
    reason.loc[accepted.index[_is_repeat(accepted, MESSAGE_KEY) & accepted["message_id"].notna()]] = "duplicate_message"
    accepted = accepted[reason.loc[accepted.index] == ""]
    reason.loc[accepted.index[_is_repeat(accepted, ["subject_id", "signal", "observed_at", "value"])]] = "duplicate_reading"
    accepted = accepted[reason.loc[accepted.index] == ""]
    rejected = reason != ""
    quarantined = rows[rejected].assign(reason=reason[rejected])
    return CheckedObservations(accepted.reset_index(drop=True), quarantined.reset_index(drop=True))


def to_resolution(values: np.ndarray, signal: "pd.Series[str]") -> np.ndarray:
    """Round values to the resolution of their signals.

    The result is the float64 nearest to step / steps_per_unit, where step is the nearest whole step.

    >>> to_resolution(np.array([36.6000001, 80.264]), pd.Series(["body_temperature", "heart_rate"]))
    array([36.6 , 80.26])
    """
    steps = _look_up(signal, "steps_per_unit")
    rounded: np.ndarray = np.rint(values * steps) / steps
    return rounded


def _first_reason(normalised: pd.DataFrame, unit: "pd.Series[str] | None", now: pd.Timestamp | None) -> "pd.Series[str]":
    is_known = normalised["signal"].isin(SIGNALS)
    value = normalised["value"].to_numpy()
    with np.errstate(invalid="ignore"):
        is_implausible = (value < _look_up(normalised["signal"], "low")) | (value > _look_up(normalised["signal"], "high"))
    tests = {
        "missing_subject": normalised["subject_id"].isna() | (normalised["subject_id"].astype("string") == ""),
        "unclear_subject": _is_unclear(normalised["subject_id"]),
        "missing_time": normalised["observed_at"].isna() | normalised["recorded_at"].isna(),
        "recorded_before_observed": normalised["recorded_at"] < normalised["observed_at"],
        "in_the_future": normalised["recorded_at"] > now if now is not None else pd.Series(False, index=normalised.index),
        "unknown_signal": ~is_known,
        "unknown_unit": _has_wrong_unit(normalised["signal"], unit)
        if unit is not None
        else pd.Series(False, index=normalised.index),
        "not_a_number": ~np.isfinite(value),
        "not_a_code": (_look_up(normalised["signal"], "coded") == 1) & (value != np.rint(value)),
        "implausible": is_implausible,
    }
    return pd.Series(
        np.select([np.asarray(test, dtype=bool) for test in tests.values()], list(tests), default=""), index=normalised.index
    )


def _is_unclear(names: "pd.Series[str]") -> np.ndarray:
    codes, uniques = pd.factorize(names)
    return np.array([*(not is_identifier(str(name)) for name in uniques), False])[codes]


def _has_wrong_unit(signal: "pd.Series[str]", unit: "pd.Series[str]") -> np.ndarray:
    expected = signal.astype(object).map({name: known.unit for name, known in SIGNALS.items()})
    return np.asarray(unit.notna() & (unit.astype(object) != expected), dtype=bool)


def _look_up(signal: "pd.Series[str]", field: str) -> np.ndarray:
    """Return a field of the signal table for every row, NaN where the signal is unknown."""
    codes, uniques = pd.factorize(signal)
    by_code = np.array([float(getattr(SIGNALS[name], field)) if name in SIGNALS else np.nan for name in uniques] + [np.nan])
    return by_code[codes]  # code -1 (missing) selects the NaN at the end


def _is_repeat(frame: pd.DataFrame, columns: list[str]) -> np.ndarray:
    return frame.duplicated(columns, keep="first").to_numpy()


def _to_utc(times: "pd.Series[pd.Timestamp]", column: str) -> "pd.Series[pd.Timestamp]":
    """Return times as UTC microseconds.

    A missing time zone is an error of the whole frame, because a wrong guess would shift every window.
    """
    if isinstance(times.dtype, pd.DatetimeTZDtype):
        instants = times.astype(TIME)
    else:
        parsed = [_parse_time(value) for value in times]
        if any(not pd.isna(value) and value.tzinfo is None for value in parsed):
            raise ObservationError(
                f"{column}: time without a time zone; expected an instant such as 2026-01-31T08:00:00Z; "
                "add the zone first (pandas: .dt.tz_localize(zone))"
            )
        utc = [np.datetime64("NaT") if pd.isna(value) else value.tz_convert("UTC").to_datetime64() for value in parsed]
        instants = pd.Series(np.array(utc, dtype="datetime64[us]"), index=times.index).dt.tz_localize("UTC")
    # Nanosecond timestamps, which most software uses, cannot represent other years.
    return instants.where((instants > pd.Timestamp.min.tz_localize("UTC")) & (instants < pd.Timestamp.max.tz_localize("UTC")))


def _parse_time(value: object) -> pd.Timestamp:
    try:
        return pd.Timestamp(value)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return pd.NaT  # type: ignore[return-value]


def to_numbers(values: "pd.Series[float]") -> "pd.Series[float]":
    """Convert values to float64, NaN where a value is not a number.

    >>> to_numbers(pd.Series([80, "81.5", "eighty"], dtype=object)).tolist()
    [80.0, 81.5, nan]
    """
    try:
        return pd.to_numeric(values, errors="coerce").astype("float64")
    except OverflowError:  # an integer too large for a float
        return values.map(lambda value: np.inf if isinstance(value, int) and abs(value) > _LARGEST else value).pipe(to_numbers)
