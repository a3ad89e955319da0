"""Other habits of measuring: the same patients as another hospital might have measured them, to learn from besides.

How often somebody measures, and what, says much about a patient where a model is trained, and misleads it where nurses,
laboratories and devices keep other hours. So every training patient comes twice: as he was measured, and as he would have been
under habits drawn for him at random. What a model learns from both holds whatever the habits (domain randomisation: Tobin J,
et al. Domain randomization for transferring deep neural networks from simulation to the real world. IROS 2017:23-30).

Nothing is made up: readings are only left out, and none of an amount that is summed up, since less of it would be another
patient. What is drawn depends on the reading and its patient alone, not on who else is in the frame, so parts of a cohort give
what the whole does.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.signals import SIGNALS, Kind

# The least share of readings that another hospital takes. Ours: monitors are much alike, blood is drawn up to three times as
# often in one unit as in another, and oxygen is charted by some for every breath, by others never.
LEAST_SHARE: Final[Mapping[Kind, float]] = {"vital": 0.4, "support": 0.0, "bedside": 0.3, "laboratory": 0.3}

SUMMED: Final = ("urine_output",)  # each reading is an amount collected, and only their sum says something

# What one decision governs: each vital sign has its own habit, but blood is drawn for all its values at once, and what is
# charted at the bedside is charted together.
_HABIT: Final = {name: name if signal.kind == "vital" else signal.kind for name, signal in SIGNALS.items()}


def remeasured(observations: pd.DataFrame) -> pd.DataFrame:
    """The readings that are left under other habits, drawn anew for each patient.

    Args:
        observations: checked observations (:func:`features.observations.check`).

    Returns:
        Some of their rows, in the same order.
    """
    signal, signals = pd.factorize(observations["signal"])
    habit = pd.Categorical([_HABIT[str(name)] for name in signals]).take(signal)
    least = np.array([1.0 if name in SUMMED else LEAST_SHARE[SIGNALS[str(name)].kind] for name in signals])[signal]
    patient = pd.DataFrame({"subject_id": observations["subject_id"].astype("category").array, "habit": habit})
    share = least + (1 - least) * _drawn(patient, "habits.of.wards.")
    taken = _drawn(patient.assign(observed_at=observations["observed_at"].array), "readings.of.them") < share
    return observations[taken]


def _drawn(rows: pd.DataFrame, purpose: str) -> NDArray[np.float64]:
    """A number in [0, 1) that is each row's own, for a purpose (16 letters), shape (n_rows,)."""
    hashed = pd.util.hash_pandas_object(rows, index=False, hash_key=purpose)
    return np.asarray(hashed.to_numpy() / 2.0**64)
