"""Offset and noise: faults that show only in the level of a signal, or in its scatter."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.derived import MEASUREMENT_ERROR
from vigil.models.monitoring.detectors.evidence import BEFORE, NOW, Evidence
from vigil.models.monitoring.detectors.finding import Finding
from vigil.models.monitoring.detectors.localisation import locate
from vigil.models.monitoring.detectors.step_changes import MAD

Float64 = NDArray[np.float64]

OFFSET_Z: Final = 4.5  # standard errors of a gateway's median change
FEW_Z: Final = 6.0  # for few patients, since most of them may fall ill or recover on one day
OFFSET_ERRORS: Final = 1.0  # measurement errors; a smaller offset is within what a single reading may be wrong by
NOISE_TIMES: Final = 1.25
NOISE_Z: Final = 6.0
STEP_Z: Final = 6.0  # more than for days, since some forty moments are examined
MOST_CHANGED: Final = 0.75  # of a gateway's patients change by at least half of the median change
_LEAST_PATIENTS: Final = 6  # of a gateway: fewer may well all change together
_FEWEST: Final = 4  # of a gateway, where the change is larger
_LEAST_OTHERS: Final = 4  # patients of other gateways
_LEAST_USUAL: Final = 20  # profiles of training patients
_LEAST_LOG: Final = 0.05  # five in a hundred
_MEDIAN_ERROR: Final = 1.2533  # standard error of a median, in standard errors of a mean (normal distribution)
_NINE_OF_TEN: Final = 1.645  # nine of ten of a normal distribution lie within so many standard deviations


def detect_noise(evidence: Evidence) -> Iterator[Finding]:
    """Yield gateways whose readings scatter more than those of nearly any training patient, or than the day before."""
    for signal in evidence.vitals:
        findings = list(_more_scatter_than_reference(evidence, signal))
        change = None if findings else _largest_change(evidence, signal, "noise", _LEAST_PATIENTS)
        if change is not None:
            gateway, times, z, patients = change[0], float(np.exp(change[1])), change[2], change[3]
            if z >= NOISE_Z and times >= NOISE_TIMES:
                text = f"steps between readings are {times:.1f} times those of the day before, by {z:.0f} standard errors"
                findings.append(Finding("noise", signal, "gateway", (gateway,), _day_begin(evidence), patients, patients, text))
        yield from findings


def _more_scatter_than_reference(evidence: Evidence, signal: str) -> Iterator[Finding]:
    """Yield locations where most patients scatter more than nearly any training patient."""
    profiles = evidence.full_days[(evidence.full_days["signal"] == signal).to_numpy()].reset_index(drop=True)
    reference = evidence.reference_of(signal)["noise"].dropna()
    if len(reference) < _LEAST_USUAL:
        return
    hit = profiles["noise"] > NOISE_TIMES * float(reference.quantile(0.95))
    for location in locate(profiles, hit, 0.02, devices=False):
        if location.patients < 0.6 * location.examined:
            continue
        times = profiles.loc[location.rows, "noise"].median() / reference.median()
        text = f"steps between readings are {times:.1f} times the usual"
        yield location.finding("noise", signal, _day_begin(evidence), text)


def detect_offset(evidence: Evidence) -> Iterator[Finding]:
    """Yield gateways whose patients' level changed together while that of the others did not, at once or within a day."""
    for signal in evidence.vitals:
        finding = _offset_at_a_moment(evidence, signal)
        change = _largest_change(evidence, signal, "level", _FEWEST)
        if finding is None and change is not None:
            gateway, offset, z, patients = change
            least_z = OFFSET_Z if patients >= _LEAST_PATIENTS else FEW_Z
            if z >= least_z and abs(offset) >= OFFSET_ERRORS * MEASUREMENT_ERROR[signal]:
                text = f"the median patient changed by {offset:+.1f} within a day, {z:.0f} standard errors more than the others"
                finding = Finding("bias", signal, "gateway", (gateway,), _day_begin(evidence), patients, patients, text)
        if finding is not None:
            yield finding


