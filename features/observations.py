"""The contract of observations, and the check that every observation passes before features are computed from it.

A frame of observations is long: one row is one observation. Rows that fail the check are not dropped. They are quarantined
with a reason, and only the quarantine holds the offending value.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from vigil.features.bounds import read_bounds
from vigil.features.declarations import UNDECLARED, Declarations, SourceDeclaration
from vigil.features.duplicates import join_derived, resolve
from vigil.features.errors import VigilError
from vigil.features.identifiers import is_identifier
from vigil.features.measures import MEASURE_REASONS, in_own_units
from vigil.features.oxygen import OXYGEN, derive_oxygen
from vigil.features.revisions import FINAL, RETRACTED, STATUSES
from vigil.features.signals import STORED, STORED_NAMES
from vigil.features.ties import rank_severity

TIME: Final = "datetime64[us, UTC]"  # microseconds: Feast cannot materialize nanoseconds
REQUIRED: Final = ("subject_id", "observed_at", "signal", "value")
COLUMNS: Final = (*REQUIRED, "recorded_at", "device_id", "source", "message_id")
KEY: Final = ["subject_id", "signal", "observed_at", "recorded_at"]  # then by severity (features.ties)

_POSITION: Final = {name: position for position, name in enumerate(STORED_NAMES)}
_LARGEST: Final = 2**62  # far above the plausible range of every signal

# What a door refuses before the check: what it found is not in the columns of an observation.
DOOR_REASONS: Final = {
    "malformed": "the message breaks the rules of its format",
    "unknown_modifier": "the message has a part that changes its meaning, and that is not understood",
    "imprecise_time": "the time is a date, or part of one",
    "interval": "the value is of a period, and not of a time",
}
# Reasons in the order in which they are tested. An observation is quarantined for the first reason that applies.
REASONS: Final = {
    **DOOR_REASONS,
    "missing_subject": "subject_id is missing",
    "unclear_subject": "subject_id begins or ends with a space, or has an invisible character or one with two encodings",
    "missing_time": "observed_at or recorded_at is missing, no ISO 8601 instant, in an impossible year, or a local time whose "
    "source declares no time zone, or at which the clocks were changed; or received_at is, if its source declares that clock",
    "recorded_before_observed": "recorded_at is earlier than observed_at",
    "in_the_future": "recorded_at is later than the present",
    "unknown_status": "status is not final, corrected or retracted",
    "unknown_version": "version is not a whole number from 1 on",
    "unknown_signal": "signal is neither in the signal table nor a code of one",
    "ambiguous_code": "the code stands for several signals; send the signal's name",
    "not_exact": "value is neither a number nor a bound, or a bound of a signal that has none",
    "undeclared_range": "value is Low or High, but its source declares no measuring range of the signal",
    "unknown_unit": "unit is none that is understood for the signal",
    "codes_disagree": "the signal's code names another kind of quantity than the unit",
    "device_error": "value is an error code of the device, as its source declares",
    "missing_unit": "the value could be meant in several units; send the unit, or declare the units of the source",
    "not_a_number": "value is missing, infinite or not a number",
    "not_a_code": "value is not a whole number, but the signal is coded",
    "implausible": "value is outside the signal's plausible range",
    "superseded": "a newer version of this observation was received before",
    "duplicate_message": "this observation of this message was received before",
    "duplicate_reading": "the same value of the same signal at the same time was received before",
}


class ObservationError(VigilError):
    """A frame cannot be read as observations at all."""


@dataclass(frozen=True)
class CheckedObservations:
    """The result of :func:`check`.

    Attributes:
        accepted: Usable observations with the columns :data:`COLUMNS`, sorted by :data:`KEY`; of values recorded together, the
            worst is the last. Values are rounded to the resolution of their signal. Oxygen that follows from an inspired
            fraction (:mod:`vigil.features.oxygen`) is among them.
            Where the frame has ``status`` or ``version``, ``superseded_at`` is when a newer version was recorded, or NaT.
        retractions: Rows that retract an observation, unchanged.
        quarantined: The other rows, unchanged, with a column ``reason`` (a key of :data:`REASONS`).
        content: What each row of the frame says: ``signal``, and ``value`` in its unit and resolution (NaN where it has none).
    """

    accepted: pd.DataFrame
    quarantined: pd.DataFrame
    retractions: pd.DataFrame
    content: pd.DataFrame


def check(frame: pd.DataFrame, now: pd.Timestamp | None = None, declared: Declarations = UNDECLARED) -> CheckedObservations:
    """Separate observations that can be used from those that cannot.

    Args:
        frame: One row is one observation. Required columns: ``subject_id``, ``observed_at`` (with time zone), ``signal``,
            ``value``. Optional columns: ``recorded_at`` (default: ``observed_at``), ``device_id``, ``source``,
            ``message_id``, and ``unit`` (:mod:`vigil.features.units`). A value without a unit is taken in the signal's own
            where no other unit could be meant, else it is quarantined. Times are timestamps, or texts in ISO 8601 or the format
            that their source declares. ``status`` (``final``, ``corrected`` or ``retracted``; missing: ``final``) and
            ``version`` (a number from 1 on, or missing) tell what a row means for those of the same message
            (:mod:`vigil.features.revisions`). A retraction needs no value. A text such as ``<40`` or ``Low`` is a bound
            (:mod:`vigil.features.bounds`), and so is a number with a ``comparator``: ``<``, ``<=``, ``>`` or ``>=``.
            ``received_at``, when the gateway received it, takes the place of ``observed_at`` where its source declares that
            this clock counts. ``refused`` is the reason for which a door refused the row; missing: it did not.
        now: The present. An observation recorded after it is quarantined. Leave it out for a cohort, whose times may lie in
            any year.
        declared: What sources declare, by ``source``: units and time zone where they send none, measuring ranges, and
            error codes.

    Raises:
        ObservationError: A required column is missing, or a time has no time zone and its source declares none. No row can
            then be checked.

    >>> time = pd.Timestamp("2026-01-31T08:00:00Z")
    >>> frame = pd.DataFrame({"subject_id": "a", "observed_at": time, "signal": "heart_rate", "value": [80.004, 0.0]})
    >>> checked = check(frame)
    >>> checked.accepted[["subject_id", "signal", "value"]].values.tolist()
    [['a', 'heart_rate', 80.0]]
    >>> checked.quarantined[["value", "reason"]].values.tolist()
    [[0.0, 'implausible']]
    """
    normalised, reason = understand(frame, now, declared)
    rows, has_versions = frame.reset_index(drop=True), "status" in normalised
    usable = normalised[reason == ""]
    if isinstance(usable["signal"].dtype, pd.CategoricalDtype):  # sorted by name, as texts are, and on_oxygen among them
        usable = usable.assign(signal=usable["signal"].cat.set_categories(list(_POSITION)))
    usable = sort_observations(usable)
    resolved = resolve(usable)
    counts, retracts = resolved["outcome"] == "counts", resolved["outcome"] == "retracts"
    reason.loc[resolved.index[~counts & ~retracts]] = resolved["outcome"]
    accepted = usable if counts.all() else usable[counts]
    if has_versions:
        accepted = accepted.assign(superseded_at=resolved.loc[counts, "superseded_at"])
    accepted = _add_oxygen(accepted, reason)
    rejected = reason != ""
    columns = [*COLUMNS, *(["superseded_at"] if has_versions else [])]
    return CheckedObservations(
        accepted=accepted[columns].reset_index(drop=True),
        quarantined=rows[rejected].assign(reason=reason[rejected]).reset_index(drop=True),
        retractions=rows.loc[sorted(resolved.index[retracts])].reset_index(drop=True),
        content=normalised[["signal", "value"]],
    )


def understand(
    frame: pd.DataFrame, now: pd.Timestamp | None = None, declared: Declarations = UNDECLARED
) -> tuple[pd.DataFrame, "pd.Series[str]"]:
    """Return what each row says by itself, and the reason why it cannot be used (empty: it can).

    Args:
        frame, now, declared: as :func:`check` takes them.

    Returns:
        :data:`COLUMNS` (and ``status, version`` where the frame has one of them) in the signals' own units, and reasons; both
        with the frame's rows in their order.

    Raises:
        ObservationError: as :func:`check`.
    """
    missing = [column for column in REQUIRED if column not in frame]
    if missing:
        raise ObservationError(
            f"observations: missing column {', '.join(missing)}; expected {', '.join(REQUIRED)} "
            f"and optionally {', '.join(COLUMNS[len(REQUIRED) :])}, unit, comparator; got {', '.join(map(str, frame.columns))}"
        )
    rows = _by_declared_clock(frame.reset_index(drop=True), declared)
    normalised = pd.DataFrame(
        {
            "subject_id": rows["subject_id"],
            "observed_at": _to_utc(rows, "observed_at", declared),
            "signal": rows["signal"],
        }
    )
    values = _with_decimal_points(rows, declared)
    normalised["value"], comparator = read_bounds(values, to_numbers(values), rows.get("comparator"))
    normalised["recorded_at"] = _to_utc(rows, "recorded_at", declared) if "recorded_at" in rows else normalised["observed_at"]
    for column in ("device_id", "source", "message_id"):
        normalised[column] = rows[column] if column in rows else pd.Series(pd.NA, index=rows.index, dtype="string")

    has_versions = "status" in rows or "version" in rows
    if has_versions:
        _add_versions(normalised, rows)
    measures = in_own_units(
        normalised["signal"], normalised["value"], rows.get("unit"), normalised["source"], declared, comparator
    )
    normalised["signal"], normalised["value"] = measures.signal, measures.value
    reason = _first_reason(normalised, measures.reason, now)
    if "refused" in rows:
        reason = reason.where(rows["refused"].isna(), rows["refused"])
    normalised["value"] = to_resolution(normalised["value"].to_numpy(), normalised["signal"])
    return normalised, reason


def _by_declared_clock(rows: pd.DataFrame, declared: Declarations) -> pd.DataFrame:
    """Return rows that were observed when their gateway received them, where their source declares that this clock counts."""
    if not declared.any("counts_reception"):
        return rows
    by_gateway = np.array([declaration.counts_reception for declaration in _declarations_of(rows, declared)], dtype=bool)
    if not by_gateway.any():
        return rows
    received = rows["received_at"] if "received_at" in rows else pd.Series(None, index=rows.index, dtype=object)
    return rows.assign(observed_at=rows["observed_at"].astype(object).where(~by_gateway, received.astype(object)))


def _add_versions(normalised: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Add ``status`` and ``version``. A retraction says what it retracts, not what that was: it needs no value and no time."""
    status = rows["status"] if "status" in rows else pd.Series(pd.NA, index=rows.index, dtype="string")
    normalised["status"] = status if status.notna().all() else status.astype(object).where(status.notna(), FINAL)
    normalised["version"] = rows.get("version", pd.NA)
    is_retracted = normalised["status"] == RETRACTED
    normalised["observed_at"] = normalised["observed_at"].where(
        normalised["observed_at"].notna() | ~is_retracted, normalised["recorded_at"]
    )


