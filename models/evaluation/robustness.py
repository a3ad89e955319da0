"""What if sensors fall silent? Readings are taken away, features made anew, and the same patients scored again."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from features.signals import SIGNALS, Kind, names
from models.alarms.timeline import watched
from models.evaluation.discrimination import discrimination, discrimination_draws
from models.statistics.bootstrap import Float64, Resamples, percentile

LOST_SHARES: Final = (0.1, 0.3, 0.5)
# At most so many are tried: the least that tells much, and what a job can make features of a dozen times while somebody waits.
MAX_PATIENTS: Final = 1500
MAX_READINGS: Final = 1_000_000
_TOGETHER: Final[Mapping[Kind, str]] = {
    "support": "all of oxygen and consciousness",
    "laboratory": "all laboratory values",
    "bedside": "all bedside charting",
}


@dataclass(frozen=True)
class Loss:
    """Readings that are taken away.

    Attributes:
        what: in words.
        share: of all readings, at random.
        signals: names of signals, all of whose readings go.
    """

    what: str
    share: float = 0.0
    signals: tuple[str, ...] = ()

    def kept(self, observations: pd.DataFrame, seed: int) -> "pd.Series[bool]":
        """Which readings are left. With one seed, what a smaller share loses a larger one loses too."""
        left = ~observations["signal"].isin(self.signals)
        return left & (np.random.default_rng(seed).random(len(observations)) >= self.share)


def losses(signals: Iterable[str]) -> list[Loss]:
    """What to try on a cohort with these signals: shares of all readings, each signal, and whole kinds of them."""
    present = set(signals)
    shares = [Loss(f"{share:.0%} of all readings".replace("%", " %"), share=share) for share in LOST_SHARES]
    each = [Loss(name.replace("_", " "), signals=(name,)) for name in SIGNALS if name in present]
    together = [
        Loss(what, signals=found)
        for kind, what in _TOGETHER.items()
        if len(found := tuple(name for name in names(kind) if name in present)) > 1
    ]
    return shares + each + together


def sample(subject_ids: Iterable[str], readings_each: float) -> list[str]:
    """Patients to try it on: the first by a hash of the identifier, so neither chosen nor dependent on who else is there.

    Args:
        subject_ids: all there are.
        readings_each: how many readings a patient has, on average.
    """
    at_most = min(MAX_PATIENTS, max(1, int(MAX_READINGS / readings_each)))
    return sorted(subject_ids, key=_hash)[:at_most]


def effect(
    frame: pd.DataFrame, degraded: Float64, threshold: float, *, seed: int, net: Mapping[str, Float64] | None = None
) -> dict[str, float]:
    """What a loss costs: figures after it, and changes from before, with 95 % intervals of the paired differences.

    Args:
        frame: as for :func:`models.evaluation.judge`, ``probability`` from all readings.
        degraded: probability of the same rows from the readings that are left, shape (n_rows,).
        threshold: the frozen alarm threshold.
        seed: of the bootstrap.
        net: what the safety net sees in the readings that are left (:func:`models.assessment.net_of`); None: there is no net.

    Returns:
        ``auroc, event_recall, alarms_per_patient_day``, each with ``_change``, ``_change_low`` and ``_change_high``.
    """
    labelled = frame["label"].notna().to_numpy()
    label = frame.loc[labelled, "label"].to_numpy(float)
    resamples = Resamples.of(frame.loc[labelled, "subject_id"], seed)
    figures: list[dict[str, float]] = []
    draws: list[dict[str, Float64]] = []
    after = frame.assign(probability=degraded, **(net or {}))
    for rows in (frame, after):
        known = rows["probability"].to_numpy(float)[labelled]
        count = watched(rows).count(threshold)
        figures.append(discrimination(label, known) | count.figures())
        draws.append(discrimination_draws(label, known, resamples) | count.draws(count.resamples(seed)))
    result: dict[str, float] = {}
    for name in ("auroc", "event_recall", "alarms_per_patient_day"):
        low, high = percentile(draws[1][name] - draws[0][name])
        change = figures[1][name] - figures[0][name]
        result |= {name: figures[1][name], f"{name}_change": change, f"{name}_change_low": low, f"{name}_change_high": high}
    return result


def _hash(subject_id: str) -> bytes:
    return hashlib.blake2b(subject_id.encode(), digest_size=8, person=b"vigil-sample").digest()
