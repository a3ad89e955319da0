"""Observations that repeat what was recorded before, by their message or by their content. Each counts once."""

from typing import Any, Final

import numpy as np
import pandas as pd

from features.kernel.plan import UNBOUNDED
from features.revisions import counts_until, to_microseconds
from features.signals import BOUNDS, measured_signal

CONTENT: Final = ["subject_id", "signal", "observed_at", "value"]
# Each gateway numbers its own messages, and one message may carry several observations.
MESSAGE_KEY: Final = ["source", "message_id", "subject_id", "signal", "observed_at"]


def find_repeats(accepted: pd.DataFrame, has_message: np.ndarray, repeats_message: np.ndarray) -> np.ndarray:
    """Return which rows repeat a message or a content that counted when they were recorded.

    A message that only repeated another is not remembered, as the journal stores none. So once what it repeated is superseded,
    it counts when it is sent again.
    """
    is_repeat = np.zeros(len(accepted), dtype=bool)
    while True:
        known: np.ndarray = is_repeat | repeats_message
        more = np.zeros(len(accepted), dtype=bool)
        more[~known] = repeats_content(accepted[~known])
        if not more.any() or not _has_superseded(accepted):
            return known | more
        is_repeat |= more
        repeats_message = np.zeros(len(accepted), dtype=bool)
        repeats_message[~is_repeat] = find_repeated_messages(accepted[~is_repeat], has_message[~is_repeat])


def find_repeated_messages(accepted: pd.DataFrame, has_message: np.ndarray) -> np.ndarray:
    """Return which rows repeat a message that arrived before. A value and a bound of one signal are then the same signal."""
    repeats = np.zeros(len(accepted), dtype=bool)
    if not has_message.any():
        return repeats
    keys = accepted[MESSAGE_KEY]
    if accepted["signal"].isin(BOUNDS).any():
        keys = keys.assign(signal=keys["signal"].map(measured_signal))
    alike = np.flatnonzero(keys.duplicated(keep=False).to_numpy() & has_message)
    if len(alike):
        arrival = np.lexsort((accepted.index[alike], to_microseconds(accepted["recorded_at"])[alike]))
        repeats[alike[arrival]] = keys.iloc[alike[arrival]].duplicated().to_numpy()
    return repeats


def _has_superseded(accepted: pd.DataFrame) -> bool:
    return "superseded_at" in accepted and bool(accepted["superseded_at"].notna().any())


def repeats_content(accepted: pd.DataFrame) -> np.ndarray:
    """Return which rows repeat an earlier one that still counted when they were recorded."""
    repeats: np.ndarray = accepted.duplicated(CONTENT).to_numpy()
    if not _has_superseded(accepted):
        return repeats
    recorded, until = to_microseconds(accepted["recorded_at"]), counts_until(accepted)
    alike = np.flatnonzero(accepted.duplicated(CONTENT, keep=False).to_numpy())
    last_counts_until: dict[Any, int] = {}  # of the last row of this content that counts
    keys = accepted.iloc[alike][CONTENT].itertuples(index=False, name=None)
    for recorded_at, row, key in sorted(
        zip(recorded[alike].tolist(), alike.tolist(), keys, strict=True), key=lambda one: one[:2]
    ):
        repeats[row] = recorded_at < last_counts_until.get(key, -UNBOUNDED)
        if not repeats[row]:
            last_counts_until[key] = int(until[row])
    return repeats