def sort_observations(accepted: pd.DataFrame) -> pd.DataFrame:
    """Return usable observations in the order in which they count: by :data:`KEY`, and the worst of a time last."""
    severity = rank_severity(_number_signals(accepted["signal"]), accepted["value"].to_numpy())
    return accepted.assign(severity=severity).sort_values([*KEY, "severity", "value"], kind="stable").drop(columns="severity")


def _add_oxygen(accepted: pd.DataFrame, reason: "pd.Series[str]") -> pd.DataFrame:
    """Add the oxygen that follows from inspired fractions. Only series of oxygen are sorted again.

    An observation of oxygen that repeats what had followed before is a duplicate, and gets a reason.
    """
    derived = derive_oxygen(accepted)
    if derived.empty:
        return accepted
    is_oxygen = (accepted["signal"] == OXYGEN).to_numpy()
    sent = accepted[is_oxygen].assign(is_derived=False)
    oxygen = sort_observations(pd.concat([sent, derived.assign(is_derived=True)]))
    oxygen, repeats = join_derived(oxygen.drop(columns="is_derived"), oxygen["is_derived"].to_numpy(dtype=bool))
    reason.loc[oxygen.index[repeats].intersection(accepted.index[is_oxygen])] = "duplicate_reading"
    oxygen = oxygen[~repeats]
    if "superseded_at" in oxygen:  # then some may count from later on
        oxygen = sort_observations(oxygen)
    together = pd.concat([accepted[~is_oxygen], oxygen])
    subject = pd.Index(accepted["subject_id"].unique()).get_indexer(together["subject_id"])
    series = subject * len(_POSITION) + _number_signals(together["signal"])
    return together.iloc[np.argsort(series, kind="stable")]


