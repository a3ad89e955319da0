"""The open challenges under frozen protocols: everything is chosen on the training set, and the test set is scored once.

No home is needed, and none is touched: features come from the same function as a home's, models are those of ``vigil train``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from features.errors import VigilError

PREDICTIONS = ("model", "subject_id", "index_time", "probability", "alarm")


class BenchmarkError(VigilError):
    """The benchmark cannot be run as asked."""


@dataclass(frozen=True)
class Benchmark:
    """What a protocol found.

    Attributes:
        metrics: model -> metric -> value, with ``<metric>_low`` and ``<metric>_high`` (95 %, by patient).
        predictions: one row a model and scored time, columns :data:`PREDICTIONS`; ``alarm``: at or above the threshold that was
            frozen on the training set.
        about: protocol, sizes and whatever else a reader of the figures should know.
    """

    metrics: dict[str, dict[str, float]]
    predictions: pd.DataFrame
    about: Mapping[str, Any] = field(default_factory=dict)


def predictions(scored: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Frames of models one below the other, in the form that is kept."""
    return pd.concat([frame.assign(model=name)[list(PREDICTIONS)] for name, frame in scored.items()], ignore_index=True)
