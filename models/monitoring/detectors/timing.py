"""Faults that show in when readings arrive: clocks, late or repeated messages, another rate, and missing signals."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd

from vigil.models.monitoring.detectors.evidence import BEFORE, Evidence
from vigil.models.monitoring.detectors.finding import Finding
from vigil.models.monitoring.detectors.localisation import locate

SHIFT: Final = 2.0  # minutes by which a clock is wrong; synchronised clocks keep to seconds
ZONE: Final = 55.0  # minutes from which an offset may be a time zone, if it is near a quarter of an hour as all zones are
NEAR_ZONE: Final = 2.0
SPREAD: Final = 4.0  # minutes between the early and the late readings of a patient, beyond the usual
REPEATED: Final = 0.03  # of deliveries
RATE: Final = 1.6  # times as many minutes between readings, or as few
MOST_OF: Final = 0.7  # of a gateway's patients share what is the gateway's
MISSING: Final = 0.3  # of a gateway's patients, more than usual
MOST_OF_DAY: Final = 0.75  # without a reading: a sensor may have come off a while after the day began
_HOUR: Final = 3600e6  # microseconds
_AUTOMATIC: Final = 60.0  # minutes within which automatic readings reach the record; later ones are written by hand


def detect_clock_error(evidence: Evidence) -> Iterator[Finding]:
    """Yield gateways whose readings all seem to have travelled for the same time, or to come from the future."""
    delays = _delays(evidence)
    if delays.empty:
        return
    wrong = (delays["shift"].abs() >= SHIFT) & (delays["spread"] < SPREAD)
    for location in locate(delays, wrong, 0.0, devices=False):
        minutes = float(delays.loc[location.rows, "shift"].median())
        from_quarter = abs(minutes - 15 * round(minutes / 15))
        is_zone = abs(minutes) >= ZONE and from_quarter <= NEAR_ZONE
        text = f"its readings are stamped {abs(minutes):.0f} min too {'early' if minutes > 0 else 'late'}"
        since = _first_delayed(evidence, location.where, minutes)
        yield location.finding("time_zone" if is_zone else "clock_skew", None, since, text)


def detect_late_messages(evidence: Evidence) -> Iterator[Finding]:
    """Yield gateways whose readings wait: some arrive at once, some much later."""
    delays = _delays(evidence)
    if delays.empty:
        return
    for location in locate(delays, delays["waited"] >= SPREAD, _usual_waiting_share(evidence), devices=False):
        minutes = float(delays.loc[location.rows, "waited"].median())
        rows = _rows_from(evidence, location.where)
        delay = (rows["recorded_at"] - rows["observed_at"]).dt.total_seconds() / 60
        since = rows.loc[delay >= minutes / 2, "recorded_at"].min()
        yield location.finding("late", None, since, f"half of the readings wait up to {minutes:.0f} min longer than usual")


def detect_duplicates(evidence: Evidence) -> Iterator[Finding]:
    """Yield gateways that deliver messages again."""
    profiles = evidence.now.assign(all=lambda table: table["came"] / (1 - table["repeated"].fillna(0)).clip(lower=1e-9))
    profiles["again"] = profiles["all"] * profiles["repeated"]
    sums = profiles.groupby(["subject_id", "source"], observed=True)[["again", "all"]].sum().reset_index()
    sums["device_id"] = sums["subject_id"]
    hit = sums["again"] >= REPEATED * sums["all"]
    for location in locate(sums, hit, 0.0, devices=False):
        share = (sums["again"] / sums["all"])[location.rows].median()
        rows = evidence.last_day
        patients = sums.loc[location.rows, "subject_id"]
        mask = rows["reason"].astype(str).str.startswith("duplicate") & rows["subject_id"].isin(patients)
        text = f"{share:.0%} of the deliveries are repetitions"
        yield location.finding("duplicates", None, evidence.first_recorded(mask), text)


def detect_changed_rate(evidence: Evidence) -> Iterator[Finding]:
    """Yield gateways with an interval between readings that nearly no training patient has."""
    for signal in sorted(map(str, evidence.full_days["signal"].unique())):
        profiles = evidence.full_days[(evidence.full_days["signal"] == signal).to_numpy()].reset_index(drop=True)
        reference = evidence.reference_of(signal)["interval"].dropna()
        if len(reference) < 2:
            continue
        low, high = reference.quantile([0.01, 0.99])
        ratio = profiles["interval"] / np.clip(profiles["interval"], low, high)
        hit = (ratio >= RATE) | (ratio <= 1 / RATE)
        for location in locate(profiles, hit, 0.01, devices=False):
            if location.patients < MOST_OF * location.examined:
                continue
            minutes = float(profiles.loc[location.rows, "interval"].median())
            rows = evidence.last_day
            mask = (rows["signal"] == signal) & rows["subject_id"].isin(profiles.loc[location.rows, "subject_id"])
            text = f"every {minutes:.0f} min, usually every {reference.median():.0f}"
            yield location.finding("sampling", signal, evidence.first_recorded(mask), text)


def detect_missing_signal(evidence: Evidence) -> Iterator[Finding]:
    """Yield gateways with patients who send other signals, but not this one for most of the day."""
    keys = ["subject_id", "source"]
    present = evidence.full_days.groupby(keys, observed=True).agg(last=("last", "max"), hours=("hours", "max")).reset_index()
    patient_days = evidence.reference[["subject_id", "window"]].drop_duplicates()
    for signal in sorted(map(str, evidence.reference["signal"].unique())):
        came = evidence.reference_of(signal).groupby(["subject_id", "window"], observed=True)["came"].sum()
        # The chance that none of a day's readings falls into most of the day.
        usual = (float(np.exp(-MOST_OF_DAY * came).sum()) + len(patient_days) - len(came)) / max(1, len(patient_days))
        if usual >= 1 - MISSING:
            continue
        profiles = evidence.now[((evidence.now["signal"] == signal) & (evidence.now["came"] > 0)).to_numpy()]
        latest = profiles.groupby("subject_id", observed=True)["last"].max().reindex(present["subject_id"]).to_numpy()
        patients = present.assign(device_id=present["subject_id"], absent=(present["last"].to_numpy() - latest) / _HOUR)
        hit = ~(patients["absent"] < MOST_OF_DAY * patients["hours"])  # NaN, no reading at all, is a hit too
        for location in locate(patients, hit, usual, devices=False):
            if location.patients / location.examined - usual < MISSING:
                continue
            lacking = f"{location.patients} of {location.examined} patients"
            text = f"{lacking} have no reading of it for most of the day; usually {usual:.0%} have none"
            since = evidence.until - pd.Timedelta(hours=float(patients.loc[location.rows, "hours"].max()))
            yield location.finding("missing", signal, since, text)


def _delays(evidence: Evidence) -> pd.DataFrame:
    """Compare each patient's delays with the usual ones, as the median over their signals, in minutes.

    Signals that are written by hand take their time, and are left out.

    Returns:
        ``subject_id, source, device_id``, ``shift`` (how much later the earliest readings seem than usual), ``waited`` (how
        much longer than that half of the readings wait) and ``spread`` (how much further apart early and typical ones are).
    """
    usual = _usual_delays(evidence)
    usual = usual[usual["late"] < _AUTOMATIC]
    rows = evidence.now[evidence.now["signal"].isin(usual.index) & evidence.now["early"].notna()]
    # A signal with few readings hides how long they wait. The most frequent signals show it.
    rows = rows[rows["came"] >= rows.groupby("subject_id", observed=True)["came"].transform("max") / 2]
    expected = usual.reindex(rows["signal"].astype(str))
    rows = rows.assign(
        shift=rows["early"].to_numpy() - expected["early"].to_numpy(),
        waited=rows["delay"].to_numpy()
        - expected["delay"].to_numpy()
        - np.maximum(0, rows["early"].to_numpy() - expected["early"].to_numpy()),
        spread=(rows["delay"] - rows["early"]).to_numpy() - (expected["delay"] - expected["early"]).to_numpy(),
    )
    delays = rows.groupby(["subject_id", "source"], observed=True)[["shift", "waited", "spread"]].median().reset_index()
    return delays.assign(device_id=delays["subject_id"])


def _usual_delays(evidence: Evidence) -> pd.DataFrame:
    """Return, by signal, ``early, delay, late`` of a median patient's day, in minutes.

    A retrospective cohort does not know when its readings arrived. Then the day before on the ward is the reference.
    """
    columns = ["early", "delay", "late"]
    reference = evidence.reference
    if not reference[columns].to_numpy(np.float64).any():
        before = evidence.profiles[(evidence.profiles["window"] == BEFORE).to_numpy()]
        reference = before if len(before) else evidence.now
    return reference.groupby("signal", observed=True)[columns].median()


def _usual_waiting_share(evidence: Evidence) -> float:
    """Return the share of training patients' days whose readings wait so long without a fault, as connections break."""
    usual = evidence.reference.groupby("signal", observed=True)[["early", "delay"]].transform("median")
    waited = evidence.reference["delay"] - usual["delay"]
    by_day = waited.groupby([evidence.reference["subject_id"], evidence.reference["window"]], observed=True).median()
    return float((by_day >= SPREAD).mean()) if len(by_day) else 0.0


def _rows_from(evidence: Evidence, where: tuple[str, ...]) -> pd.DataFrame:
    """Return the readings of the last day from some gateways; of all where none is given."""
    rows = evidence.last_day
    return rows[rows["source"].isin(where).to_numpy()] if where else rows


def _first_delayed(evidence: Evidence, where: tuple[str, ...], minutes: float) -> pd.Timestamp:
    """Return when the first reading with about this delay was recorded."""
    rows = _rows_from(evidence, where)
    delay = (rows["recorded_at"] - rows["observed_at"]).dt.total_seconds() / 60
    delayed = rows.loc[(delay - minutes).abs() <= max(1.0, 0.1 * abs(minutes)), "recorded_at"]
    return pd.Timestamp(delayed.min()) if len(delayed) else evidence.until - pd.Timedelta(days=1)