def _number_signals(signal: "pd.Series[str]") -> np.ndarray:
    """Return the position of each signal in the sorted names of the signal table."""
    codes, names = pd.factorize(signal)
    return np.array([_POSITION[name] for name in names], dtype=np.int64)[codes]


def to_resolution(values: np.ndarray, signal: "pd.Series[str]") -> np.ndarray:
    """Round values to the resolution of their signals.

    The result is the float64 nearest to step / steps_per_unit, where step is the nearest whole step.

    >>> to_resolution(np.array([36.6000001, 80.264]), pd.Series(["body_temperature", "heart_rate"]))
    array([36.6 , 80.26])
    """
    steps = _look_up(signal, "steps_per_unit")
    rounded: np.ndarray = np.rint(values * steps) / steps
    return rounded


def _first_reason(normalised: pd.DataFrame, of_measure: np.ndarray, now: pd.Timestamp | None) -> "pd.Series[str]":
    value = normalised["value"].to_numpy()
    needs_value = ~np.asarray(normalised.get("status") == RETRACTED)
    with np.errstate(invalid="ignore"):
        is_implausible = (value < _look_up(normalised["signal"], "low")) | (value > _look_up(normalised["signal"], "high"))
    tests = {
        "missing_subject": normalised["subject_id"].isna() | normalised["subject_id"].isin([""]),
        "unclear_subject": _is_unclear(normalised["subject_id"]),
        "missing_time": normalised["observed_at"].isna() | normalised["recorded_at"].isna(),
        "recorded_before_observed": normalised["recorded_at"] < normalised["observed_at"],
        "in_the_future": normalised["recorded_at"] > now if now is not None else pd.Series(False, index=normalised.index),
        **_version_tests(normalised),
        **{name: (of_measure == name) & (needs_value | (name == "unknown_signal")) for name in MEASURE_REASONS},
        "not_a_number": ~np.isfinite(value) & needs_value,
        "not_a_code": (_look_up(normalised["signal"], "coded") == 1) & (value != np.rint(value)) & needs_value,
        "implausible": is_implausible & needs_value,
    }
    return pd.Series(
        np.select([np.asarray(test, dtype=bool) for test in tests.values()], list(tests), default=""), index=normalised.index
    )


