"""The check of observations that were resolved before: those of an exported cohort.

Which of them repeats or corrects another was decided when they were ingested, by messages and versions that an export does not
hold. So each is checked by itself, and ``superseded_at`` counts as it is written.
"""

from typing import Final

import numpy as np
import pandas as pd

from vigil.features.declarations import OWN_UNITS
from vigil.features.duplicates import CONTENT
from vigil.features.kernel.plan import UNBOUNDED
from vigil.features.observations import COLUMNS, CheckedObservations, sort_observations, understand
from vigil.features.revisions import counts_until, to_microseconds

_SUPERSEDED: Final = "superseded_at"


def check_resolved(frame: pd.DataFrame, now: pd.Timestamp | None = None) -> CheckedObservations:
    """Separate observations that can be used from those that cannot, where repetitions were resolved before.

    Args:
        frame: observations in the signals' own units, as :func:`vigil.features.observations.check` takes them, bounds by the
            names of their signals. ``superseded_at`` (UTC, may be NaT) is when a newer version was recorded.
        now: the present. An observation recorded after it is quarantined.

    Returns:
        As :func:`vigil.features.observations.check`; no row is a retraction, and no oxygen is derived. Two rows that say the
        same at the same time are one: the second is quarantined.

    Raises:
        ObservationError: a required column is missing, or a time has no time zone.

    >>> time = pd.Timestamp("2026-01-31T08:00:00Z")
    >>> row = {"subject_id": "a", "observed_at": time, "signal": "heart_rate", "value": 80.0}
    >>> checked = check_resolved(pd.DataFrame([row, row]))
    >>> len(checked.accepted), checked.quarantined["reason"].tolist()
    (1, ['duplicate_reading'])
    """
    rows = frame.reset_index(drop=True)
    usable, reason = understand(rows, now, OWN_UNITS)
    columns = [*COLUMNS, *([_SUPERSEDED] if _SUPERSEDED in rows else [])]
    if _SUPERSEDED in rows:
        usable[_SUPERSEDED] = rows[_SUPERSEDED]
        reason = reason.mask((reason == "") & (rows[_SUPERSEDED] < usable["recorded_at"]), "superseded")
    ordered = sort_observations(usable[reason == ""])
    repeats = _repeats(ordered)
    reason.loc[ordered.index[repeats]] = "duplicate_reading"
    rejected = reason != ""
    return CheckedObservations(
        accepted=ordered.loc[~repeats, columns].reset_index(drop=True),
        quarantined=rows[rejected].assign(reason=reason[rejected]).reset_index(drop=True),
        retractions=rows.iloc[:0],
        content=usable[["signal", "value"]],
    )


def _repeats(rows: pd.DataFrame) -> np.ndarray:
    """Return which rows say what another one says that counts already when they are recorded.

    A row that was superseded in the group that it came with counts at no time, so it repeats nothing.
    """
    repeats = np.zeros(len(rows), dtype=bool)
    alike = np.flatnonzero(rows.duplicated(CONTENT, keep=False))
    if len(alike):
        recorded, until = to_microseconds(rows["recorded_at"])[alike], counts_until(rows)[alike]
        same = rows.iloc[alike].assign(position=alike, recorded=recorded, until=until)[until > recorded]
        same = same.sort_values("recorded", kind="stable")
        content = [same[name].astype(object) for name in CONTENT]
        before = same.groupby(content, sort=False)["until"].transform(lambda until: until.cummax().shift(fill_value=-UNBOUNDED))
        repeats[same["position"]] = (same["recorded"] < before).to_numpy()
    return repeats
