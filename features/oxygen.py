"""Supplemental oxygen, derived from what else says so: one rule for cohorts, the API and online features.

Any supplemental oxygen scores in NEWS2 (RCP 2017). Many sources never chart it. They send the inspired fraction instead.
"""

from typing import Final

import pandas as pd

from vigil.features.scores import ROOM_AIR

FIO2: Final = "fio2"
OXYGEN: Final = "on_oxygen"
SUFFIX: Final = "#on_oxygen"  # of the message that an observation was derived from


def derive_oxygen(observations: pd.DataFrame) -> pd.DataFrame:
    """Return observations of ``on_oxygen`` that follow from an inspired fraction: 1 above that of room air, else 0.

    Where oxygen was charted at the same time, both observations count, as two of one source would (:mod:`vigil.features.ties`).
    So the outcome does not depend on which arrived first.

    Args:
        observations: checked observations, with a plausible FiO2 (a FiO2 of 0 or 3 % is an artefact, not room air). If
            signals are categories, ``on_oxygen`` is one.
    """
    is_fio2 = (observations["signal"] == FIO2).to_numpy()
    fio2 = observations[is_fio2]
    if not is_fio2.any():
        return fio2
    signal = pd.Series(OXYGEN, fio2.index).astype(fio2["signal"].dtype)
    derived = fio2.assign(signal=signal, value=(fio2["value"] > ROOM_AIR).astype("float64"))
    messages = fio2["message_id"]
    derived["message_id"] = messages.map(_with_suffix, na_action="ignore").astype(messages.dtype)
    return derived


def _with_suffix(message: str | bytes) -> str | bytes:
    return message + SUFFIX.encode() if isinstance(message, bytes) else f"{message}{SUFFIX}"
