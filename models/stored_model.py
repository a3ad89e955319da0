"""Stored models: read in the one format that Vigil writes, with trusted types only.

The files beside a stored model may name another format, such as a pickle. A pickle runs whatever code it holds when it is read,
so these files are ignored.
"""

import hashlib
import inspect
import io
import json
import zipfile
from pathlib import Path
from typing import Any, Final

import skops.io  # type: ignore[import-untyped]
from skops.io.exceptions import UntrustedTypesFoundException  # type: ignore[import-untyped]

from vigil.features.errors import VigilError
from vigil.models.training.risk_model import RiskModel

# Every type that a stored model may hold beyond scikit-learn's own. Reviewed: none of them runs code when it is loaded.
TRUSTED_TYPES: Final = [
    "vigil.models.training.risk_model.RiskModel",
    "vigil.models.training.venn_abers.VennAbers",
    "vigil.models.alarms.guarantee.Certificate",
    "vigil.models.domain.DomainOfUse",
    "vigil.models.typical_values.Combination",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "collections.OrderedDict",
    "collections.defaultdict",
    "numpy.dtype",
]
_FILE: Final = "model.skops"
_SCHEMA: Final = "schema.json"  # in the file: the class of each object
# Former names of modules and of attributes of the model, so that models of earlier versions can be read.
_FORMER_MODULES: Final = {
    "models.risk_model": "vigil.models.training.risk_model",
    "models.ranges": "vigil.models.training.venn_abers",
    "models.certificate": "vigil.models.alarms.guarantee",
    "models.usual": "vigil.models.typical_values",
    "models.personal_baseline": "vigil.models.typical_values",
    "models.training.risk_model": "vigil.models.training.risk_model",
    "models.training.venn_abers": "vigil.models.training.venn_abers",
    "models.alarms.guarantee": "vigil.models.alarms.guarantee",
    "models.domain": "vigil.models.domain",
    "models.typical_values": "vigil.models.typical_values",
}
_FORMER_ATTRIBUTES: Final = {"facts_": "metadata_", "most_negatives": "max_negatives"}


class UntrustedModelError(VigilError):
    """A stored model is not one that Vigil wrote."""


def read_model(folder: Path) -> RiskModel:
    """Read the model of a folder.

    Raises:
        UntrustedModelError: the model has another format, or holds a type beyond :data:`TRUSTED_TYPES`.
    """
    path = folder / _FILE
    if not path.is_file():
        raise UntrustedModelError(
            f"{folder}: no {_FILE}; models of other formats are not loaded, since they may run code; train again: vigil train"
        )
    try:
        model = skops.io.loads(_with_present_modules(path), trusted=TRUSTED_TYPES)
    except UntrustedTypesFoundException:
        raise UntrustedModelError(
            f"{path}: holds types that are not Vigil's, so it is not loaded; train again: vigil train"
        ) from None
    if not isinstance(model, RiskModel):
        raise UntrustedModelError(f"{path}: is no risk model; train again: vigil train")
    _rename_attributes(model)
    return model


def digest_model(folder: Path) -> str:
    """Return the SHA-256 of the stored model of a folder, as it is now."""
    return hashlib.sha256((folder / _FILE).read_bytes()).hexdigest()


def _with_present_modules(path: Path) -> bytes:
    """Return the bytes of a stored model in which each class has the module that it is in today."""
    written = io.BytesIO()
    with zipfile.ZipFile(path) as stored, zipfile.ZipFile(written, "w") as present:
        for name in stored.namelist():
            content = stored.read(name)
            if name == _SCHEMA:
                content = json.dumps(_rename_modules(json.loads(content))).encode()
            present.writestr(name, content)
    return written.getvalue()


def _rename_modules(schema: Any) -> Any:
    """Return a part of the schema with the present names of modules."""
    if isinstance(schema, list):
        return [_rename_modules(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _FORMER_MODULES.get(value, value) if key == "__module__" else _rename_modules(value)
        for key, value in schema.items()
    }


def _rename_attributes(model: RiskModel) -> None:
    """Give attributes of a model their present names, as far as the class declares them."""
    declared = {*inspect.signature(RiskModel).parameters, *RiskModel.__annotations__}
    for former, present in _FORMER_ATTRIBUTES.items():
        if former in vars(model) and present in declared:
            setattr(model, present, getattr(model, former))
            delattr(model, former)
