"""Devices of a simulated patient: sampling, measurement error, artefacts, gaps, and late or repeated delivery."""

from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vigil.features.revisions import FINAL, STATUSES
from vigil.features.signals import SIGNALS
from vigil.pipelines.sources.simulated.deterioration import Course, FloatArray

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

SIGNAL_NAMES: Final = tuple(sorted(SIGNALS))
SECOND: Final = 1_000_000  # microseconds
MINUTE: Final = 60 * SECOND
DAY_MINUTES: Final = 1440


@dataclass(frozen=True, slots=True)
class Channel:
    """One signal of a device.

    Attributes:
        signal: the signal that is measured.
        noise: standard deviation of the measurement error, in the signal's unit.
        decimals: number of decimals that the display shows.
        artefact: range of the factor by which a disturbed reading is wrong.
    """

    signal: str
    noise: float
    decimals: int = 0
    artefact: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Device:
    """A kind of device.

    Attributes:
        kind: first part of every ``device_id``.
        channels: the signals it measures, all at the same times.
        intervals: possible minutes between readings. One of them is set for a patient. Empty means at the nurses' rounds.
        latency: mean time from reading to record while the connection is up, in seconds.
    """

    kind: str
    channels: tuple[Channel, ...]
    intervals: tuple[int, ...] = ()
    latency: float = 3.0


@dataclass(frozen=True, slots=True)
class Bouts:
    """Rate and duration of a kind of interruption. Durations are log-normal, with a maximum."""

    per_day: float
    median_minutes: float
    longest_minutes: float


# Measurement errors are those allowed or reported for ward devices: oximeters 2 to 3 % (two standard deviations or so),
# automatic cuffs 5 mm[Hg] mean error, CGM about 8 %.
WEARABLE: Final = Device(
    "wearable",
    (
        Channel("heart_rate", 2.0, artefact=(0.5, 1.9)),
        Channel("respiratory_rate", 1.5, artefact=(0.4, 2.2)),
        Channel("spo2", 1.0, artefact=(0.8, 0.98)),
    ),
    intervals=(1,),
)
CUFF: Final = Device(
    "cuff",
    (
        Channel("systolic_bp", 5.0, artefact=(0.7, 1.3)),
        Channel("diastolic_bp", 4.0, artefact=(0.7, 1.3)),
        Channel("mean_bp", 4.0, artefact=(0.7, 1.3)),
    ),
    intervals=(15, 20, 30),
)
CGM: Final = Device("cgm", (Channel("glucose", 9.0, artefact=(0.5, 0.9)),), intervals=(5,))
PATCH: Final = Device("patch", (Channel("body_temperature", 0.1, decimals=1, artefact=(0.93, 0.99)),), intervals=(10,))
THERMOMETER: Final = Device("thermometer", (Channel("body_temperature", 0.2, decimals=1),), latency=300.0)
# Nurses enter these values when they next reach a keyboard.
CHART: Final = Device("chart", (Channel("on_oxygen", 0.0), Channel("consciousness", 0.0)), latency=600.0)
# A full set of vital signs at the bedside, for patients who wear no device yet. The trolley sends it when it is complete.
TROLLEY: Final = Device(
    "trolley",
    (
        *(Channel(channel.signal, channel.noise) for channel in (*WEARABLE.channels, *CUFF.channels)),
        *THERMOMETER.channels,
        *CHART.channels,
    ),
    latency=300.0,
)
DEVICES: Final = (WEARABLE, CUFF, CGM, PATCH, THERMOMETER, CHART, TROLLEY)

# Chosen so that a wearable loses about a twelfth of its readings, and about one in forty arrives late.
DROPOUTS: Final = Bouts(per_day=3.0, median_minutes=20, longest_minutes=360)
ARTEFACTS: Final = Bouts(per_day=8.0, median_minutes=3, longest_minutes=15)
# During an outage of the connection devices store their readings. They deliver them when it ends.
OUTAGES: Final = Bouts(per_day=0.7, median_minutes=25, longest_minutes=300)
ZERO_SHARE: Final = 0.1  # of disturbed readings: the sensor has lost contact with the skin and reads 0
REDELIVERED_SHARE: Final = 0.004  # of messages: the acknowledgement was lost, and the gateway sends the message again
ROUND_JITTER: Final = 40  # largest delay of a round, in minutes
MESSAGES_PER_SIGNAL: Final = 20_000  # more than the minutes of the longest stay
FIRST_SPARE_MESSAGE: Final = 15_000  # of a signal: numbers from here on belong to no minute of the stay


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings of a stay, in columns of shape (readings,).

    Attributes:
        observed: microseconds since 1970.
        recorded: microseconds since 1970.
        signal: index into :data:`SIGNAL_NAMES`.
        value: as the device shows it, in the signal's unit.
        device: index into :data:`DEVICES`.
        message: number of the message, unique within the stay. A message holds one reading. A repeated one keeps its number,
            and so do the versions of a reading.
        status: index into :data:`vigil.features.revisions.STATUSES`.
        version: number of this version of the reading.
    """

    observed: IntArray
    recorded: IntArray
    signal: IntArray
    value: FloatArray
    device: IntArray
    message: IntArray
    status: IntArray
    version: IntArray

    def take(self, rows: IntArray) -> "Readings":
        """Return some rows, in the given order."""
        return Readings(*(getattr(self, field.name)[rows] for field in fields(Readings)))

    @staticmethod
    def concatenate(parts: list["Readings"]) -> "Readings":
        """Return all parts as one, in their order."""
        return Readings(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Readings)))


def draw_rounds(minutes: int, every_hours: int, rng: np.random.Generator) -> IntArray:
    """Draw the minutes of the nurses' rounds: the first on arrival, then one every ``every_hours``."""
    regular = np.arange(0, minutes, 60 * every_hours)
    return np.unique(np.clip(regular + rng.integers(0, ROUND_JITTER, regular.size, endpoint=True), 0, minutes - 1))


