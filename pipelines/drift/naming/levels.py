"""Faults that only a level or its scatter shows: a constant offset, noise, and two patients who wear each other's device."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.derived import MEASUREMENT_ERROR
from pipelines.drift.naming.evidence import BEFORE, NOW, Evidence
from pipelines.drift.naming.finding import Finding
from pipelines.drift.naming.places import places
from pipelines.drift.naming.steps import SHORT, SLOTS

Float64 = NDArray[np.float64]

BIAS_Z: Final = 4.5  # standard errors of a gateway's median change
BIAS_ERRORS: Final = 1.0  # by what a single reading may be wrong anyway a device is not off
NOISE_TIMES: Final = 1.25
NOISE_Z: Final = 6.0
STEP_Z: Final = 6.0  # more than of days, for there are some forty moments
DENSE: Final = 30.0  # minutes between readings, from which the hours around a moment are told by few: charts know no moment
PAIR_GAIN: Final = 20.0
PAIR_FIT: Final = 2.0  # squared standard deviations a signal, at most, from what the other was
MOST_CHANGED: Final = 0.75  # of a gateway's patients, by half of what the median did
_LEAST_PATIENTS: Final = 6  # of a gateway: fewer may well all change together
_LEAST_USUAL: Final = 20  # series of training patients
_LEAST_LOG: Final = 0.05  # five in a hundred
_LEAST_WARD: Final = 20  # devices
_LEAST_SIGNALS: Final = 2  # by which two patients are told apart
_WORN_BY: Final = ("subject_id", "device_id")
_MEDIAN_ERROR: Final = 1.2533  # standard error of a median, in those of a mean (normal distribution)
_MAD: Final = 1.4826


def noise(evidence: Evidence) -> Iterator[Finding]:
    """Readings of a gateway's patients scatter more from one to the next than nearly any training patient's, or than before."""
    for signal in _vitals(evidence):
        found = list(_scattered(evidence, signal))
        if not found and (more := _most_changed(evidence, signal, "noise")) is not None:
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
    for signal in _vitals(evidence):
        found = _stepped(evidence, signal)
        more = _most_changed(evidence, signal, "level")
        if found is None and more is not None:
            gateway, off, z, n = more
            if z >= BIAS_Z and abs(off) >= BIAS_ERRORS * MEASUREMENT_ERROR[signal]:
                said = f"the median patient changed by {off:+.1f} within a day, {z:.0f} standard errors more than the others"
                found = Finding("bias", signal, "gateway", (gateway,), _day(evidence), n, n, said)
        if found is not None:
            yield found


def _stepped(evidence: Evidence, signal: str) -> Finding | None:
    """At a moment."""
    found = evidence.steps(signal)
    if not len(found.keys) or not np.isfinite(found.scale):
        return None
    scale = max(found.scale, MEASUREMENT_ERROR[signal] / 4)
    best: tuple[float, float, str, int, int] | None = None
    gateway = found.keys["source"].astype(str).to_numpy()
    for name in np.unique(gateway):
        mine, others = found.change[gateway == name], found.change[gateway != name]
        n, m = np.isfinite(mine).sum(axis=0), np.isfinite(others).sum(axis=0)
        for place in map(int, np.flatnonzero(n >= _LEAST_PATIENTS)):
            many = m[place] >= _LEAST_PATIENTS
            usual = float(np.nanmedian(others[:, place])) if many else 0.0
            off = float(np.nanmedian(mine[:, place])) - usual
            error = _MEDIAN_ERROR * scale * np.sqrt(1 / n[place] + (1 / m[place] if many else 0))
            if (best is None or abs(off) / error > best[0]) and _together(mine[:, place], usual, off):
                best = (float(abs(off) / error), float(off), str(name), int(n[place]), int(place))
    if best is None:
        return None
    z, off, name, n_patients, place = best
    if z < STEP_Z or abs(off) < BIAS_ERRORS * MEASUREMENT_ERROR[signal]:
        return None
    said = f"the median patient changed by {off:+.1f} at once, {z:.0f} standard errors more than the others"
    return Finding("bias", signal, "gateway", (name,), pd.Timestamp(found.moments[place]), n_patients, n_patients, said)


def _most_changed(evidence: Evidence, signal: str, what: str) -> tuple[str, float, float, int] | None:
    """The gateway whose median patient changed most from one day to the next, beside the others.

    Returns:
        Its name, the change, in standard errors, and how many patients say so.
    """
    change = changes(evidence, signal, what)
    scale = usual_change(evidence, signal, what)
    if len(change) < _LEAST_PATIENTS or not scale > 0:
        return None
    tested = []
    for gateway, mine in change.groupby("source", observed=True):
        others = change[change["source"] != gateway]["change"]
        if len(mine) < _LEAST_PATIENTS:
            continue
        # What changes for everybody, such as the weather, is no gateway's fault.
        many = len(others) >= _LEAST_PATIENTS
        usual = float(others.median()) if many else 0.0
        off = float(mine["change"].median()) - usual
        error = _MEDIAN_ERROR * scale * np.sqrt(1 / len(mine) + (1 / len(others) if many else 0))
        if _together(mine["change"].to_numpy(), usual, off):
            tested.append((str(gateway), off, float(abs(off) / error), len(mine)))
    return max(tested, key=lambda found: found[2]) if tested else None


def exchanged(evidence: Evidence) -> Iterator[Finding]:
    """Two devices whose patients each look since a moment as the other did before, and no longer like themselves."""
    of_vitals = evidence.now[evidence.now["signal"].isin(MEASUREMENT_ERROR).to_numpy()]
    of_vitals = of_vitals[(of_vitals["interval"] <= DENSE).to_numpy()]
    signals = of_vitals.groupby(list(_WORN_BY), observed=True)["signal"].nunique()
    worn = sorted((str(patient), str(device)) for patient, device in signals.index[signals >= _LEAST_SIGNALS])
    # The same moment is looked at over shorter and longer times: what is crossed stays crossed, what is chance does not.
    gains = [_crossed(evidence, worn, slots) for slots in (SHORT, SLOTS)]
    gain = (gains[0][0] + gains[1][0]) / 2
    if not gain.size:
        return
    place, first, second = map(int, np.unravel_index(int(np.argmax(gain)), gain.shape))
    best = float(gain[place, first, second])
    if best >= PAIR_GAIN:
        names = tuple(sorted((worn[first][1], worn[second][1])))
        said = f"each fits what the other was just before better than itself, by {best:.0f} (squared standard deviations)"
        yield Finding("exchanged", None, "device", names, pd.Timestamp(gains[0][1][place]), 2, len(worn), said)


def _crossed(evidence: Evidence, worn: list[tuple[str, str]], slots: int) -> tuple[Float64, "pd.DatetimeIndex"]:
    """By how much both patients of two devices gain by being taken for each other, shape (moments, worn, worn)."""
    found = {signal: evidence.steps(signal, slots) for signal in _vitals(evidence)}
    found = {signal: of for signal, of in found.items() if len(of.keys) and np.isfinite(of.scale)}
    if not found:
        return np.empty((0, 0, 0)), pd.DatetimeIndex([])
    moments = next(iter(found.values())).moments
    number_of = {who: number for number, who in enumerate(worn)}
    before = np.full((len(worn), len(found), len(moments)), np.nan)
    after = before.copy()
    for number, (signal, of) in enumerate(found.items()):
        who = [number_of.get(key) for key in zip(*(of.keys[key].astype(str) for key in _WORN_BY), strict=True)]
        here = np.array([place is not None for place in who])
        places = np.array([place for place in who if place is not None], dtype=np.int64)
        # The three pressures of a cuff say one thing.
        alike = sum(name.endswith("_bp") for name in found) if signal.endswith("_bp") else 1
        scale = max(of.scale, MEASUREMENT_ERROR[signal] / 4) * np.sqrt(alike)
        before[places, number], after[places, number] = of.before[here] / scale, (of.after[here] - of.common) / scale
    both = np.empty((len(moments), len(worn), len(worn)))
    for place in range(len(moments)):
        b, a = before[:, :, place], after[:, :, place]
        own = np.nansum((a - b) ** 2, axis=1)
        apart = (a[:, None, :] - b[None, :, :]) ** 2
        common = np.isfinite(apart).sum(axis=2)
        cross = np.nansum(apart, axis=2)
        # Better than himself is not enough: he has to look as the other did, as nearly as anybody looks like himself.
        gain = own[:, None] - np.where((common >= _LEAST_SIGNALS) & (cross <= PAIR_FIT * common), cross, np.inf)
        # What a change is usually like is not known where hardly anybody was there before.
        known = np.isfinite(a - b).any(axis=1).sum() >= _LEAST_WARD
        both[place] = np.minimum(gain, gain.T) if known else -np.inf
        np.fill_diagonal(both[place], -np.inf)
    return both, moments


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
    spread = _MAD * float((change - change.median()).abs().median())
    return max(spread, MEASUREMENT_ERROR.get(signal, 0.0) / 4 if what == "level" else _LEAST_LOG)


def _comparable(values: "pd.Series[float]", what: str) -> "pd.Series[float]":
    return values if what == "level" else pd.Series(np.log(values.where(values > 0)), index=values.index)


def _together(change: Float64, usual: float, off: float) -> bool:
    """Whether it is what most patients did, not the median of few who went their own ways, and not what the others did."""
    known = change[np.isfinite(change)]
    most = np.mean((known - usual) * np.sign(off) >= abs(off) / 2) >= MOST_CHANGED
    return bool(most and np.median(known) * np.sign(off) >= abs(off) / 2)


def _vitals(evidence: Evidence) -> list[str]:
    return [signal for signal in MEASUREMENT_ERROR if (evidence.now["signal"] == signal).any()]


def _day(evidence: Evidence) -> pd.Timestamp:
    return evidence.until - pd.Timedelta(days=1)
