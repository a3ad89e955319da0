"""Faults that single readings show: another unit, swapped pressures, zeros, a stuck sensor, coarse rounding."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd

from models.monitoring.detectors.evidence import Evidence
from models.monitoring.detectors.finding import Finding
from models.monitoring.detectors.localisation import Cell, places
from models.monitoring.signal_profile import LADDER, UNIT_OF, UNITS

CONVERTED, CONVERTED_ALONE = 0.15, 0.5  # of a patient's readings; where nobody else shows it
SWAPPED: Final = 0.15  # of a patient's pairs, where others of the gateway show it too
SWAPPED_ALONE: Final = 0.5  # where nobody else does: a device whose mapping is wrong turns most of them
PULSE_PRESSURE: Final = 20.0  # mmHg, half the usual 40 of a resting adult
ZERO, ZEROS = 0.15, 6  # of a patient's readings, and how many: a movement makes one or two
ON_STEP: Final = 0.95
USUAL_ON_STEP: Final = 0.7  # a step on which the values of training patients lie anyway says nothing
LASTS: Final = 12 * 60  # minutes that a value lasts for half of the training patients: it is no sensor's, as oxygen given
STUCK_TIMES, STUCK_MINUTES, STUCK_READINGS = 3.0, 180, 12
UNUSABLE, UNUSABLE_READINGS = 0.5, 4  # of a patient's readings can be used, at least; of how many
_RARE: Final = 0.995


def units(evidence: Evidence) -> Iterator[Finding]:
    """Values that make sense in another unit only."""
    for unit in UNITS:
        cells = {}
        for signal in unit.usual:
            found = _of(evidence.now, signal)
            hit = found["converted"] >= CONVERTED
            usual = float((evidence.of(signal)["converted"] >= CONVERTED).mean() if len(evidence.of(signal)) else 0)
            cells[signal] = (found, list(places(found, hit, usual, devices=True)))
        first = next(iter(unit.usual))  # the signals of a unit come from one adapter: it is named once, by the first of them
        merged: dict[tuple[str, ...], tuple[str, Cell, pd.DataFrame]] = {}
        for signal in sorted(cells, key=lambda name: name != first):
            for cell in cells[signal][1]:
                # A single patient in shock may look so now and then; an adapter makes it of most of his readings.
                alone = cell.place == "device" and cells[signal][0].loc[cell.rows, "converted"].max() < CONVERTED_ALONE
                if not alone:
                    merged.setdefault(cell.where, (signal, cell, cells[signal][0]))
        for signal, cell, found in merged.values():
            share = found.loc[cell.rows, "converted"].median()
            since = _first_of(evidence, signal, cell, found)
            yield _finding(unit.fault, signal, cell, since, f"{share:.0%} of the readings make sense in that unit only")


def swapped(evidence: Evidence) -> Iterator[Finding]:
    """A systolic pressure below the diastolic of the same moment, by as much as it is usually above it.

    Where noise or movement turns a narrow pair round the two are still close.
    """
    rows = evidence.last_day
    rows = rows[(rows["reason"] == "").to_numpy()]
    keys = ["subject_id", "device_id", "source", "observed_at"]
    wide = [
        rows[(rows["signal"] == name).to_numpy()][[*keys, "value", "recorded_at"]] for name in ("systolic_bp", "diastolic_bp")
    ]
    pairs = wide[0].merge(wide[1].drop(columns="recorded_at"), on=keys, suffixes=("", "_low"))
    pairs["below"] = pairs["value_low"] - pairs["value"] >= PULSE_PRESSURE
    if not pairs["below"].any():
        return
    found = pairs.groupby(keys[:3], observed=True)["below"].mean().reset_index()
    for cell in places(found, found["below"] >= SWAPPED, 0.0, devices=True):
        share = found.loc[cell.rows, "below"].median()
        if cell.place == "device" and share < SWAPPED_ALONE:
            continue
        who = found.loc[cell.rows, "subject_id"]
        since = pairs.loc[pairs["below"] & pairs["subject_id"].isin(who), "recorded_at"].min()
        yield _finding("swapped_pressures", "systolic_bp", cell, since, f"{share:.0%} of the pairs are the wrong way round")


def zeros(evidence: Evidence) -> Iterator[Finding]:
    """A sensor that says 0."""
    for signal in _signals(evidence):
        found = _of(evidence.now, signal)
        hit = (found["zero"] >= ZERO) & (found["zero"] * found["came"] >= ZEROS)
        if hit.any():
            usual = float((evidence.of(signal)["zero"] >= ZERO).mean()) if len(evidence.of(signal)) else 0.0
            for cell in places(found, hit, usual, devices=True):
                share = found.loc[cell.rows, "zero"].median()
                rows = evidence.last_day
                mask = (
                    (rows["signal"] == signal)
                    & rows["device_id"].isin(found.loc[cell.rows, "device_id"])
                    & (rows["value"] == 0)
                )
                yield _finding("zeros", signal, cell, evidence.first(mask), f"{share:.0%} of the readings are 0")


def stuck(evidence: Evidence) -> Iterator[Finding]:
    """A sensor whose value does not move for much longer than anybody's does."""
    for signal in _signals(evidence):
        found, reference = _of(evidence.now, signal), evidence.of(signal)
        if len(reference) and float(reference["run_minutes"].median()) >= LASTS:
            continue
        usual, minutes = reference[["run", "run_minutes"]].quantile(_RARE) if len(reference) else (np.inf, np.inf)
        # In readings and in time: where the reference was measured less often than the ward is, a number of them says nothing.
        hit = (
            (found["run"] >= max(STUCK_READINGS, STUCK_TIMES * usual))
            & (found["run_minutes"] >= max(STUCK_MINUTES, minutes))
        )  # fmt: skip
        for cell in places(found, hit, 0.0, devices=True):
            minutes = found.loc[cell.rows, "run_minutes"].max()
            rows = evidence.last_day
            mask = (rows["signal"] == signal) & rows["device_id"].isin(found.loc[cell.rows, "device_id"])
            since = _run_began(rows[mask.to_numpy()])
            yield _finding(
                "stuck", signal, cell, since, f"the same value for {minutes / 60:.1f} h, {usual:.0f} in a row are usual"
            )


