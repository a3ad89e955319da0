"""The open challenges under frozen protocols: everything is chosen on the training set, and the test set is scored once.

A protocol neither needs nor changes a home. Features come from the same function as those of a home, and models are those of
``vigil train``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from vigil.features.errors import VigilError

PREDICTIONS = ("model", "subject_id", "index_time", "probability", "alarm")


class BenchmarkError(VigilError):
    """An error for a benchmark that cannot be run with the given options."""


@dataclass(frozen=True)
class Benchmark:
    """The result of a protocol.

    Attributes:
        metrics: of each model, values by name, with ``<metric>_low`` and ``<metric>_high`` (95 % interval, by patient).
        predictions: one row for each model and index time, with columns :data:`PREDICTIONS`. ``alarm`` is True at or above the
            threshold that was frozen on the training set.
        facts: the protocol, sizes and other facts that a reader of the figures needs.
    """

    metrics: dict[str, dict[str, float]]
    predictions: pd.DataFrame
    facts: Mapping[str, Any] = field(default_factory=dict)


def to_predictions(scored: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Concatenate the scored frames of several models into one table with columns :data:`PREDICTIONS`."""
    return pd.concat([frame.assign(model=name)[list(PREDICTIONS)] for name, frame in scored.items()], ignore_index=True)
