"""Two patients who wear each other's device: each becomes at once what the other was."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.derived import MEASUREMENT_ERROR
from models.monitoring.detectors.evidence import Evidence
from models.monitoring.detectors.finding import Finding
from models.monitoring.detectors.step_changes import LONG, MAD, SHORT, SLOTS, median

Float64 = NDArray[np.float64]

PAIR_RATIO: Final = 3.7  # natural logarithm of a ratio of likelihoods, of each of the two
ANYWHERE: Final = 4.0  # less the logarithm of how often somebody becomes like anybody on the ward: once in 55
TAILS: Final = 5.0  # degrees of freedom of a t distribution
DENSE: Final = 30.0  # minutes between readings, from which the hours around a moment are told by few: charts know no moment
_LEAST_WARD: Final = 20  # devices
_LEAST_SIGNALS: Final = 2  # by which two patients are told apart
_MOST_SAID: Final = 1e6
_WORN_BY: Final = ("subject_id", "device_id")


def exchanged(evidence: Evidence) -> Iterator[Finding]:
    """Two devices whose patients each look since a moment as the other did before, and no longer like themselves."""
    of_vitals = evidence.now[evidence.now["signal"].isin(MEASUREMENT_ERROR).to_numpy()]
    of_vitals = of_vitals[(of_vitals["interval"] <= DENSE).to_numpy()]
    signals = of_vitals.groupby(list(_WORN_BY), observed=True)["signal"].nunique()
    worn = sorted((str(patient), str(device)) for patient, device in signals.index[signals >= _LEAST_SIGNALS])
    if len(worn) < 2:
        return
    # The same moment is looked at over shorter and longer times: what is crossed stays crossed, what is chance does not.
    sides = [_sides(evidence, worn, slots) for slots in (SHORT, SLOTS, LONG)]
    moments = evidence.steps(evidence.vitals[0]).moments
    best, since, pair = -np.inf, moments[0], (0, 0)
    for place, moment in enumerate(moments):
        ratio = np.mean([_crossed(before[:, place], after[:, place], weight) for before, after, weight in sides], axis=0)
        if ratio.max() > best:
            first, second = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
            best, since, pair = float(ratio.max()), moment, (int(first), int(second))
    if best >= PAIR_RATIO:
        names = tuple(sorted(worn[number][1] for number in pair))
        said = f"each is at least {min(np.exp(best), _MOST_SAID):,.0f} times as likely the other of just before as itself"
        yield Finding("exchanged", None, "device", names, since, 2, len(worn), said)


def _sides(evidence: Evidence, worn: list[tuple[str, str]], slots: int) -> tuple[Float64, Float64, Float64]:
    """Levels just before and just after each moment in standard deviations of a change, shape (signals, moments, worn).

    Those of after are without the ward's own change. Third: the weight of each signal, shape (signals, 1, 1).
    """
    found = [(signal, evidence.steps(signal, slots)) for signal in evidence.vitals]
    number_of = {who: number for number, who in enumerate(worn)}
    before = np.full((len(found), len(found[0][1].moments), len(worn)), np.nan)
    after = before.copy()
    for number, (_, of) in enumerate(found):
        if not np.isfinite(of.scale):
            continue
        who = [number_of.get(key) for key in zip(*(of.keys[key].astype(str) for key in _WORN_BY), strict=True)]
        here = [row for row, place in enumerate(who) if place is not None]
        places = [place for place in who if place is not None]
        before[number][:, places] = of.before[here].T / of.scale
        after[number][:, places] = (of.after[here] - of.common).T / of.scale
    # The three pressures of a cuff say one thing.
    pressures = sum(signal.endswith("_bp") for signal, _ in found)
    weight = np.array([1 / pressures if signal.endswith("_bp") else 1.0 for signal, _ in found])
    return before, after, weight[:, None, None]


def _crossed(before: Float64, after: Float64, weight: Float64) -> Float64:
    """How much more likely two devices are exchanged than not, shape (worn, worn), from levels of shape (signals, worn).

    The logarithm of a ratio of likelihoods, of that patient of the two to whom it says less, since an illness takes one to
    where another was, but hardly both at once. If they are not exchanged a patient stays what he was, or becomes anything that
    there is on the ward, which is rare. Changes have the tails of a t distribution, so that several signals have to say so, not
    one alone (Lange, Little and Taylor, J Am Stat Assoc 1989;84:881).
    """
    middle = median(before)[:, None]
    spread = np.maximum(MAD * median(np.abs(before - middle))[:, None], 1)
    stays = _unlikely(after - before)[:, :, None]
    anywhere = (_unlikely((after - middle) / spread) + np.log(spread))[:, :, None]
    other = _unlikely(after[:, :, None] - before[:, None, :])
    known = np.isfinite(other) & np.isfinite(stays)
    known &= known.transpose(0, 2, 1)
    # What a change is usually like is not known where hardly anybody was there before.
    known &= (np.isfinite(after - before).sum(axis=1) >= _LEAST_WARD)[:, None, None]
    stays, anywhere, other = ((np.where(known, of, 0.0) * weight).sum(axis=0) for of in (stays, anywhere, other))
    gain = np.minimum(stays, anywhere + ANYWHERE) - other
    both: Float64 = np.where(known.sum(axis=0) >= _LEAST_SIGNALS, np.minimum(gain, gain.T), -np.inf)
    np.fill_diagonal(both, -np.inf)
    return both


def _unlikely(change: Float64) -> Float64:
    """Less the logarithm of the density of a change in its standard deviations, but for a constant."""
    unlikely: Float64 = (TAILS + 1) / 2 * np.log1p(change**2 / TAILS)
    return unlikely
