"""What can be said of patients from their features: the model's risk, or where there is none to be had, NEWS2 and its interval.

The one place where it is decided which: the API, the rescorer and the replay of past predictions all ask here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.derived import SCORE_CARRY_HOURS
from features.scores import NEWS2_BANDS, NEWS2_HIGH, NEWS2_MEDIUM
from models.registry import RegisteredModel

Basis = Literal["model", "news2"]
Band = Literal["low", "medium", "high"]
Finding = Literal["no_model", "withdrawn", "no_feature_store", "stale_data", "no_recent_readings", "silent"]

# A patient of whom nothing came for so long is said to be silent: the longest interval of RCP 2017, chart 4.
SILENT_AFTER: Final = timedelta(hours=12)

_PARTS: Final = {vital: f"news2_{vital}" for vital in NEWS2_BANDS}
_HIGHEST_POINTS: Final = {vital: max(points) for vital, (_, points) in NEWS2_BANDS.items()}
_NUMBERS: Final = ("hours_since_reading", *_PARTS.values())


@dataclass(frozen=True, slots=True)
class Risk:
    """What is said of one patient as of ``index_time``.

    Attributes:
        patient: pseudonym.
        index_time: up to which readings were considered.
        basis: the model, or NEWS2.
        probability: of the outcome within the horizon; None where NEWS2 is all that can be said.
        band: of the probability by the model's thresholds, else of NEWS2 by the RCP's chart.
        news2, news2_highest: the score, a missing part counting 0, and its maximum.
        news2_parts: points of each part, None where unknown.
        findings: why there is no probability; and ``silent``, which is no reason against one.
        hours_since_reading: before ``index_time``; None: none within a day.
    """

    patient: str
    index_time: pd.Timestamp
    basis: Basis
    probability: float | None
    band: Band
    news2: int
    news2_highest: int
    news2_parts: dict[str, int | None]
    findings: tuple[Finding, ...]
    hours_since_reading: float | None


def trusted(registered: RegisteredModel | None) -> RegisteredModel | None:
    """The model, if there is one that may be asked: one that was withdrawn decides nothing, and nothing bears its name."""
    return None if registered is None or registered.withdrawn else registered


def assess(
    registered: RegisteredModel | None, rows: pd.DataFrame, findings: Sequence[tuple[Finding, ...]] | None = None
) -> list[Risk]:
    """Risks of feature rows, in their order.

    Args:
        registered: the model, None where there is none; one that was withdrawn is not asked.
        rows: ``subject_id, index_time`` and features; at least those of the scores.
        findings: of each row, what already speaks against asking the model.
    """
    if rows.empty:
        return []
    found = [list(row) for row in findings] if findings is not None else [[] for _ in range(len(rows))]
    numbers = rows[list(_NUMBERS)].to_numpy(np.float64).tolist()
    model = trusted(registered)
    for row, against in zip(numbers, found, strict=True):
        if model is None:
            against.append("no_model" if registered is None else "withdrawn")
        if math.isnan(row[0]) and "stale_data" not in against:
            against.append("no_recent_readings")
    probability = np.full(len(rows), np.nan)
    asked = np.array([not against for against in found])
    if model is not None and asked.any():
        probability[asked] = model.model.risk(rows if asked.all() else rows[asked])
    who = zip(rows["subject_id"].tolist(), rows["index_time"].tolist(), strict=True)
    return [
        _risk(model, patient, time, row, p, tuple(against))
        for (patient, time), row, p, against in zip(who, numbers, probability.tolist(), found, strict=True)
    ]


def out_of_date(rows: pd.DataFrame, hours: NDArray[np.float64]) -> pd.DataFrame:
    """Rows as they look so many hours later, as far as NEWS2 goes: parts whose reading is then older than a day are unknown."""
    later = rows.copy()
    for vital, part in _PARTS.items():
        age = f"{vital}_age_{SCORE_CARRY_HOURS}h"
        known = rows[age] + hours < SCORE_CARRY_HOURS if age in rows else pd.Series(False, rows.index)
        later[part] = rows[part].where(known)
    later["hours_since_reading"] = (rows["hours_since_reading"] + hours).where(lambda age: age < SCORE_CARRY_HOURS)
    return later


def _risk(
    registered: RegisteredModel | None,
    patient: str,
    index_time: pd.Timestamp,
    numbers: list[float],
    p: float,
    findings: tuple[Finding, ...],
) -> Risk:
    since, *points = numbers
    if since >= SILENT_AFTER / timedelta(hours=1):
        findings = (*findings, "silent")
    parts = {vital: None if math.isnan(value) else int(value) for vital, value in zip(_PARTS, points, strict=True)}
    score = sum(value or 0 for value in parts.values())
    by_model = registered is not None and not math.isnan(p)
    return Risk(
        patient=patient,
        index_time=index_time,
        basis="model" if by_model else "news2",
        probability=p if by_model else None,
        band=registered.model.band(p) if registered is not None and by_model else _news2_band(score, parts),
        news2=score,
        news2_highest=score + sum(_HIGHEST_POINTS[vital] for vital, value in parts.items() if value is None),
        news2_parts=parts,
        findings=findings,
        hours_since_reading=None if math.isnan(since) else since,
    )


def _news2_band(score: int, parts: dict[str, int | None]) -> Band:
    """Clinical response of the chart (RCP 2017, chart 2); a single part of 3 asks for an urgent review, as 5 does."""
    if score >= NEWS2_HIGH:
        return "high"
    return "medium" if score >= NEWS2_MEDIUM or 3 in parts.values() else "low"