def observe(
    course: Course,
    devices: tuple[Device, ...],
    start: int,
    at_rounds: IntArray,
    rng: np.random.Generator,
    *,
    worn_from: int = 0,
) -> Readings:
    """Simulate all readings that the devices of one patient deliver.

    Args:
        course: the true physiology, one value a minute.
        devices: those the patient wears, and those the nurses chart with.
        start: of the stay, in microseconds since 1970.
        at_rounds: minutes of the nurses' rounds.
        rng: the patient's own generator.
        worn_from: minute from which the devices read. At rounds before it the trolley reads a full set.
    """
    minutes = course["heart_rate"].size
    outages = _draw_bouts(OUTAGES, minutes, rng)
    parts = []
    for device in (*devices, TROLLEY):
        minute, disturbed = _draw_readings(device, minutes, at_rounds, rng)
        used = minute < worn_from if device is TROLLEY else minute >= worn_from
        minute, disturbed = minute[used], disturbed[used]
        observed = start + minute * MINUTE + rng.integers(0, MINUTE)  # each device reads at its own second of the minute
        held_until = _covered_until(outages, minute) if device.intervals else minute
        sent = np.maximum(observed, start + held_until * MINUTE)
        for channel in device.channels:
            signal = SIGNAL_NAMES.index(channel.signal)
            parts.append(
                Readings(
                    observed=observed,
                    recorded=sent + rng.exponential(device.latency * SECOND, minute.size).astype(np.int64),
                    signal=np.full(minute.size, signal),
                    value=_measure(course[channel.signal][minute], channel, disturbed, rng),
                    device=np.full(minute.size, DEVICES.index(device)),
                    message=signal * MESSAGES_PER_SIGNAL + minute,
                    status=np.full(minute.size, STATUSES.index(FINAL)),
                    version=np.ones(minute.size, dtype=np.int64),
                )
            )
    return _redeliver(Readings.concatenate(parts), rng)


def _draw_readings(device: Device, minutes: int, at_rounds: IntArray, rng: np.random.Generator) -> tuple[IntArray, BoolArray]:
    """Draw the minutes at which a device reads, and whether each reading is disturbed; each of shape (readings,)."""
    if not device.intervals:
        return at_rounds, np.zeros(at_rounds.size, dtype=bool)
    minute = np.arange(0, minutes, rng.choice(device.intervals))
    minute = minute[_covered_until(_draw_bouts(DROPOUTS, minutes, rng), minute) == 0]
    return minute, _covered_until(_draw_bouts(ARTEFACTS, minutes, rng), minute) > 0


def _measure(truth: FloatArray, channel: Channel, disturbed: BoolArray, rng: np.random.Generator) -> FloatArray:
    """Return the values that the display shows; shape (readings,)."""
    signal = SIGNALS[channel.signal]
    value = np.clip(truth + channel.noise * rng.standard_normal(truth.size), signal.low, signal.high)
    wrong = value[disturbed] * rng.uniform(*channel.artefact, int(disturbed.sum()))
    value[disturbed] = np.where(rng.random(wrong.size) < ZERO_SHARE, 0.0, np.minimum(wrong, signal.high))
    return np.round(value, channel.decimals)


def _redeliver(readings: Readings, rng: np.random.Generator) -> Readings:
    """Add a second delivery of some messages, up to ten minutes later and equal in all else."""
    repeated = np.flatnonzero(rng.random(readings.message.size) < REDELIVERED_SHARE)
    copies = readings.take(repeated)
    later = copies.recorded + rng.integers(SECOND, 10 * MINUTE, repeated.size)
    return Readings.concatenate([readings, replace(copies, recorded=later)])


def _draw_bouts(bouts: Bouts, minutes: int, rng: np.random.Generator) -> IntArray:
    """Draw the begin and end of each bout, in minutes; shape (bouts, 2)."""
    begin = rng.integers(0, minutes, rng.poisson(bouts.per_day * minutes / DAY_MINUTES))
    length = np.minimum(bouts.median_minutes * rng.lognormal(0, 1, begin.size), bouts.longest_minutes)
    return np.stack([begin, begin + 1 + length.astype(np.int64)], axis=1)


def _covered_until(bouts: IntArray, minute: IntArray) -> IntArray:
    """Return the end of the last bout that covers each minute, or 0 where none does; shape of ``minute``."""
    covered = (minute >= bouts[:, :1]) & (minute < bouts[:, 1:])
    return np.asarray(np.where(covered, bouts[:, 1:], 0).max(axis=0, initial=0))
