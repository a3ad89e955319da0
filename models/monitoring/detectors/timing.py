"""Faults that show in when readings come: clocks, lateness, repetition, another rate, and signals that come no more."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd

from models.monitoring.detectors.evidence import BEFORE, Evidence
from models.monitoring.detectors.finding import Finding
from models.monitoring.detectors.localisation import places

SHIFT: Final = 2.0  # minutes by which a clock is off; clocks that are synchronised keep to seconds
ZONE: Final = 55.0  # minutes from which an offset may be a time zone, if it is near a quarter of an hour as all zones are
NEAR_ZONE: Final = 2.0
SPREAD: Final = 4.0  # minutes between the early and the late readings of a patient, beyond the usual
REPEATED: Final = 0.03  # of deliveries
RATE: Final = 1.6  # times as many minutes between readings, or as few
MOST_OF: Final = 0.7  # of a gateway's patients share what is the gateway's
MISSING: Final = 0.3  # of a gateway's patients, more than usual
MOST_OF_DAY: Final = 0.75  # in which nothing came: a sensor may have come off a while after the day began
_HOUR: Final = 3600e6  # microseconds
_AUTOMATIC: Final = 60.0  # minutes: what nobody has to write down reaches the record within; late enough to be hands otherwise


def clocks(evidence: Evidence) -> Iterator[Finding]:
    """A gateway whose readings all seem to have travelled for the same time, or to come from the future."""
    found = _delays(evidence)
    if found.empty:
        return
    wrong = (found["shift"].abs() >= SHIFT) & (found["spread"] < SPREAD)
    for cell in places(found, wrong, 0.0, devices=False):
        minutes = float(found.loc[cell.rows, "shift"].median())
        quarters = abs(minutes - 15 * round(minutes / 15))
        zone = abs(minutes) >= ZONE and quarters <= NEAR_ZONE
        said = f"its readings are stamped {abs(minutes):.0f} min too {'early' if minutes > 0 else 'late'}"
        yield Finding(
            "time_zone" if zone else "clock_skew", None, cell.place, cell.where,
            _since_delay(evidence, cell.where, minutes), cell.patients, cell.of, said,
        )  # fmt: skip


def lateness(evidence: Evidence) -> Iterator[Finding]:
    """Readings that wait: some arrive at once, some much later."""
    found = _delays(evidence)
    if found.empty:
        return
    for cell in places(found, found["waited"] >= SPREAD, _usual_waiting(evidence), devices=False):
        minutes = float(found.loc[cell.rows, "waited"].median())
        rows = _from(evidence, cell.where)
        delay = (rows["recorded_at"] - rows["observed_at"]).dt.total_seconds() / 60
        since = rows.loc[delay >= minutes / 2, "recorded_at"].min()
        said = f"half of the readings wait up to {minutes:.0f} min longer than usual"
        yield Finding("late", None, cell.place, cell.where, since, cell.patients, cell.of, said)


def repetition(evidence: Evidence) -> Iterator[Finding]:
    """Messages that are delivered again."""
    of_patient = evidence.now.assign(all=lambda t: t["came"] / (1 - t["repeated"].fillna(0)).clip(lower=1e-9))
    of_patient["again"] = of_patient["all"] * of_patient["repeated"]
    sums = of_patient.groupby(["subject_id", "source"], observed=True)[["again", "all"]].sum().reset_index()
    sums["device_id"] = sums["subject_id"]
    hit = sums["again"] >= REPEATED * sums["all"]
    for cell in places(sums, hit, 0.0, devices=False):
        share = (sums["again"] / sums["all"])[cell.rows].median()
        rows = evidence.last_day
        mask = rows["reason"].astype(str).str.startswith("duplicate") & rows["subject_id"].isin(
            sums.loc[cell.rows, "subject_id"]
        )
        said = f"{share:.0%} of the deliveries are repetitions"
        yield Finding("duplicates", None, cell.place, cell.where, evidence.first(mask), cell.patients, cell.of, said)


def rates(evidence: Evidence) -> Iterator[Finding]:
    """Another interval between readings than before, or than training patients have."""
    for signal in sorted(map(str, evidence.whole["signal"].unique())):
        found = evidence.whole[(evidence.whole["signal"] == signal).to_numpy()].reset_index(drop=True)
        reference = evidence.of(signal)["interval"].dropna()
        if len(reference) < 2:
            continue
        low, high = reference.quantile([0.01, 0.99])
        ratio = found["interval"] / np.clip(found["interval"], low, high)
        hit = (ratio >= RATE) | (ratio <= 1 / RATE)
        for cell in places(found, hit, 0.01, devices=False):
            if cell.patients < MOST_OF * cell.of:
                continue
            minutes = float(found.loc[cell.rows, "interval"].median())
            rows = evidence.last_day
            mask = (rows["signal"] == signal) & rows["subject_id"].isin(found.loc[cell.rows, "subject_id"])
            said = f"every {minutes:.0f} min, usually every {reference.median():.0f}"
            yield Finding("sampling", signal, cell.place, cell.where, evidence.first(mask), cell.patients, cell.of, said)


def absence(evidence: Evidence) -> Iterator[Finding]:
    """Patients of whom other signals come, and this one came no more for most of the day."""
    keys = ["subject_id", "source"]
    there = evidence.whole.groupby(keys, observed=True).agg(last=("last", "max"), hours=("hours", "max")).reset_index()
    patient_days = evidence.reference[["subject_id", "window"]].drop_duplicates()
    for signal in sorted(map(str, evidence.reference["signal"].unique())):
        came = evidence.of(signal).groupby(["subject_id", "window"], observed=True)["came"].sum()
        # Of so many readings a day none falls by chance into most of it.
        usual = (float(np.exp(-MOST_OF_DAY * came).sum()) + len(patient_days) - len(came)) / max(1, len(patient_days))
        if usual >= 1 - MISSING:
            continue
        of_signal = evidence.now[((evidence.now["signal"] == signal) & (evidence.now["came"] > 0)).to_numpy()]
        latest = of_signal.groupby("subject_id", observed=True)["last"].max().reindex(there["subject_id"]).to_numpy()
        found = there.assign(device_id=there["subject_id"], silent=(there["last"].to_numpy() - latest) / _HOUR)
        hit = ~(found["silent"] < MOST_OF_DAY * found["hours"])
        for cell in places(found, hit, usual, devices=False):
            if cell.patients / cell.of - usual < MISSING:
                continue
            said = f"of {cell.patients} of {cell.of} patients nothing came of it for most of the day; usually of {usual:.0%}"
            since = evidence.until - pd.Timedelta(hours=float(found.loc[cell.rows, "hours"].max()))
            yield Finding("missing", signal, cell.place, cell.where, since, cell.patients, cell.of, said)


def _delays(evidence: Evidence) -> pd.DataFrame:
    """Of each patient: by how much readings seem later than usual, how far apart early and late ones are, how long half wait.

    The median over his signals; what nurses write down takes its time, and is left out.
    """
    usual = _usual_delays(evidence)
    usual = usual[usual["late"] < _AUTOMATIC]
    rows = evidence.now[evidence.now["signal"].isin(usual.index) & evidence.now["early"].notna()]
    # What is measured as often as a clock ticks hides how long it waits: the most frequent signals say it.
    rows = rows[rows["came"] >= rows.groupby("subject_id", observed=True)["came"].transform("max") / 2]
    expected = usual.reindex(rows["signal"].astype(str))
    rows = rows.assign(
        shift=rows["early"].to_numpy() - expected["early"].to_numpy(),
        waited=rows["delay"].to_numpy()
        - expected["delay"].to_numpy()
        - np.maximum(0, rows["early"].to_numpy() - expected["early"].to_numpy()),
        spread=(rows["delay"] - rows["early"]).to_numpy() - (expected["delay"] - expected["early"]).to_numpy(),
    )
    found = rows.groupby(["subject_id", "source"], observed=True)[["shift", "waited", "spread"]].median().reset_index()
    return found.assign(device_id=found["subject_id"])


def _usual_delays(evidence: Evidence) -> pd.DataFrame:
    """By signal, ``early, delay, late`` of a median patient's day.

    A retrospective cohort does not know when its readings came: then what is usual is how it was on the ward the day before.
    """
    columns = ["early", "delay", "late"]
    reference = evidence.reference
    if not reference[columns].to_numpy(np.float64).any():
        before = evidence.all_series[(evidence.all_series["window"] == BEFORE).to_numpy()]
        reference = before if len(before) else evidence.now
    return reference.groupby("signal", observed=True)[columns].median()


def _usual_waiting(evidence: Evidence) -> float:
    """Share of training patients' days on which readings wait so long without a fault: connections are lost now and then."""
    usual = evidence.reference.groupby("signal", observed=True)[["early", "delay"]].transform("median")
    waited = evidence.reference["delay"] - usual["delay"]
    of_day = waited.groupby([evidence.reference["subject_id"], evidence.reference["window"]], observed=True).median()
    return float((of_day >= SPREAD).mean()) if len(of_day) else 0.0


def _from(evidence: Evidence, where: tuple[str, ...]) -> pd.DataFrame:
    rows = evidence.last_day
    return rows[rows["source"].isin(where).to_numpy()] if where else rows


def _since_delay(evidence: Evidence, where: tuple[str, ...], minutes: float) -> pd.Timestamp:
    """When the first reading came that was off by about so much."""
    rows = _from(evidence, where)
    delay = (rows["recorded_at"] - rows["observed_at"]).dt.total_seconds() / 60
    off = rows.loc[(delay - minutes).abs() <= max(1.0, 0.1 * abs(minutes)), "recorded_at"]
    return pd.Timestamp(off.min()) if len(off) else evidence.until - pd.Timedelta(days=1)
