"""A model as a file: read in the one format that we write, and as nothing but what we trust.

What lies beside it may name another format, such as a pickle, which runs whatever code it holds when it is read.
"""

import io
import json
import zipfile
from pathlib import Path
from typing import Any, Final

import skops.io  # type: ignore[import-untyped]
from skops.io.exceptions import UntrustedTypesFoundException  # type: ignore[import-untyped]

from features.errors import VigilError
from models.training.risk_model import RiskModel

# Every type a stored model may contain beyond scikit-learn's own. Reviewed: none of them runs code when it is loaded.
TRUSTED_TYPES: Final = [
    "models.training.risk_model.RiskModel",
    "models.training.venn_abers.VennAbers",
    "models.alarms.guarantee.Certificate",
    "models.domain.DomainOfUse",
    "models.personal_baseline.Combination",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "collections.OrderedDict",
    "collections.defaultdict",
    "numpy.dtype",
]
_FILE: Final = "model.skops"
_SCHEMA: Final = "schema.json"  # in the file: which class each object is of
# Modules as they were named when a stored model was written. A model of any earlier version can still be read.
_FORMER_MODULES: Final = {
    "models.risk_model": "models.training.risk_model",
    "models.ranges": "models.training.venn_abers",
    "models.certificate": "models.alarms.guarantee",
    "models.usual": "models.personal_baseline",
}


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
        model = skops.io.loads(_with_present_names(path), trusted=TRUSTED_TYPES)
    except UntrustedTypesFoundException:
        raise UntrustedModelError(
            f"{path}: holds types that are not Vigil's, so it is not loaded; train anew: vigil train"
        ) from None
    if not isinstance(model, RiskModel):
        raise UntrustedModelError(f"{path}: is no risk model; train anew: vigil train")
    return model


def _with_present_names(path: Path) -> bytes:
    """Return the bytes of a stored model in which each class has the module it is in today."""
    written = io.BytesIO()
    with zipfile.ZipFile(path) as stored, zipfile.ZipFile(written, "w") as present:
        for name in stored.namelist():
            content = stored.read(name)
            if name == _SCHEMA:
                content = json.dumps(_renamed(json.loads(content))).encode()
            present.writestr(name, content)
    return written.getvalue()


def _renamed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_renamed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _FORMER_MODULES.get(value, value) if key == "__module__" else _renamed(value) for key, value in schema.items()}
