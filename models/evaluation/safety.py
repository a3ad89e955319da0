"""Is a patient whose NEWS2 asks for an emergency response ever called low, or left without an alarm?

Counted twice on the same hours: as the model alone would have it, and with the safety net.
"""

from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

from models.alarms.safety_net import ALARM_FROM
from models.alarms.timeline import SILENCE, Watch

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_SILENCE_US: Final = SILENCE.total_seconds() * 1e6


def emergencies(watch: Watch, medium: float | Float64, high: float) -> dict[str, int]:
    """Count the hours in which NEWS2 is 7 or more, and what is said of them.

    An hour has an alarm if one sounded within the refractory period up to it. With the net no such hour is low, since its band
    is the worse of both; and none is without an alarm, but where a score of continuous signals has not held long enough yet.

    Args:
        watch: hours before the onset, with the net.
        medium: probability from which the model's risk is medium: one for all hours, or each its own.
        high: probability from which it sounds an alarm.

    Returns:
        ``hours, patients`` with NEWS2 of 7 or more; of these hours ``low_by_model, without_alarm_by_model, without_alarm`` and
        ``not_held_yet``; ``stays_at_the_end``, whose last hour is such a one, and of these ``low_by_model_at_the_end``.
    """
    urgent = watch.net_score >= ALARM_FROM
    low = urgent & (watch.probability < medium)
    last = np.append(watch.subject[1:] != watch.subject[:-1], True) if len(watch.subject) else np.zeros(0, dtype=bool)
    alone, both = (
        urgent & ~_since(heard.subject, heard.time, heard.fired(high), _SILENCE_US) for heard in (watch.without_net(), watch)
    )
    before = np.append(False, urgent[:-1] & ~last[:-1]) if len(urgent) else urgent
    held = (watch.net_spot >= ALARM_FROM) | before  # an index step is longer than the score has to hold
    return {
        "hours": int(urgent.sum()),
        "patients": len(np.unique(watch.patient[watch.subject[urgent]])),
        "low_by_model": int(low.sum()),
        "stays_at_the_end": int((urgent & last).sum()),
        "low_by_model_at_the_end": int((low & last).sum()),
        "without_alarm_by_model": int(alone.sum()),
        "without_alarm": int((both & held).sum()),
        "not_held_yet": int((both & ~held).sum()),
    }


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _since(subject: Int64, time: Int64, fired: NDArray[np.bool_], within: float) -> NDArray[np.bool_]:
    """Whether an alarm of the subject fired at most so long before each row, or at it."""
    covered = np.zeros(len(time), dtype=np.bool_)
    last = -1
    for i in range(len(time)):
        if i == 0 or subject[i] != subject[i - 1]:
            last = -1
        if fired[i]:
            last = i
        covered[i] = last >= 0 and time[i] - time[last] < within
    return covered