def _version_tests(normalised: pd.DataFrame) -> dict[str, "pd.Series[bool]"]:
    if "status" not in normalised:
        return {}
    version = pd.to_numeric(normalised["version"], errors="coerce")
    is_number = (version >= 1) & (version % 1 == 0)
    return {
        "unknown_status": ~normalised["status"].isin(STATUSES),
        "unknown_version": normalised["version"].notna() & ~is_number,
    }


def _is_unclear(names: "pd.Series[str]") -> np.ndarray:
    codes, uniques = pd.factorize(names)
    return np.array([*(not is_identifier(str(name)) for name in uniques), False])[codes]


def _look_up(signal: "pd.Series[str]", field: str) -> np.ndarray:
    """Return a field of the signal table for every row, NaN where the signal is unknown."""
    codes, uniques = pd.factorize(signal)
    by_code = np.array([float(getattr(STORED[name], field)) if name in STORED else np.nan for name in uniques] + [np.nan])
    return by_code[codes]  # code -1 (missing) selects the NaN at the end


def _to_utc(rows: pd.DataFrame, column: str, declared: Declarations) -> "pd.Series[pd.Timestamp]":
    """Return times as UTC microseconds.

    A missing time zone is an error of the whole frame, because a wrong guess would shift every window.
    """
    times = rows[column]
    if isinstance(times.dtype, pd.DatetimeTZDtype):
        instants = times.astype(TIME)
    else:
        declarations = _declarations_of(rows, declared)
        parsed = [_parse_time(value, declaration) for value, declaration in zip(times, declarations, strict=True)]
        for row, (value, declaration) in enumerate(zip(parsed, declarations, strict=True)):
            if pd.isna(value) or value.tzinfo is not None:
                continue
            if declaration.time_zone is None:
                raise ObservationError(
                    f"{column}: time without a time zone; expected an instant such as 2026-01-31T08:00:00Z; "
                    "add the zone first (pandas: .dt.tz_localize(zone)), or declare that of the source"
                )
            parsed[row] = pd.Timestamp(declaration.localise(value.to_pydatetime()))  # type: ignore[arg-type]
        utc = [np.datetime64("NaT") if pd.isna(value) else value.tz_convert("UTC").to_datetime64() for value in parsed]
        instants = pd.Series(np.array(utc, dtype="datetime64[us]"), index=times.index).dt.tz_localize("UTC")
    # Nanosecond timestamps, which most software uses, cannot represent other years.
    first, last = pd.Timestamp.min.tz_localize("UTC"), pd.Timestamp.max.tz_localize("UTC")
    if instants.empty or (instants.min() > first and instants.max() < last):
        return instants
    return instants.where((instants > first) & (instants < last))


