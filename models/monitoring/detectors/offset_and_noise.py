"""Faults that only a level or its scatter shows: a constant offset, and noise."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.derived import MEASUREMENT_ERROR
from models.monitoring.detectors.evidence import BEFORE, NOW, Evidence
from models.monitoring.detectors.finding import Finding
from models.monitoring.detectors.localisation import places
from models.monitoring.detectors.step_changes import MAD

Float64 = NDArray[np.float64]

BIAS_Z: Final = 4.5  # standard errors of a gateway's median change
FEW_Z: Final = 6.0  # of few patients, of whom most may fall ill or recover on one day
BIAS_ERRORS: Final = 1.0  # by what a single reading may be wrong anyway a device is not off
NOISE_TIMES: Final = 1.25
NOISE_Z: Final = 6.0
STEP_Z: Final = 6.0  # more than of days, for there are some forty moments
MOST_CHANGED: Final = 0.75  # of a gateway's patients, by half of what the median did
_LEAST_PATIENTS: Final = 6  # of a gateway: fewer may well all change together
_FEWEST: Final = 4  # of a gateway, where they changed by more
_LEAST_OTHERS: Final = 4  # patients of other gateways
_LEAST_USUAL: Final = 20  # series of training patients
_LEAST_LOG: Final = 0.05  # five in a hundred
_MEDIAN_ERROR: Final = 1.2533  # standard error of a median, in those of a mean (normal distribution)
_NINE_OF_TEN: Final = 1.645  # standard deviations, within which nine of ten of a normal distribution lie


def noise(evidence: Evidence) -> Iterator[Finding]:
    """Readings of a gateway's patients scatter more from one to the next than nearly any training patient's, or than before."""
    for signal in evidence.vitals:
        found = list(_scattered(evidence, signal))
        if not found and (more := _most_changed(evidence, signal, "noise", _LEAST_PATIENTS)) is not None:
            gateway, times, z, n = more[0], float(np.exp(more[1])), more[2], more[3]
            if z >= NOISE_Z and times >= NOISE_TIMES:
                said = f"steps between readings are {times:.1f} times those of the day before, by {z:.0f} standard errors"
                found.append(Finding("noise", signal, "gateway", (gateway,), _day(evidence), n, n, said))
        yield from found


def _scattered(evidence: Evidence, signal: str) -> Iterator[Finding]:
    """More than nearly any training patient."""
    found = evidence.whole[(evidence.whole["signal"] == signal).to_numpy()].reset_index(drop=True)
    reference = evidence.of(signal)["noise"].dropna()
    if len(reference) < _LEAST_USUAL:
        return
    hit = found["noise"] > NOISE_TIMES * float(reference.quantile(0.95))
    for cell in places(found, hit, 0.02, devices=False):
        if cell.patients < 0.6 * cell.of:
            continue
        times = found.loc[cell.rows, "noise"].median() / reference.median()
        said = f"steps between readings are {times:.1f} times the usual"
        yield Finding("noise", signal, cell.place, cell.where, _day(evidence), cell.patients, cell.of, said)


def bias(evidence: Evidence) -> Iterator[Finding]:
    """A level that changed for the patients of a gateway together and not for the others, at once or from day to day."""
    for signal in evidence.vitals:
        found = _stepped(evidence, signal)
        more = _most_changed(evidence, signal, "level", _FEWEST)
        if found is None and more is not None:
            gateway, off, z, n = more
            if z >= (BIAS_Z if n >= _LEAST_PATIENTS else FEW_Z) and abs(off) >= BIAS_ERRORS * MEASUREMENT_ERROR[signal]:
                said = f"the median patient changed by {off:+.1f} within a day, {z:.0f} standard errors more than the others"
                found = Finding("bias", signal, "gateway", (gateway,), _day(evidence), n, n, said)
        if found is not None:
            yield found


def _stepped(evidence: Evidence, signal: str) -> Finding | None:
    """At a moment."""
    found = evidence.steps(signal)
    if not len(found.keys) or not np.isfinite(found.scale):
        return None
    best: tuple[float, float, str, int, int] | None = None
    gateway = found.keys["source"].astype(str).to_numpy()
    for name in np.unique(gateway):
        mine, others = found.change[gateway == name], found.change[gateway != name]
        n, m = np.isfinite(mine).sum(axis=0), np.isfinite(others).sum(axis=0)
        # Within hours all patients change, as after a meal: without others it is not known that it is the gateway's.
        for place in map(int, np.flatnonzero((n >= _LEAST_PATIENTS) & (m >= _LEAST_OTHERS))):
            usual = float(np.nanmedian(others[:, place]))
            off = float(np.nanmedian(mine[:, place])) - usual
            error = _MEDIAN_ERROR * found.scale * np.sqrt(1 / n[place] + 1 / m[place])
            if (best is None or abs(off) / error > best[0]) and _together(mine[:, place], usual, off):
                best = (float(abs(off) / error), float(off), str(name), int(n[place]), int(place))
    if best is None:
        return None
    z, off, name, n_patients, place = best
    if z < STEP_Z or abs(off) < BIAS_ERRORS * MEASUREMENT_ERROR[signal]:
        return None
    said = f"the median patient changed by {off:+.1f} at once, {z:.0f} standard errors more than the others"
    return Finding("bias", signal, "gateway", (name,), pd.Timestamp(found.moments[place]), n_patients, n_patients, said)


def _most_changed(evidence: Evidence, signal: str, what: str, least: int) -> tuple[str, float, float, int] | None:
    """The gateway, of at least so many patients, whose median patient changed most from one day to the next, beside the others.

    Returns:
        Its name, the change, in standard errors, and how many patients say so.
    """
    change = changes(evidence, signal, what)
    scale = usual_change(evidence, signal, what)
    if not scale > 0:
        return None
    tested = []
    for gateway, mine in change.groupby("source", observed=True):
        others = change[change["source"] != gateway]["change"]
        if len(mine) < least:
            continue
        # What changes for everybody, such as the weather, is no gateway's fault.
        many = len(others) >= _LEAST_OTHERS
        usual = float(others.median()) if many else 0.0
        off = float(mine["change"].median()) - usual
        error = _MEDIAN_ERROR * scale * np.sqrt(1 / len(mine) + (1 / len(others) if many else 0))
        if _together(mine["change"].to_numpy(), usual, off):
            tested.append((str(gateway), off, float(abs(off) / error), len(mine)))
    return max(tested, key=lambda found: found[2]) if tested else None


def changes(evidence: Evidence, signal: str, what: str) -> pd.DataFrame:
    """Of each series of both days by how much its ``level``, or the logarithm of its ``noise``, changed.

    Returns:
        ``subject_id, device_id, source, change``.
    """
    of = evidence.all_series[(evidence.all_series["signal"] == signal).to_numpy()]
    keys = ["subject_id", "device_id", "source"]
    of = of[of["accepted"] >= 3]
    of = of[[*keys, "window"]].assign(value=_comparable(of[what], what))
    both = of[of["window"] == BEFORE].merge(of[of["window"] == NOW], on=keys, suffixes=("_before", ""))
    return both[keys].assign(change=both["value"] - both["value_before"]).dropna()


def usual_change(evidence: Evidence, signal: str, what: str) -> float:
    """Standard deviation of a training patient's change from one day to the next, robustly."""
    of = evidence.of(signal)
    of = of[["subject_id", "device_id", "window"]].assign(value=_comparable(of[what], what))
    following = of.merge(of.assign(window=of["window"] + 1), on=["subject_id", "device_id", "window"], suffixes=("", "_before"))
    change = (following["value"] - following["value_before"]).dropna()
    if len(change) < _LEAST_USUAL:
        return float("nan")
    off = (change - change.median()).abs()
    # Of values to a tenth of a degree most changes are none or one tenth: their median alone tells too little.
    spread = max(MAD * float(off.median()), float(off.quantile(0.9)) / _NINE_OF_TEN)
    return max(spread, MEASUREMENT_ERROR.get(signal, 0.0) / 4 if what == "level" else _LEAST_LOG)


def _comparable(values: "pd.Series[float]", what: str) -> "pd.Series[float]":
    return values if what == "level" else pd.Series(np.log(values.where(values > 0)), index=values.index)


def _together(change: Float64, usual: float, off: float) -> bool:
    """Whether it is what most patients did, not the median of few who went their own ways, and not what the others did."""
    known = change[np.isfinite(change)]
    most = np.mean((known - usual) * np.sign(off) >= abs(off) / 2) >= MOST_CHANGED
    return bool(most and np.median(known) * np.sign(off) >= abs(off) / 2)


def _day(evidence: Evidence) -> pd.Timestamp:
    return evidence.until - pd.Timedelta(days=1)
