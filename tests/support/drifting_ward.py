"""A small synthetic ward for tests to change: two days, two gateways, one monitor for each patient."""

import numpy as np
import pandas as pd

from vigil.models.monitoring.detectors import Evidence
from vigil.models.monitoring.received import check_received
from vigil.models.monitoring.signal_reference import profile_days
from vigil.pipelines.drift.drill.replay import Replay

START = pd.Timestamp("2026-03-01T05:17Z")
UNTIL = START + pd.Timedelta(days=2)
SINCE = UNTIL - pd.Timedelta(days=1) + pd.Timedelta(minutes=7)
LEVELS = {
    "heart_rate": (80, 12), "respiratory_rate": (16, 2), "spo2": (95, 2), "systolic_bp": (125, 10),
    "diastolic_bp": (75, 6), "body_temperature": (37, 0.3), "glucose": (110, 10), "on_oxygen": (0, 0),
}  # fmt: skip


def ward(seed=1, patients=24):
    rng = np.random.default_rng(seed)
    moments = START + pd.to_timedelta(np.arange(0, 2 * 24 * 60, 10), unit="min")
    parts = []
    for patient in range(patients):
        for signal, (mean, between) in LEVELS.items():
            digits = 1 if signal == "body_temperature" else 0
            values = mean + between * rng.normal() + between / 2 * rng.normal(size=len(moments))
            parts.append(
                pd.DataFrame(
                    {
                        "subject_id": f"p{patient:02}", "observed_at": moments, "signal": signal, "value": values.round(digits),
                        "recorded_at": moments + pd.to_timedelta(rng.exponential(3, len(moments)), unit="s"),
                        "device_id": f"monitor-{patient:02}", "source": f"gateway-{patient % 2 + 1}",
                    }
                )
            )  # fmt: skip
    readings = pd.concat(parts, ignore_index=True).astype(
        {"observed_at": "datetime64[us, UTC]", "recorded_at": "datetime64[us, UTC]"}
    )
    readings["message_id"] = readings.index.astype(str)
    readings = readings.sort_values("recorded_at", kind="stable", ignore_index=True)
    names = [f"p{patient:02}" for patient in range(patients)]
    stays = pd.DataFrame({"subject_id": names, "start": START, "end": UNTIL, "age": 40.0 + np.arange(patients), "site": "a"})
    outcomes = pd.DataFrame({"subject_id": names[:3], "onset": UNTIL, "kind": "sepsis", "onset_known": True})
    return Replay(readings, stays, outcomes)


def reference():
    profiles = profile_days(check_received(ward(seed=2, patients=40).readings))
    numbers = {name: pd.factorize(profiles[name])[0] for name in ("subject_id", "device_id", "source")}
    return profiles.assign(signal=profiles["signal"].astype(str), **numbers)


def evidence(replay, usual, **more):
    recorded = replay.readings["recorded_at"]
    return Evidence(check_received(replay.readings[(recorded <= UNTIL).to_numpy()]), UNTIL, usual, **more)
