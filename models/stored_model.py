"""A model as a file: read in the one format that we write, and as nothing but what we trust.

What lies beside it may name another format, such as a pickle, which runs whatever code it holds when it is read.
"""

from pathlib import Path
from typing import Final

import skops.io  # type: ignore[import-untyped]
from skops.io.exceptions import UntrustedTypesFoundException  # type: ignore[import-untyped]

from features.errors import VigilError
from models.risk_model import RiskModel

# Every type a stored model may contain beyond scikit-learn's own. Reviewed: none of them runs code when it is loaded.
TRUSTED_TYPES: Final = [
    "models.risk_model.RiskModel",
    "models.ranges.VennAbers",
    "models.certificate.Certificate",
    "models.domain.DomainOfUse",
    "models.usual.Combination",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "collections.OrderedDict",
    "collections.defaultdict",
    "numpy.dtype",
]
_FILE: Final = "model.skops"


class UntrustedModelError(VigilError):
    """A stored model is not one that Vigil wrote."""


def read_model(folder: Path) -> RiskModel:
    """Read the model of a folder.

    Raises:
        UntrustedModelError: it is of another format, or holds a type beyond :data:`TRUSTED_TYPES`.
    """
    path = folder / _FILE
    if not path.is_file():
        raise UntrustedModelError(
            f"{folder}: no {_FILE}; models of other formats are not loaded, since they may run code; train anew: vigil train"
        )
    try:
        model = skops.io.load(path, trusted=TRUSTED_TYPES)
    except UntrustedTypesFoundException:
        raise UntrustedModelError(
            f"{path}: holds types that are not Vigil's, so it is not loaded; train anew: vigil train"
        ) from None
    if not isinstance(model, RiskModel):
        raise UntrustedModelError(f"{path}: is no risk model; train anew: vigil train")
    return model