def _offset_at_a_moment(evidence: Evidence, signal: str) -> Finding | None:
    """Return the gateway whose level changed most at one moment, if it changed enough."""
    steps = evidence.step_changes(signal)
    if not len(steps.keys) or not np.isfinite(steps.scale):
        return None
    best: tuple[float, float, str, int, int] | None = None
    gateway = steps.keys["source"].astype(str).to_numpy()
    for name in np.unique(gateway):
        mine, others = steps.change[gateway == name], steps.change[gateway != name]
        n, m = np.isfinite(mine).sum(axis=0), np.isfinite(others).sum(axis=0)
        # Within hours all patients may change, as after a meal. Only other patients show that it is the gateway.
        for moment in map(int, np.flatnonzero((n >= _LEAST_PATIENTS) & (m >= _LEAST_OTHERS))):
            usual = float(np.nanmedian(others[:, moment]))
            offset = float(np.nanmedian(mine[:, moment])) - usual
            error = _MEDIAN_ERROR * steps.scale * np.sqrt(1 / n[moment] + 1 / m[moment])
            if (best is None or abs(offset) / error > best[0]) and _is_shared(mine[:, moment], usual, offset):
                best = (float(abs(offset) / error), float(offset), str(name), int(n[moment]), int(moment))
    if best is None:
        return None
    z, offset, name, patients, moment = best
    if z < STEP_Z or abs(offset) < OFFSET_ERRORS * MEASUREMENT_ERROR[signal]:
        return None
    text = f"the median patient changed by {offset:+.1f} at once, {z:.0f} standard errors more than the others"
    return Finding("bias", signal, "gateway", (name,), pd.Timestamp(steps.moments[moment]), patients, patients, text)


def _largest_change(evidence: Evidence, signal: str, column: str, least: int) -> tuple[str, float, float, int] | None:
    """Return the gateway whose median patient changed most from one day to the next, compared with the other gateways.

    Args:
        evidence: of two days.
        signal: the signal.
        column: ``level`` or ``noise``.
        least: patients that a gateway needs.

    Returns:
        Gateway, change, the same in standard errors, and number of its patients. None: there is no such gateway.
    """
    change = _daily_changes(evidence, signal, column)
    scale = _usual_daily_change(evidence, signal, column)
    if not scale > 0:
        return None
    tested = []
    for gateway, mine in change.groupby("source", observed=True):
        others = change[change["source"] != gateway]["change"]
        if len(mine) < least:
            continue
        # A change of all patients, as with the weather, is no gateway's fault.
        enough = len(others) >= _LEAST_OTHERS
        usual = float(others.median()) if enough else 0.0
        offset = float(mine["change"].median()) - usual
        error = _MEDIAN_ERROR * scale * np.sqrt(1 / len(mine) + (1 / len(others) if enough else 0))
        if _is_shared(mine["change"].to_numpy(), usual, offset):
            tested.append((str(gateway), offset, float(abs(offset) / error), len(mine)))
    return max(tested, key=lambda test: test[2]) if tested else None


def _daily_changes(evidence: Evidence, signal: str, column: str) -> pd.DataFrame:
    """Return how much the ``level``, or the logarithm of the ``noise``, of each series changed from one day to the next.

    Returns:
        ``subject_id, device_id, source, change``.
    """
    profiles = evidence.profiles[(evidence.profiles["signal"] == signal).to_numpy()]
    keys = ["subject_id", "device_id", "source"]
    profiles = profiles[profiles["accepted"] >= 3]
    profiles = profiles[[*keys, "window"]].assign(value=_comparable(profiles[column], column))
    before, now = (profiles[profiles["window"] == window] for window in (BEFORE, NOW))
    both = before.merge(now, on=keys, suffixes=("_before", ""))
    return both[keys].assign(change=both["value"] - both["value_before"]).dropna()


def _usual_daily_change(evidence: Evidence, signal: str, column: str) -> float:
    """Return a robust standard deviation of a training patient's change from one day to the next."""
    profiles = evidence.reference_of(signal)
    profiles = profiles[["subject_id", "device_id", "window"]].assign(value=_comparable(profiles[column], column))
    day_later = profiles.assign(window=profiles["window"] + 1)
    following = profiles.merge(day_later, on=["subject_id", "device_id", "window"], suffixes=("", "_before"))
    change = (following["value"] - following["value_before"]).dropna()
    if len(change) < _LEAST_USUAL:
        return float("nan")
    deviation = (change - change.median()).abs()
    # With values to a tenth of a degree most changes are 0 or one tenth, and their median alone says too little.
    spread = max(MAD * float(deviation.median()), float(deviation.quantile(0.9)) / _NINE_OF_TEN)
    return max(spread, MEASUREMENT_ERROR.get(signal, 0.0) / 4 if column == "level" else _LEAST_LOG)


def _comparable(values: "pd.Series[float]", column: str) -> "pd.Series[float]":
    """Return levels as they are, and the logarithm of noise."""
    return values if column == "level" else pd.Series(np.log(values.where(values > 0)), index=values.index)


def _is_shared(change: Float64, usual: float, offset: float) -> bool:
    """Return whether most patients made the change, and the others did not; a median alone may come from a few."""
    known = change[np.isfinite(change)]
    most = np.mean((known - usual) * np.sign(offset) >= abs(offset) / 2) >= MOST_CHANGED
    return bool(most and np.median(known) * np.sign(offset) >= abs(offset) / 2)


def _day_begin(evidence: Evidence) -> pd.Timestamp:
    return evidence.until - pd.Timedelta(days=1)
