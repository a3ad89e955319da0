"""The Observation contract, and the check every reading passes before anything is computed from it.

A frame of observations is long: one row a reading. What fails the check is not dropped but quarantined, with a reason;
only the quarantine holds the offending value.
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
# A gateway numbers its own messages, and a message may carry several readings.
MESSAGE_KEY: Final = ["source", "message_id", "subject_id", "signal", "observed_at"]

_LARGEST: Final = 2**62  # no value of any signal is near

# Reasons in the order in which they are tested: a reading is quarantined for the first that applies.
REASONS: Final = {
    "missing_subject": "subject_id is missing",
    "unclear_subject": "subject_id has a blank at an end, or a character that cannot be seen or has two spellings",
    "missing_time": "observed_at or recorded_at is missing, unreadable, or of an impossible year",
    "recorded_before_observed": "recorded_at is earlier than observed_at",
    "in_the_future": "recorded_at is later than the present",
    "unknown_signal": "signal is not in the signal table",
    "unknown_unit": "unit is not the signal's UCUM unit",
    "not_a_number": "value is missing, infinite or not a number",
    "not_a_code": "value is between two codes of a coded signal",
    "implausible": "value is outside the signal's plausible range",
    "duplicate_message": "this reading of this message was seen before",
    "duplicate_reading": "the same value of the same signal at the same time was seen before",
}


class ObservationError(VigilError):
    """The frame as a whole cannot be read as observations."""


@dataclass(frozen=True)
class Checked:
    """Outcome of :func:`check`.

    Attributes:
        accepted: plausible observations, columns :data:`COLUMNS`, values on their signal's resolution, in order of
            :data:`KEY`.
        quarantined: the other rows as they came, with a column ``reason`` (a key of :data:`REASONS`).
    """

    accepted: pd.DataFrame
    quarantined: pd.DataFrame


def check(frame: pd.DataFrame, now: pd.Timestamp | None = None) -> Checked:
    """Divide readings into those that can be used and those that cannot.

    Args:
        frame: one row a reading. Required: ``subject_id``, ``observed_at`` (with time zone), ``signal``, ``value``.
            Optional: ``recorded_at`` (default: ``observed_at``), ``device_id``, ``source``, ``message_id``, and ``unit``
            (UCUM; where given it must be the signal's).
        now: the present, where there is one (a replayed cohort may lie in any year): nothing is recorded after it.

    Raises:
        ObservationError: a required column is missing, or a time has no time zone. Nothing can then be said of any row.
    """
    missing = [column for column in REQUIRED if column not in frame]
    if missing:
        raise ObservationError(
            f"observations: missing column {', '.join(missing)}; expected {', '.join(REQUIRED)} "
            f"and optionally {', '.join(COLUMNS[len(REQUIRED) :])}, unit; got {', '.join(map(str, frame.columns))}"
        )
    rows = frame.reset_index(drop=True)
    clean = pd.DataFrame(
        {
            "subject_id": rows["subject_id"],
            "observed_at": _utc(rows["observed_at"], "observed_at"),
            "signal": rows["signal"],
            "value": numbers(rows["value"]),
        }
    )
    clean["recorded_at"] = _utc(rows["recorded_at"], "recorded_at") if "recorded_at" in rows else clean["observed_at"]
    for column in ("device_id", "source", "message_id"):
        clean[column] = rows[column] if column in rows else pd.Series(pd.NA, index=rows.index, dtype="string")

    reason = _first_reason(clean, rows.get("unit"), now)
    good = reason == ""
    accepted = clean[good].copy()
    accepted["value"] = to_resolution(accepted["value"].to_numpy(), accepted["signal"])
    accepted = accepted.sort_values(KEY, kind="stable")
    reason.loc[accepted.index[_repeats(accepted, MESSAGE_KEY) & accepted["message_id"].notna()]] = "duplicate_message"
    accepted = accepted[reason.loc[accepted.index] == ""]
    reason.loc[accepted.index[_repeats(accepted, ["subject_id", "signal", "observed_at", "value"])]] = "duplicate_reading"
    accepted = accepted[reason.loc[accepted.index] == ""]
    bad = reason != ""
    return Checked(accepted.reset_index(drop=True), rows[bad].assign(reason=reason[bad]).reset_index(drop=True))


def to_resolution(values: np.ndarray, signal: "pd.Series[str]") -> np.ndarray:
    """Round values to their signal's resolution: the nearest whole step, exactly representable as step / steps_per_unit."""
    steps = _of_table(signal, "steps_per_unit")
    rounded: np.ndarray = np.rint(values * steps) / steps
    return rounded


def _first_reason(clean: pd.DataFrame, unit: "pd.Series[str] | None", now: pd.Timestamp | None) -> "pd.Series[str]":
    known = clean["signal"].isin(SIGNALS)
    value = clean["value"].to_numpy()
    with np.errstate(invalid="ignore"):
        implausible = (value < _of_table(clean["signal"], "low")) | (value > _of_table(clean["signal"], "high"))
    tests = {
        "missing_subject": clean["subject_id"].isna() | (clean["subject_id"].astype("string") == ""),
        "unclear_subject": _unclear(clean["subject_id"]),
        "missing_time": clean["observed_at"].isna() | clean["recorded_at"].isna(),
        "recorded_before_observed": clean["recorded_at"] < clean["observed_at"],
        "in_the_future": clean["recorded_at"] > now if now is not None else pd.Series(False, index=clean.index),
        "unknown_signal": ~known,
        "unknown_unit": _wrong_unit(clean["signal"], unit) if unit is not None else pd.Series(False, index=clean.index),
        "not_a_number": ~np.isfinite(value),
        "not_a_code": (_of_table(clean["signal"], "coded") == 1) & (value != np.rint(value)),
        "implausible": implausible,
    }
    return pd.Series(
        np.select([np.asarray(test, dtype=bool) for test in tests.values()], list(tests), default=""), index=clean.index
    )


def _unclear(names: "pd.Series[str]") -> np.ndarray:
    codes, uniques = pd.factorize(names)
    return np.array([*(not is_identifier(str(name)) for name in uniques), False])[codes]


def _wrong_unit(signal: "pd.Series[str]", unit: "pd.Series[str]") -> np.ndarray:
    expected = signal.astype(object).map({name: entry.unit for name, entry in SIGNALS.items()})
    return np.asarray(unit.notna() & (unit.astype(object) != expected), dtype=bool)


def _of_table(signal: "pd.Series[str]", field: str) -> np.ndarray:
    """A field of the signal table for every row; NaN where the signal is not in it."""
    codes, uniques = pd.factorize(signal)
    by_code = np.array([float(getattr(SIGNALS[name], field)) if name in SIGNALS else np.nan for name in uniques] + [np.nan])
    return by_code[codes]  # code -1 (missing) takes the NaN at the end


def _repeats(frame: pd.DataFrame, columns: list[str]) -> np.ndarray:
    return frame.duplicated(columns, keep="first").to_numpy()


def _utc(times: "pd.Series[pd.Timestamp]", column: str) -> "pd.Series[pd.Timestamp]":
    """Times as UTC microseconds. A missing zone is an error of the whole frame: guessing one would shift every window."""
    if isinstance(times.dtype, pd.DatetimeTZDtype):
        instants = times.astype(TIME)
    else:
        parsed = [_timestamp(value) for value in times]
        if any(not pd.isna(value) and value.tzinfo is None for value in parsed):
            raise ObservationError(
                f"{column}: time without a time zone; expected an instant such as 2026-01-31T08:00:00Z; "
                "say which zone it is in (pandas: .dt.tz_localize(zone)) before handing it over"
            )
        utc = [np.datetime64("NaT") if pd.isna(value) else value.tz_convert("UTC").to_datetime64() for value in parsed]
        instants = pd.Series(np.array(utc, dtype="datetime64[us]"), index=times.index).dt.tz_localize("UTC")
    # No reading is of a year that most software cannot hold.
    return instants.where((instants > pd.Timestamp.min.tz_localize("UTC")) & (instants < pd.Timestamp.max.tz_localize("UTC")))


def _timestamp(value: object) -> pd.Timestamp:
    try:
        return pd.Timestamp(value)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return pd.NaT  # type: ignore[return-value]


def numbers(values: "pd.Series[float]") -> "pd.Series[float]":
    """Values as they came, as numbers; NaN where one is none."""
    try:
        return pd.to_numeric(values, errors="coerce").astype("float64")
    except OverflowError:  # a whole number beyond any float
        return values.map(lambda value: np.inf if isinstance(value, int) and abs(value) > _LARGEST else value).pipe(numbers)
