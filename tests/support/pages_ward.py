"""A ward to look at: patients whose last hours went through the rescorer, minute after minute, before the server starts.

The patients are invented. Their courses are made so that every state of the pages can be seen.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from tests.support.live_ward import LiveWard
from vigil.features.pseudonyms import open_pseudonyms
from vigil.serving.identity.identities import Identities

WARD = "B4"
STEP = timedelta(minutes=5)
WELL = {"heart_rate": 76, "respiratory_rate": 15, "spo2": 96, "systolic_bp": 124, "body_temperature": 36.8, "consciousness": 0}
SICK = {"heart_rate": 128, "respiratory_rate": 27, "spo2": 87, "systolic_bp": 92, "body_temperature": 38.9, "consciousness": 0}
NOISE = {"heart_rate": 3, "respiratory_rate": 1, "spo2": 0.7, "systolic_bp": 5, "body_temperature": 0.1, "consciousness": 0}


@dataclass(frozen=True)
class Course:
    """How a patient's last hours went.

    Attributes:
        name: the patient identifier.
        illness: how sick the patient is by hour before the present; 0 well, 1 sick. Between them it is a straight line.
        signals: that are measured; None: all.
        silent_hours: since when nothing was measured.
        facts: of the registration.
    """

    name: str
    illness: dict[float, float]
    signals: tuple[str, ...] | None = None
    silent_hours: float = 0
    ward: str = WARD

    def values(self, hours_ago, generator):
        """Return what is measured at a time."""
        if hours_ago < self.silent_hours:
            return {}
        times = sorted(self.illness, reverse=True)
        illness = np.interp(-hours_ago, [-time for time in times], [self.illness[time] for time in times])
        drawn = {
            signal: round(float(WELL[signal] + illness * (SICK[signal] - WELL[signal]) + generator.normal(0, NOISE[signal])), 1)
            for signal in WELL
        }
        drawn["consciousness"] = 0
        drawn["spo2"] = min(drawn["spo2"], 100)
        return {signal: value for signal, value in drawn.items() if self.signals is None or signal in self.signals}


COURSES = (
    Course("Bed 1", {8: 0.1, 3: 0.2, 0: 1.0}),
    Course("Bed 2", {8: 0.0, 0: 0.0}),
    Course("Bed 3", {8: 0.9, 4: 0.6, 0: 0.3}),
    Course("Bed 4", {8: 0.3, 0: 0.35}, silent_hours=3.5),
    Course("Bed 5", {8: 0.0, 0: 0.15}, signals=("heart_rate", "spo2")),
    Course("Bed 6", {8: 0.2, 2: 0.2, 0: 0.6}),
    Course("Bed 7", {8: 0.05, 0: 0.0}),
    Course("Bed 8", {8: 0.5, 0: 0.5}),
    Course("Elsewhere", {8: 0.6, 0: 0.9}, ward="C1"),
)


def fill(home, courses=COURSES, hours=8.0, *, model=True, seed=7):
    """Take a ward through its last hours."""
    pseudonyms, identities = open_pseudonyms(home), Identities(home)
    keys = {course.name: pseudonyms.subject_key(course.name) for course in courses}
    identities.store({key: name for name, key in keys.items()})
    generator = np.random.default_rng(seed)
    end = pd.Timestamp(datetime.now(UTC))
    live = LiveWard(home, end - timedelta(hours=hours), model=model)
    for course in courses:
        live.register(keys[course.name], ward=course.ward)
    while live.time <= end:
        hours_ago = (end - live.time) / timedelta(hours=1)
        for course in courses:
            values = course.values(hours_ago, generator)
            if values:
                live.send(keys[course.name], **values)
        live.rescore()
        live.forward(seconds=STEP.total_seconds())
    return keys
