"""Faults that single values show: another unit, swapped pressures, zeros, a stuck sensor, coarse rounding, unusable values."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd

from vigil.models.monitoring.detectors.evidence import Evidence
from vigil.models.monitoring.detectors.finding import Finding
from vigil.models.monitoring.detectors.localisation import Location, locate
from vigil.models.monitoring.signal_profile import LADDER, UNIT_OF, UNITS

CONVERTED, CONVERTED_ALONE = 0.15, 0.5  # of a patient's readings; where no other patient shows it
SWAPPED: Final = 0.15  # of a patient's pairs, where others of the gateway show it too
SWAPPED_ALONE: Final = 0.5  # where no others do: a device with a wrong mapping turns most pairs
PULSE_PRESSURE: Final = 20.0  # mmHg, half the usual 40 of a resting adult
ZERO, ZEROS = 0.15, 6  # of a patient's readings, and how many: a movement makes one or two
ON_STEP: Final = 0.95
USUAL_ON_STEP: Final = 0.7  # a step on which the values of training patients lie anyway is no evidence
LASTS: Final = 12 * 60  # minutes; a value that lasts so long for half of the training patients, as oxygen given, has no sensor
STUCK_TIMES, STUCK_MINUTES, STUCK_READINGS = 3.0, 180, 12
UNUSABLE, UNUSABLE_READINGS = 0.5, 4  # at most this share of a patient's readings can be used; of at least so many
LEAST_ROUNDED: Final = 4  # accepted readings, from which rounding is examined
_RARE: Final = 0.995


def detect_other_unit(evidence: Evidence) -> Iterator[Finding]:
    """Yield locations with values that make sense in another unit only."""
    for unit in UNITS:
        by_signal = {}
        for signal in unit.usual:
            profiles = _profiles_of(evidence.now, signal)
            reference = evidence.reference_of(signal)
            hit = profiles["converted"] >= CONVERTED
            usual = float((reference["converted"] >= CONVERTED).mean() if len(reference) else 0)
            by_signal[signal] = (profiles, list(locate(profiles, hit, usual, devices=True)))
        first = next(iter(unit.usual))  # one adapter sends all signals of a unit, so it is reported once, with the first signal
        merged: dict[tuple[str, ...], tuple[str, Location, pd.DataFrame]] = {}
        for signal in sorted(by_signal, key=lambda name: name != first):
            profiles, locations = by_signal[signal]
            for location in locations:
                # A single patient in shock may look so now and then. An adapter converts most of their readings.
                if location.scope == "device" and profiles.loc[location.rows, "converted"].max() < CONVERTED_ALONE:
                    continue
                merged.setdefault(location.where, (signal, location, profiles))
        for signal, location, profiles in merged.values():
            share = profiles.loc[location.rows, "converted"].median()
            since = _first_converted(evidence, signal, location, profiles)
            yield location.finding(unit.fault, signal, since, f"{share:.0%} of the readings make sense in that unit only")


def detect_swapped_pressures(evidence: Evidence) -> Iterator[Finding]:
    """Yield locations where the systolic pressure lies well below the diastolic of the same moment.

    The distance has to be half a pulse pressure. Where noise or movement turns a narrow pair, the two are still close.
    """
    rows = evidence.last_day
    rows = rows[(rows["reason"] == "").to_numpy()]
    keys = ["subject_id", "device_id", "source", "observed_at"]
    systolic, diastolic = (
        rows[(rows["signal"] == name).to_numpy()][[*keys, "value", "recorded_at"]] for name in ("systolic_bp", "diastolic_bp")
    )
    pairs = systolic.merge(diastolic.drop(columns="recorded_at"), on=keys, suffixes=("", "_low"))
    pairs["below"] = pairs["value_low"] - pairs["value"] >= PULSE_PRESSURE
    if not pairs["below"].any():
        return
    shares = pairs.groupby(keys[:3], observed=True)["below"].mean().reset_index()
    for location in locate(shares, shares["below"] >= SWAPPED, 0.0, devices=True):
        share = shares.loc[location.rows, "below"].median()
        if location.scope == "device" and share < SWAPPED_ALONE:
            continue
        patients = shares.loc[location.rows, "subject_id"]
        since = pairs.loc[pairs["below"] & pairs["subject_id"].isin(patients), "recorded_at"].min()
        yield location.finding("swapped_pressures", "systolic_bp", since, f"{share:.0%} of the pairs are reversed")


def detect_zeros(evidence: Evidence) -> Iterator[Finding]:
    """Yield locations where a sensor reads 0."""
    for signal in _signals(evidence):
        profiles, reference = _profiles_of(evidence.now, signal), evidence.reference_of(signal)
        hit = (profiles["zero"] >= ZERO) & (profiles["zero"] * profiles["came"] >= ZEROS)
        if not hit.any():
            continue
        usual = float((reference["zero"] >= ZERO).mean()) if len(reference) else 0.0
        for location in locate(profiles, hit, usual, devices=True):
            share = profiles.loc[location.rows, "zero"].median()
            rows = evidence.last_day
            devices = profiles.loc[location.rows, "device_id"]
            mask = (rows["signal"] == signal) & rows["device_id"].isin(devices) & (rows["value"] == 0)
            yield location.finding("zeros", signal, evidence.first_recorded(mask), f"{share:.0%} of the readings are 0")


def detect_stuck_sensor(evidence: Evidence) -> Iterator[Finding]:
    """Yield locations where a sensor repeats one value for much longer than with nearly any training patient."""
    for signal in _signals(evidence):
        profiles, reference = _profiles_of(evidence.now, signal), evidence.reference_of(signal)
        if len(reference) and float(reference["run_minutes"].median()) >= LASTS:
            continue
        usual, usual_minutes = reference[["run", "run_minutes"]].quantile(_RARE) if len(reference) else (np.inf, np.inf)
        # In readings and in time: a ward that measures more often than the reference has longer runs by number.
        many = profiles["run"] >= max(STUCK_READINGS, STUCK_TIMES * usual)
        hit = many & (profiles["run_minutes"] >= max(STUCK_MINUTES, usual_minutes))
        for location in locate(profiles, hit, 0.0, devices=True):
            hours = profiles.loc[location.rows, "run_minutes"].max() / 60
            rows = evidence.rows  # it may have begun before the last day
            mask = (rows["signal"] == signal) & rows["device_id"].isin(profiles.loc[location.rows, "device_id"])
            text = f"the same value for {hours:.1f} h; {usual:.0f} in a row are usual"
            yield location.finding("stuck", signal, _longest_run_begin(rows[mask.to_numpy()]), text)


def detect_rounding(evidence: Evidence) -> Iterator[Finding]:
    """Yield locations where all values lie on steps much coarser than usual; of several steps, the coarsest."""
    for signal in _signals(evidence):
        profiles, reference = _profiles_of(evidence.full_days, signal), evidence.reference_of(signal)
        if not len(profiles) or not len(reference):
            continue
        profiles = profiles[profiles["accepted"] >= LEAST_ROUNDED]
        for step in sorted(LADDER, reverse=True):
            column = f"on_{step:g}"
            usual = reference[reference["accepted"] >= LEAST_ROUNDED][column]
            if not len(usual) or usual.quantile(0.9) >= USUAL_ON_STEP:
                continue
            hit = profiles[column] >= ON_STEP
            locations = list(locate(profiles, hit, float((usual >= ON_STEP).mean()), devices=False))
            for location in locations:
                rows = evidence.last_day
                mask = (rows["signal"] == signal) & rows["source"].isin(profiles.loc[location.rows, "source"])
                text = f"values are multiples of {step:g}; {usual.median():.0%} are by chance"
                yield location.finding("rounded", signal, evidence.first_recorded(mask), text)
            if locations:
                break


def detect_unusable(evidence: Evidence) -> Iterator[Finding]:
    """Yield locations where most readings cannot be used, for any reason that no other fault gives."""
    for signal in _signals(evidence):
        profiles, reference = _profiles_of(evidence.now, signal), evidence.reference_of(signal)
        profiles = profiles[(profiles["came"] >= UNUSABLE_READINGS).to_numpy()].reset_index(drop=True)
        lost = 1 - profiles["accepted"] / profiles["came"]
        usual = float((reference["accepted"] < UNUSABLE * reference["came"]).mean()) if len(reference) else 0.0
        for location in locate(profiles, lost > 1 - UNUSABLE, usual, devices=False):
            rows = evidence.last_day
            patients = profiles.loc[location.rows, "subject_id"]
            mask = (rows["signal"] == signal) & rows["subject_id"].isin(patients) & (rows["reason"] != "")
            reasons = rows.loc[mask.to_numpy(), "reason"].astype(str).mode()
            share, most = lost[location.rows].median(), reasons.iloc[0].replace("_", " ")
            text = f"{share:.0%} of the readings went into quarantine, most as {most}"
            yield location.finding("unusable", signal, evidence.first_recorded(mask), text)


def _longest_run_begin(rows: pd.DataFrame) -> pd.Timestamp:
    """Return when the longest run of one value, of one patient and device, began."""
    keys = ["subject_id", "device_id"]
    rows = rows[(rows["reason"] == "").to_numpy()].sort_values([*keys, "observed_at"])
    begins = (rows["value"].diff() != 0) | (rows[keys] != rows[keys].shift()).any(axis=1)
    run = begins.cumsum()
    longest = run.value_counts().idxmax()
    return pd.Timestamp(rows.loc[run == longest, "recorded_at"].min())


def _first_converted(evidence: Evidence, signal: str, location: Location, profiles: pd.DataFrame) -> pd.Timestamp:
    """Return when the first reading in the other unit was recorded."""
    rows, unit = evidence.last_day, UNIT_OF[signal]
    low, high = unit.usual[signal]
    converted = (rows["value"] - unit.offset) * unit.factor
    mask = (rows["signal"] == signal) & rows["subject_id"].isin(profiles.loc[location.rows, "subject_id"])
    return evidence.first_recorded(mask & converted.between(low, high) & ~rows["value"].between(low, high))


def _signals(evidence: Evidence) -> list[str]:
    return sorted(str(name) for name in evidence.now["signal"].unique())


def _profiles_of(profiles: pd.DataFrame, signal: str) -> pd.DataFrame:
    return profiles[(profiles["signal"] == signal).to_numpy()].reset_index(drop=True)