def rounded(evidence: Evidence) -> Iterator[Finding]:
    """Values that all lie on steps much coarser than the device's."""
    for signal in _signals(evidence):
        found, reference = _of(evidence.whole, signal), evidence.of(signal)
        if not len(found) or not len(reference):
            continue
        found = found[found["accepted"] >= 4]
        for step in sorted(LADDER, reverse=True):
            column = f"on_{step:g}"
            known = reference[reference["accepted"] >= 4][column]
            if not len(known) or known.quantile(0.9) >= USUAL_ON_STEP:
                continue
            hit = found[column] >= ON_STEP
            cells = list(places(found, hit, float((known >= ON_STEP).mean()), devices=False))
            if cells:
                for cell in cells:
                    rows = evidence.last_day
                    mask = (rows["signal"] == signal) & rows["source"].isin(found.loc[cell.rows, "source"])
                    said = f"values are multiples of {step:g}; {known.median():.0%} are by chance"
                    yield _finding("rounded", signal, cell, evidence.first(mask), said)
                break


def unusable(evidence: Evidence) -> Iterator[Finding]:
    """Readings that mostly cannot be used, for whatever reason that no other fault gives."""
    for signal in _signals(evidence):
        found, reference = _of(evidence.now, signal), evidence.of(signal)
        found = found[(found["came"] >= UNUSABLE_READINGS).to_numpy()].reset_index(drop=True)
        lost = 1 - found["accepted"] / found["came"]
        usual = float((reference["accepted"] < UNUSABLE * reference["came"]).mean()) if len(reference) else 0.0
        for cell in places(found, lost > 1 - UNUSABLE, usual, devices=False):
            rows = evidence.last_day
            mask = (
                (rows["signal"] == signal)
                & rows["subject_id"].isin(found.loc[cell.rows, "subject_id"])
                & (rows["reason"] != "")
            )  # fmt: skip
            why = rows.loc[mask.to_numpy(), "reason"].astype(str).mode()
            share, most = lost[cell.rows].median(), why.iloc[0].replace("_", " ")
            said = f"{share:.0%} of the readings went into quarantine, most as {most}"
            yield _finding("unusable", signal, cell, evidence.first(mask), said)


def _run_began(rows: pd.DataFrame) -> pd.Timestamp:
    """When the longest run of one value among rows of a device began."""
    rows = rows[(rows["reason"] == "").to_numpy()].sort_values("observed_at")
    run = (rows["value"].diff() != 0).cumsum()
    longest = run.value_counts().idxmax()
    return pd.Timestamp(rows.loc[run == longest, "recorded_at"].min())


def _first_of(evidence: Evidence, signal: str, cell: Cell, found: pd.DataFrame) -> pd.Timestamp:
    """When the first reading in the other unit came."""
    rows, unit = evidence.last_day, UNIT_OF[signal]
    low, high = unit.usual[signal]
    theirs = (rows["value"] - unit.offset) * unit.factor
    mask = (rows["signal"] == signal) & rows["subject_id"].isin(found.loc[cell.rows, "subject_id"])
    return evidence.first(mask & theirs.between(low, high) & ~rows["value"].between(low, high))


def _finding(fault: str, signal: str | None, cell: Cell, since: pd.Timestamp, said: str) -> Finding:
    return Finding(fault, signal, cell.place, cell.where, since, cell.patients, cell.of, said)


def _signals(evidence: Evidence) -> list[str]:
    return sorted(str(name) for name in evidence.now["signal"].unique())


def _of(found: pd.DataFrame, signal: str) -> pd.DataFrame:
    return found[(found["signal"] == signal).to_numpy()].reset_index(drop=True)
