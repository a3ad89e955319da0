"""Safety: how often a patient with a NEWS2 of 7 or more is called low risk, or has no alarm.

Each hour is counted twice: for the model alone, and for the model with the safety net.
"""

from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

from vigil.models.alarms.safety_net import ALARM_FROM
from vigil.models.alarms.timeline import REFRACTORY_PERIOD, AlarmTimeline

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_SILENCE_US: Final = REFRACTORY_PERIOD.total_seconds() * 1e6


def count_emergencies(watch: AlarmTimeline, medium: float | Float64, high: float) -> dict[str, int]:
    """Count the hours with a NEWS2 of 7 or more, and how the model and the safety net answered in them.

    An hour has an alarm if one sounded within the refractory period up to it. With the safety net no such hour is low, because
    the band shown is the worse of both. With the safety net an hour lacks an alarm only while a score of continuous signals
    has not held long enough.

    Args:
        watch: the hours before the onset, with the scores of the safety net.
        medium: probability from which the model's band is medium: one for all hours, or one per hour, shape (n_rows,).
        high: probability from which the model sounds an alarm.

    Returns:
        ``hours, patients``: with a NEWS2 of 7 or more. Of these hours: ``low_by_model, without_alarm_by_model, without_alarm``
        and ``not_held_yet``. ``stays_at_the_end``: stays with such a last hour; of these ``low_by_model_at_the_end``.
    """
    urgent = watch.net_score >= ALARM_FROM
    low = urgent & (watch.probability < medium)
    last = np.append(watch.subject[1:] != watch.subject[:-1], True) if len(watch.subject) else np.zeros(0, dtype=bool)
    without_model_alarm, without_alarm = (
        urgent & ~_has_recent_alarm(alarms.subject, alarms.time, alarms.alarms_at(high), _SILENCE_US)
        for alarms in (watch.without_net(), watch)
    )
    urgent_before = np.append(False, urgent[:-1] & ~last[:-1]) if len(urgent) else urgent
    has_held = (watch.net_spot >= ALARM_FROM) | urgent_before  # one index step is longer than a score must hold
    return {
        "hours": int(urgent.sum()),
        "patients": len(np.unique(watch.patient[watch.subject[urgent]])),
        "low_by_model": int(low.sum()),
        "stays_at_the_end": int((urgent & last).sum()),
        "low_by_model_at_the_end": int((low & last).sum()),
        "without_alarm_by_model": int(without_model_alarm.sum()),
        "without_alarm": int((without_alarm & has_held).sum()),
        "not_held_yet": int((without_alarm & ~has_held).sum()),
    }


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _has_recent_alarm(subject: Int64, time: Int64, fired: NDArray[np.bool_], within: float) -> NDArray[np.bool_]:
    """Return whether an alarm of the subject fired at each row, or less than ``within`` microseconds before it."""
    covered = np.zeros(len(time), dtype=np.bool_)
    last = -1
    for i in range(len(time)):
        if i == 0 or subject[i] != subject[i - 1]:
            last = -1
        if fired[i]:
            last = i
        covered[i] = last >= 0 and time[i] - time[last] < within
    return covered
