"""Mistakes of staff who type readings in, and how they are put right: corrections and retractions.

Only what is typed can be mistyped: charts, thermometers and the trolley. The mistakes are

- a value with a slip of the finger, which is corrected minutes later;
- the same, but the mistyped original arrives after its correction;
- a round of the neighbouring patient, which is entered for this one and later retracted.

The observations that count in the end are those of the same ward without mistakes: same values, same times of observation and
recording. A mistake only adds rows, and a reading that was mistyped before becomes version 2. So all that differs is what was
known between a mistake and its correction. The mistakes have a generator of their own, which leaves all other draws alone.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from vigil.features.revisions import CORRECTED, RETRACTED, STATUSES
from vigil.features.signals import SIGNALS
from vigil.pipelines.sources.simulated.devices import (
    DEVICES,
    FIRST_SPARE_MESSAGE,
    MESSAGES_PER_SIGNAL,
    MINUTE,
    SIGNAL_NAMES,
    IntArray,
    Readings,
)
from vigil.pipelines.sources.simulated.physiology import draw_patient

# Ours, and so are the times: enough that a small ward has each kind.
MISTYPED_SHARE: Final = 0.02  # of typed readings
OVERTAKEN_SHARE: Final = 0.25  # of those: the correction arrives first
WRONG_PATIENT_SHARE: Final = 0.01  # of rounds
NOTICED_AFTER: Final = 2 * MINUTE  # a slip is noticed later than this, or it leaves no trace
OVERTAKEN_BY: Final = (1, 15)  # minutes from the correction to the arrival of the original
WALK: Final = (2, 6)  # minutes from the neighbour's bed to this one
RETRACTED_AFTER: Final = (10, 120)  # minutes

_TYPED: Final = tuple(number for number, device in enumerate(DEVICES) if not device.intervals)
_DECIMALS: Final = {
    (number, SIGNAL_NAMES.index(channel.signal)): channel.decimals for number in _TYPED for channel in DEVICES[number].channels
}


def add_mistakes(readings: Readings, rng: np.random.Generator) -> Readings:
    """Return the readings of a stay with the mistakes of those who typed them in, and with what put them right.

    Args:
        readings: of one stay, as :func:`vigil.pipelines.sources.simulated.devices.observe` returns them.
        rng: the generator of this stay's mistakes.
    """
    typed = np.flatnonzero(np.isin(readings.device, _TYPED))
    _, first = np.unique(readings.message[typed], return_index=True)  # a redelivery is no second entry
    typed = typed[first]
    corrected, slips = _mistype(readings, typed, rng)
    is_corrected = np.isin(readings.message, readings.message[corrected])
    numbered = replace(
        readings,
        status=np.where(is_corrected, STATUSES.index(CORRECTED), readings.status),
        version=np.where(is_corrected, 2, readings.version),
    )
    return Readings.concatenate([numbered, slips, *_enter_for_wrong_patient(readings, typed, rng)])


def _mistype(readings: Readings, typed: IntArray, rng: np.random.Generator) -> tuple[IntArray, Readings]:
    """Draw the readings that were mistyped at first; return their rows, and the mistyped originals."""
    draw = rng.random(typed.size)
    late = readings.recorded[typed] - readings.observed[typed] > NOTICED_AFTER
    rows = typed[late & (draw < MISTYPED_SHARE)]
    observed, recorded = readings.observed[rows], readings.recorded[rows]
    entered = observed + ((recorded - observed) * rng.uniform(0.1, 0.7, rows.size)).astype(np.int64)
    overtaken = recorded + (MINUTE * rng.uniform(*OVERTAKEN_BY, rows.size)).astype(np.int64)
    return rows, replace(
        readings.take(rows),
        recorded=np.where(rng.random(rows.size) < OVERTAKEN_SHARE, overtaken, entered),
        value=np.array([_slip(readings, row, rng) for row in rows.tolist()]),
    )


def _slip(readings: Readings, row: int, rng: np.random.Generator) -> float:
    """Return a mistyped value: a neighbouring code, or the last two digits swapped; of two equal ones the last is less by 1."""
    value, signal = float(readings.value[row]), SIGNALS[SIGNAL_NAMES[readings.signal[row]]]
    if signal.coded:
        neighbours = [code for code in (value - 1, value + 1) if signal.low <= code <= signal.high]
        return float(rng.choice(neighbours))
    scale: int = 10 ** _DECIMALS[int(readings.device[row]), int(readings.signal[row])]
    digits = round(value * scale)
    rest, (tens, ones) = digits // 100, divmod(digits % 100, 10)
    return (digits - 1 if tens == ones else 100 * rest + 10 * ones + tens) / scale


def _enter_for_wrong_patient(readings: Readings, typed: IntArray, rng: np.random.Generator) -> Sequence[Readings]:
    """Draw the rounds at which the neighbour's readings were entered for this patient; return these and their retractions."""
    minute = readings.observed[typed] // MINUTE
    rounds = np.unique(minute)[1:]  # the neighbour's round may come before this patient's, but not before the stay
    strangers = []
    for number, at in enumerate(rounds[rng.random(rounds.size) < WRONG_PATIENT_SHARE].tolist()):
        rows = typed[minute == at]
        neighbour = draw_patient(rng)
        level = {**neighbour.level, "on_oxygen": 0.0}
        level["mean_bp"] = level["diastolic_bp"] + (level["systolic_bp"] - level["diastolic_bp"]) / 3
        observed = readings.observed[rows] - MINUTE * int(rng.integers(*WALK))
        recorded = observed + (readings.recorded[rows] - readings.observed[rows])
        keys = zip(readings.device[rows].tolist(), readings.signal[rows].tolist(), strict=True)
        entered = replace(
            readings.take(rows),
            observed=observed,
            recorded=recorded,
            value=np.array([round(level[SIGNAL_NAMES[signal]], _DECIMALS[device, signal]) for device, signal in keys]),
            message=readings.signal[rows] * MESSAGES_PER_SIGNAL + FIRST_SPARE_MESSAGE + number,
        )
        noticed = recorded.max() + int(MINUTE * rng.uniform(*RETRACTED_AFTER))
        strangers += [
            entered,
            replace(
                entered,
                recorded=np.full(rows.size, noticed),
                value=np.full(rows.size, np.nan),
                status=np.full(rows.size, STATUSES.index(RETRACTED)),
                version=np.full(rows.size, 2),
            ),
        ]
    return strangers
