"""Events of a simulated patient: hidden deteriorations, and harmless disturbances that look like them.

Both are tables of effects on signals. A deterioration grows until its onset and stays. A disturbance comes and goes. The
patterns are those of textbooks. Their sizes are chosen so that early warning is possible but not easy. None of it is clinical
evidence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Course = dict[str, FloatArray]
"""True physiology of one stay. Each signal has one value a minute from the start, in its unit; shape (minutes,)."""


@dataclass(frozen=True, slots=True)
class Effect:
    """The response of one signal to a deterioration or a disturbance.

    Attributes:
        signal: the signal that changes.
        change: its change at the peak of an episode of strength 1, in the signal's unit.
        delay: of a deterioration: the part of its prodrome (0 to 1) that passes before this signal changes.
        irregular: of a disturbance: the standard deviation that it adds from minute to minute, in the signal's unit.
    """

    signal: str
    change: float
    delay: float = 0.0
    irregular: float = 0.0


@dataclass(frozen=True, slots=True)
class Deterioration:
    """A kind of event, and the changes that precede it.

    Attributes:
        kind: of the outcome. Two rows may describe two forms of one kind.
        weight: frequency relative to the other rows.
        prodrome: shortest and longest time from the first change to the onset, in hours.
        effects: changes of signals, largest at the onset.
        needs: the chronic condition without which this event does not occur.
        target: a signal and the level it reaches at the onset whatever the strength, where a level defines the event.
    """

    kind: str
    weight: float
    prodrome: tuple[float, float]
    effects: tuple[Effect, ...]
    needs: str | None = None
    target: tuple[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Disturbance:
    """A harmless episode in a patient who only looks ill.

    Attributes:
        name: a clinician's term for it.
        hours: shortest and longest duration of an episode.
        episodes: the largest number of episodes in a stay.
        effects: changes of signals, largest in the middle of the episode.
        at_start: whether the stay begins within the episode, as after an operation.
        weight, needs: as in :class:`Deterioration`.
    """

    name: str
    hours: tuple[float, float]
    episodes: int
    effects: tuple[Effect, ...]
    at_start: bool = False
    weight: float = 1.0
    needs: str | None = None


_SEPTIC: Final = (
    Effect("heart_rate", 26, delay=0.05),
    Effect("respiratory_rate", 7, delay=0.1),
    Effect("systolic_bp", -24, delay=0.35),
    Effect("diastolic_bp", -14, delay=0.35),
    Effect("spo2", -2.5, delay=0.3),
    Effect("consciousness", 0.9, delay=0.7),
)
DETERIORATIONS: Final = (
    Deterioration("sepsis", 0.30, (6, 18), (Effect("body_temperature", 1.6), *_SEPTIC)),
    # About one septic patient in five has a low temperature instead of fever.
    Deterioration("sepsis", 0.08, (6, 18), (Effect("body_temperature", -1.0), *_SEPTIC)),
    Deterioration(
        "respiratory_failure",
        0.28,
        (6, 17),
        (
            Effect("respiratory_rate", 10),
            Effect("spo2", -7, delay=0.15),
            Effect("heart_rate", 15, delay=0.2),
            Effect("systolic_bp", 8, delay=0.4),
            Effect("consciousness", 0.6, delay=0.75),
        ),
    ),
    Deterioration(
        "bleeding",
        0.20,
        (6, 16),
        (
            Effect("heart_rate", 32),
            Effect("respiratory_rate", 5, delay=0.2),
            # Vessels constrict first. The pulse pressure narrows, and the systolic pressure falls late.
            Effect("diastolic_bp", 4),
            Effect("systolic_bp", -36, delay=0.45),
            Effect("diastolic_bp", -16, delay=0.55),
            Effect("body_temperature", -0.6, delay=0.2),
            Effect("consciousness", 0.5, delay=0.8),
        ),
    ),
    Deterioration(
        "hypoglycaemia",
        0.8,  # in patients with diabetes only; about one event in ten
        (4, 14),
        (Effect("heart_rate", 12, delay=0.5), Effect("consciousness", 1.0, delay=0.8)),
        needs="diabetes",
        target=("glucose", 52),  # hypoglycaemia below 54 mg/dL is clinically important
    ),
)

DISTURBANCES: Final = (
    Disturbance(
        "fever that resolves",
        (10, 24),
        2,
        (Effect("body_temperature", 1.5), Effect("heart_rate", 18), Effect("respiratory_rate", 4)),
    ),
    Disturbance(
        "chest infection on treatment",
        (16, 48),
        1,
        (
            Effect("respiratory_rate", 6),
            Effect("spo2", -4),
            Effect("heart_rate", 12),
            Effect("body_temperature", 0.9),
        ),
    ),
    Disturbance(
        "after an operation",
        (18, 48),
        1,
        (Effect("heart_rate", 24), Effect("systolic_bp", -12), Effect("body_temperature", 0.5), Effect("spo2", -1.5)),
        at_start=True,
    ),
    Disturbance("atrial fibrillation", (1, 10), 3, (Effect("heart_rate", 45, irregular=12),)),
    Disturbance(
        "pain",
        (1, 5),
        5,
        (Effect("heart_rate", 18), Effect("respiratory_rate", 6), Effect("systolic_bp", 18), Effect("diastolic_bp", 9)),
    ),
    Disturbance(
        "hypotension after a drug",
        (1, 4),
        4,
        (Effect("systolic_bp", -34), Effect("diastolic_bp", -16), Effect("heart_rate", 8)),
    ),
    Disturbance(
        "dehydration",
        (10, 30),
        1,
        (Effect("heart_rate", 18), Effect("systolic_bp", -18), Effect("diastolic_bp", -6), Effect("spo2", -0.5)),
    ),
    Disturbance("sedation", (3, 8), 3, (Effect("consciousness", 1.3), Effect("respiratory_rate", -3), Effect("spo2", -2))),
    Disturbance("mucus plugging", (0.5, 3), 5, (Effect("spo2", -6), Effect("respiratory_rate", 5), Effect("heart_rate", 8))),
    Disturbance("long fast", (3, 8), 3, (Effect("glucose", -55),), weight=5, needs="diabetes"),
)

STRENGTH: Final = (0.4, 1.5)  # of a deterioration, from hardly visible to obvious
HARMLESS_STRENGTH: Final = (0.4, 1.2)  # of a disturbance
CURVATURE: Final = (0.4, 1.0)  # exponent of the rise: from steep at first and then compensated, to steady
RECOVERY_HOURS: Final = (3.0, 10.0)  # half-life of an illness under effective treatment; ours: most of it is gone in a day
SCATTER: Final = 0.35  # log standard deviation between the signals of one patient, so that no two patients look the same


Row = TypeVar("Row", Deterioration, Disturbance)


def choose(table: Sequence[Row], conditions: frozenset[str], rng: np.random.Generator) -> Row:
    """Draw a row of the table that can occur in a patient with these chronic conditions."""
    possible = [row for row in table if row.needs is None or row.needs in conditions]
    weights = np.array([row.weight for row in possible])
    return possible[rng.choice(len(possible), p=weights / weights.sum())]


def draw_prodrome(event: Deterioration, rng: np.random.Generator) -> float:
    """Draw the time from the first change to the onset, in minutes. Most events develop slowly, few quickly."""
    shortest, longest = event.prodrome
    return 60 * rng.triangular(shortest, longest, longest)


def deteriorate(
    course: Course,
    event: Deterioration,
    onset: float,
    response: Mapping[str, float],
    rng: np.random.Generator,
    *,
    lead: float | None = None,
    strength: float | None = None,
    treated_from: float | None = None,
) -> None:
    """Add a deterioration to a course, in place, up to its onset or until treatment averts it.

    Args:
        course: the physiology without the event.
        event: the deterioration.
        onset: its time, also if treatment averts it, in minutes from the start of the stay.
        response: the factor on each signal's changes in this patient (1 where absent), such as 0.5 under beta blockade.
        rng: the patient's own generator.
        lead: minutes from the first change to the onset. The first change may lie before the stay. Drawn if None.
        strength: factor on all changes. Drawn if None.
        treated_from: minute from which the illness recedes, at or before the onset. None means that it does not recede.
    """
    lead = draw_prodrome(event, rng) if lead is None else lead
    strength = rng.uniform(*STRENGTH) if strength is None else strength
    curvature = rng.uniform(*CURVATURE)
    minute = np.arange(course["heart_rate"].size, dtype=np.float64)
    remaining = np.ones(minute.size)
    if treated_from is not None:
        remaining = 0.5 ** (np.maximum(minute - treated_from, 0) / (60 * rng.uniform(*RECOVERY_HOURS)))
        minute = np.minimum(minute, treated_from)  # under treatment the illness does not progress
    for effect in event.effects:
        rise = _rise(minute, onset, lead * (1 - effect.delay)) ** curvature
        course[effect.signal] += remaining * rise * _draw_change(effect, strength, response, rng)
    if event.target is not None:
        signal, level = event.target
        course[signal] += remaining * _rise(minute, onset, lead) * (level - course[signal])


def disturb(course: Course, disturbance: Disturbance, response: Mapping[str, float], rng: np.random.Generator) -> None:
    """Add the episodes of a disturbance to a course, in place. Arguments are those of :func:`deteriorate`."""
    minutes = course["heart_rate"].size
    for _ in range(rng.integers(1, disturbance.episodes, endpoint=True)):
        duration = 60 * rng.uniform(*disturbance.hours)
        begin = -duration / 3 if disturbance.at_start else rng.uniform(-duration / 2, minutes)
        shape = np.interp(np.arange(minutes), begin + duration * np.array([0, 0.35, 0.6, 1]), [0.0, 1.0, 1.0, 0.0])
        strength = rng.uniform(*HARMLESS_STRENGTH)
        for effect in disturbance.effects:
            noise = effect.irregular * rng.standard_normal(minutes)
            course[effect.signal] += shape * (_draw_change(effect, strength, response, rng) + noise)


def _draw_change(effect: Effect, strength: float, response: Mapping[str, float], rng: np.random.Generator) -> float:
    """Draw the change of this patient's signal at the peak, in the signal's unit."""
    return effect.change * strength * rng.lognormal(0, SCATTER) * response.get(effect.signal, 1.0)


def _rise(minute: FloatArray, onset: float, lead: float) -> FloatArray:
    """Return 0 until ``lead`` minutes before the onset, rising to 1 at the onset and 1 after it; shape of ``minute``."""
    return np.clip(1 - (onset - minute) / lead, 0.0, 1.0)
