"""Robustness: how much worse a model is when observations are lost.

Observations are removed, the features are computed again, and the same patients are scored again.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from vigil.features.display_names import name_signal
from vigil.features.signal import Kind
from vigil.features.signals import SIGNALS, signal_names
from vigil.models.alarms.timeline import build_timeline
from vigil.models.evaluation.discrimination import measure_discrimination, resample_discrimination
from vigil.models.statistics.bootstrap import Float64, Resamples, percentile_interval

LOST_SHARES: Final = (0.1, 0.3, 0.5)
# The largest sample: enough patients for useful intervals, and few enough that a job can compute features a dozen times.
MAX_PATIENTS: Final = 1500
MAX_READINGS: Final = 1_000_000
_TOGETHER: Final[Mapping[Kind, str]] = {
    "support": "all of oxygen and consciousness",
    "laboratory": "all laboratory values",
    "bedside": "all bedside charting",
}


@dataclass(frozen=True)
class Loss:
    """Observations that are removed.

    Attributes:
        what: description for readers.
        share: share of all observations to remove, at random.
        signals: names of signals to remove completely.
    """

    what: str
    share: float = 0.0
    signals: tuple[str, ...] = ()

    def remaining(self, observations: pd.DataFrame, seed: int) -> "pd.Series[bool]":
        """Return a mask of the remaining observations.

        With one seed, a larger share also removes every observation that a smaller share removes.
        """
        left = ~observations["signal"].isin(self.signals)
        return left & (np.random.default_rng(seed).random(len(observations)) >= self.share)


def list_losses(signals: Iterable[str]) -> list[Loss]:
    """List the losses to try on a cohort with these signals: shares of all readings, each signal, and kinds of signals."""
    available = set(signals)
    shares = [Loss(f"{share:.0%} of all readings".replace("%", " %"), share=share) for share in LOST_SHARES]
    each = [Loss(name_signal(name), signals=(name,)) for name in SIGNALS if name in available]
    together = [
        Loss(what, signals=of_kind)
        for kind, what in _TOGETHER.items()
        if len(of_kind := tuple(name for name in signal_names(kind) if name in available)) > 1
    ]
    return shares + each + together


def sample_subjects(subject_ids: Iterable[str], readings_each: float) -> list[str]:
    """Sample subjects by a hash of the subject key, so that the sample does not depend on the other subjects.

    Args:
        subject_ids: all subjects.
        readings_each: mean number of observations per subject.

    Returns:
        At most :data:`MAX_PATIENTS` subjects, with at most about :data:`MAX_READINGS` observations.
    """
    at_most = min(MAX_PATIENTS, max(1, int(MAX_READINGS / readings_each)))
    return sorted(subject_ids, key=_hash)[:at_most]


def measure_loss(
    frame: pd.DataFrame, degraded: Float64, threshold: float, *, seed: int, net: Mapping[str, Float64] | None = None
) -> dict[str, float]:
    """Measure a loss: metrics after it, and their changes with 95 % intervals of the paired differences.

    Args:
        frame: as for :func:`vigil.models.evaluation.evaluate_predictions`, with ``probability`` from all observations.
        degraded: probability of the same rows from the remaining observations, shape (n_rows,).
        threshold: the frozen alarm threshold.
        seed: seed of the bootstrap.
        net: the safety net's columns from the remaining observations (:func:`vigil.models.assessment.safety_net_scores`); None:
            no safety net.

    Returns:
        ``auroc, event_recall, alarms_per_patient_day`` after the loss; each also with ``_change, _change_low, _change_high``.
    """
    labelled = frame["label"].notna().to_numpy()
    label = frame.loc[labelled, "label"].to_numpy(float)
    resamples = Resamples.draw(frame.loc[labelled, "subject_id"], seed)
    figures: list[dict[str, float]] = []
    draws: list[dict[str, Float64]] = []
    after = frame.assign(probability=degraded, **(net or {}))
    for rows in (frame, after):
        probability = rows["probability"].to_numpy(float)[labelled]
        count = build_timeline(rows).count(threshold)
        figures.append(measure_discrimination(label, probability) | count.figures())
        draws.append(resample_discrimination(label, probability, resamples) | count.draws(count.resamples(seed)))
    changes: dict[str, float] = {}
    for name in ("auroc", "event_recall", "alarms_per_patient_day"):
        low, high = percentile_interval(draws[1][name] - draws[0][name])
        change = figures[1][name] - figures[0][name]
        changes |= {name: figures[1][name], f"{name}_change": change, f"{name}_change_low": low, f"{name}_change_high": high}
    return changes


def _hash(subject_id: str) -> bytes:
    """Return a hash that orders subjects in the same way everywhere."""
    return hashlib.blake2b(subject_id.encode(), digest_size=8, person=b"vigil-sample").digest()