def _declarations_of(rows: pd.DataFrame, declared: Declarations) -> list[SourceDeclaration]:
    """Return what the source of each row declares."""
    return [declared.of(source) for source in rows["source"]] if "source" in rows else [declared.default] * len(rows)


def _parse_time(value: object, declaration: SourceDeclaration) -> pd.Timestamp:
    """Return a time, or NaT."""
    try:
        return pd.Timestamp(declaration.read_time(value) if isinstance(value, str) else value)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return pd.NaT  # type: ignore[return-value]


def _with_decimal_points(rows: pd.DataFrame, declared: Declarations) -> "pd.Series[float]":
    """Return values whose texts have a point before the decimals, where their source declares a comma."""
    values = rows["value"]
    if values.dtype.kind in "fiub" or not declared.any("decimal_comma"):
        return values
    declarations = _declarations_of(rows, declared)
    return pd.Series(
        [
            own.read_decimals(value) if isinstance(value, str) else value
            for value, own in zip(values, declarations, strict=True)
        ],
        index=values.index,
        dtype=object,
    )


def to_numbers(values: "pd.Series[float]") -> "pd.Series[float]":
    """Convert values to float64, NaN where a value is not a number.

    >>> to_numbers(pd.Series([80, "81.5", "eighty"], dtype=object)).tolist()
    [80.0, 81.5, nan]
    """
    try:
        return pd.to_numeric(values, errors="coerce").astype("float64")
    except OverflowError:  # an integer too large for a float
        return values.map(lambda value: np.inf if isinstance(value, int) and abs(value) > _LARGEST else value).pipe(to_numbers)
