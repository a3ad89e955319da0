"""A small ward with random vital signs, and a risk without a model."""

import numpy as np
import pandas as pd

from vigil.features.catalogue import SERVICES, group_by_view
from vigil.features.declarations import OWN_UNITS
from vigil.features.observations import check
from vigil.features.signals import SIGNALS

START = pd.Timestamp("2026-03-01T06:00:00Z")
VIEWS = tuple(group_by_view(SERVICES["vital_signs_v3"]))
SPREAD = {
    "heart_rate": (85, 20), "respiratory_rate": (18, 4), "spo2": (96, 2), "systolic_bp": (122, 18), "diastolic_bp": (74, 9),
    "body_temperature": (37.2, 0.8), "on_oxygen": (0.2, 0.4), "consciousness": (0.1, 0.4),
}  # fmt: skip


def ward(*, patients=30, hours=20, seed=1):
    """Return hourly sets of readings as checked observations, and an index half an hour after each set."""
    generator = np.random.default_rng(seed)
    readings = []
    for number in range(patients):
        for name, (level, spread) in SPREAD.items():
            signal = SIGNALS[name]
            values = generator.normal(generator.normal(level, spread), spread / 3, hours)
            values = np.clip(np.rint(values) if signal.coded else values, signal.low, signal.high)
            readings += [(f"p{number:03d}", START + pd.Timedelta(hours=hour), name, value) for hour, value in enumerate(values)]
    observations = check(
        pd.DataFrame(readings, columns=["subject_id", "observed_at", "signal", "value"]), declared=OWN_UNITS
    ).accepted
    return observations, index_of([f"p{number:03d}" for number in range(patients)], hours)


def index_of(subjects, hours):
    index = pd.DataFrame({"subject_id": subjects}).merge(pd.DataFrame({"hour": range(hours)}), how="cross")
    times = (START + pd.to_timedelta(index.pop("hour") + 0.5, unit="h")).astype("datetime64[us, UTC]")
    admitted = pd.Series(START, index=index.index).astype("datetime64[us, UTC]")
    return index.assign(
        index_time=times, age=60.0, sex=0.0, pregnant=0.0, unit_admitted_at=admitted, hospital_admitted_at=admitted
    )


def logistic(margin):
    return 1 / (1 + np.exp(-np.asarray(margin, dtype=float)))


def level(rows):
    """Return a sensible risk: it rises with NEWS2 and depends on nothing else."""
    return logistic(-4 + 0.4 * rows["news2"].to_numpy(float))
