"""Swapped devices: two patients wear each other's device, so each becomes at once what the other was."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vigil.features.derived import MEASUREMENT_ERROR
from vigil.models.monitoring.detectors.evidence import Evidence
from vigil.models.monitoring.detectors.finding import Finding
from vigil.models.monitoring.detectors.step_changes import LONG, MAD, SHORT, SLOTS, median

Float64 = NDArray[np.float64]

PAIR_RATIO: Final = 3.7  # natural logarithm of a likelihood ratio, of each of the two patients
ANYWHERE: Final = 4.0  # minus the logarithm of how often a patient becomes like any other on the ward: once in 55
TAILS: Final = 5.0  # degrees of freedom of a t distribution
DENSE: Final = 30.0  # minutes between readings; charts with longer intervals cannot show a moment
_LEAST_WARD: Final = 20  # devices
_LEAST_SIGNALS: Final = 2  # that tell two patients apart
_HIGHEST_RATIO: Final = 1e6  # a higher one is shown as this
_WORN_BY: Final = ("subject_id", "device_id")


def detect_swapped_devices(evidence: Evidence) -> Iterator[Finding]:
    """Yield the two devices whose patients each look, since a moment, as the other did before, and not like themselves."""
    vitals = evidence.now[evidence.now["signal"].isin(MEASUREMENT_ERROR).to_numpy()]
    vitals = vitals[(vitals["interval"] <= DENSE).to_numpy()]
    signals = vitals.groupby(list(_WORN_BY), observed=True)["signal"].nunique()
    worn = sorted((str(patient), str(device)) for patient, device in signals.index[signals >= _LEAST_SIGNALS])
    if len(worn) < 2:
        return
    # Each moment is examined over shorter and longer times. A swap shows in all of them, chance does not.
    sides = [_standardise_sides(evidence, worn, slots) for slots in (SHORT, SLOTS, LONG)]
    moments = evidence.step_changes(evidence.vitals[0]).moments
    best, since, pair = -np.inf, moments[0], (0, 0)
    for number, moment in enumerate(moments):
        ratios = [_swap_log_ratio(before[:, number], after[:, number], weight) for before, after, weight in sides]
        ratio = np.mean(ratios, axis=0)
        if ratio.max() > best:
            first, second = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
            best, since, pair = float(ratio.max()), moment, (int(first), int(second))
    if best >= PAIR_RATIO:
        devices = tuple(sorted(worn[number][1] for number in pair))
        times = min(np.exp(best), _HIGHEST_RATIO)
        text = f"each patient now looks like the other just before: at least {times:,.0f} times as likely as like themselves"
        yield Finding("exchanged", None, "device", devices, since, 2, len(worn), text)


def _standardise_sides(evidence: Evidence, worn: list[tuple[str, str]], slots: int) -> tuple[Float64, Float64, Float64]:
    """Return levels just before and just after each moment, in standard deviations of a change, and the weight of each signal.

    Levels after the moment are without the ward's own change.

    Returns:
        Before and after, shape (n_signals, n_moments, n_worn), and weights, shape (n_signals, 1, 1).
    """
    steps = [(signal, evidence.step_changes(signal, slots)) for signal in evidence.vitals]
    number_of = {pair: number for number, pair in enumerate(worn)}
    before = np.full((len(steps), len(steps[0][1].moments), len(worn)), np.nan)
    after = before.copy()
    for number, (_, changes) in enumerate(steps):
        if not np.isfinite(changes.scale):
            continue
        column_of = [number_of.get(pair) for pair in zip(*(changes.keys[key].astype(str) for key in _WORN_BY), strict=True)]
        rows = [row for row, column in enumerate(column_of) if column is not None]
        columns = [column for column in column_of if column is not None]
        before[number][:, columns] = changes.before[rows].T / changes.scale
        after[number][:, columns] = (changes.after[rows] - changes.common).T / changes.scale
    # The three pressures of a cuff are one piece of evidence.
    pressures = sum(signal.endswith("_bp") for signal, _ in steps)
    weight = np.array([1 / pressures if signal.endswith("_bp") else 1.0 for signal, _ in steps])
    return before, after, weight[:, None, None]


def _swap_log_ratio(before: Float64, after: Float64, weight: Float64) -> Float64:
    """Return the logarithm of how much more likely two devices are swapped than not, of all pairs.

    Each of the two patients has such a logarithm, and the smaller counts: an illness may take one patient to where another was,
    but hardly both at once. Without a swap a patient stays as before, or becomes like any patient of the ward, which is rare.
    Changes have the tails of a t distribution, so that several signals have to agree, and one alone is not enough (Lange,
    Little and Taylor, J Am Stat Assoc 1989;84:881).

    Args:
        before, after: levels, shape (n_signals, n_worn).
        weight: of each signal, shape (n_signals, 1, 1).

    Returns:
        Shape (n_worn, n_worn); minus infinity where too little is known.
    """
    middle = median(before)[:, None]
    spread = np.maximum(MAD * median(np.abs(before - middle))[:, None], 1)
    stays = _negative_log_density(after - before)[:, :, None]
    anywhere = (_negative_log_density((after - middle) / spread) + np.log(spread))[:, :, None]
    other = _negative_log_density(after[:, :, None] - before[:, None, :])
    known = np.isfinite(other) & np.isfinite(stays)
    known &= known.transpose(0, 2, 1)
    # Where few series are known before the moment, the usual change is not known either.
    known &= (np.isfinite(after - before).sum(axis=1) >= _LEAST_WARD)[:, None, None]
    stays, anywhere, other = ((np.where(known, term, 0.0) * weight).sum(axis=0) for term in (stays, anywhere, other))
    gain = np.minimum(stays, anywhere + ANYWHERE) - other
    both: Float64 = np.where(known.sum(axis=0) >= _LEAST_SIGNALS, np.minimum(gain, gain.T), -np.inf)
    np.fill_diagonal(both, -np.inf)
    return both


def _negative_log_density(change: Float64) -> Float64:
    """Return minus the logarithm of the density of a change in its standard deviations, up to a constant."""
    density: Float64 = (TAILS + 1) / 2 * np.log1p(change**2 / TAILS)
    return density
