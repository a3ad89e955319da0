"""Safety: hours with a NEWS2 of 7 or more, counted by hand."""

import numpy as np
import pandas as pd

from tests.support.synthetic_risks import HOUR, T0
from vigil.models.alarms.timeline import AlarmTimeline
from vigil.models.evaluation.safety import count_emergencies


def stay(name, risks, scores, spots=None):
    frame = pd.DataFrame({"subject_id": name, "probability": risks, "net_score": np.array(scores, dtype=float)})
    frame["net_spot"] = frame["net_score"] if spots is None else np.array(spots, dtype=float)
    frame["index_time"] = pd.Series([T0 + hour * HOUR for hour in range(len(risks))], dtype="datetime64[us, UTC]")
    return frame.assign(onset=pd.Series(pd.NaT, frame.index, "datetime64[us, UTC]"), onset_known=True)


def test_emergencies_of_spot_checks_by_hand():
    frame = pd.concat(
        [
            stay("a", [0.1, 0.1, 0.9, 0.3], [3, 8, 9, 7]),  # low once; the model sounds an alarm in the third hour only
            stay("b", [0.1, 0.1], [2, 7]),  # ends low
            stay("c", [0.9], [6]),
        ]
    )
    counts = count_emergencies(AlarmTimeline.from_frame(frame), 0.2, 0.5)
    assert counts == {
        "hours": 4,
        "patients": 2,
        "low_by_model": 2,
        "stays_at_the_end": 2,
        "low_by_model_at_the_end": 1,
        "without_alarm_by_model": 2,  # a's second hour, b's second
        "without_alarm": 0,
        "not_held_yet": 0,
    }


def test_emergencies_wait_for_a_continuous_score_to_hold():
    frame = stay("a", [0.1] * 4, [8, 8, 4, 8], spots=[2, 2, 2, 2])
    counts = count_emergencies(AlarmTimeline.from_frame(frame), 0.2, 0.5)
    assert (counts["hours"], counts["not_held_yet"], counts["without_alarm"]) == (
        3,
        1,
        0,
    )  # the last is within 8 h


def test_emergencies_accept_a_medium_threshold_per_hour():
    watch = AlarmTimeline.from_frame(stay("a", [0.3, 0.3], [7, 7]))
    assert count_emergencies(watch, np.array([0.2, 0.4]), 0.5)["low_by_model"] == 1
