"""Stored models: only the one format is read, and models of earlier versions still give risks."""

import copy
import os
import pickle
import tarfile

import numpy as np
import pytest
import skops.io
from sklearn.preprocessing import StandardScaler

from tests.support import HOMES
from tests.support.small_model import NAME, feature_rows, fit_small_model, store
from vigil.models import stored_model
from vigil.models.registry import Registry
from vigil.models.stored_model import UntrustedModelError, read_model

FORMER_HOME = HOMES / "before_2026_12.tar.xz"


@pytest.fixture(scope="module")
def rows():
    return feature_rows()


@pytest.fixture(scope="module")
def model(rows):
    return fit_small_model(rows)


def test_read_model_reads_a_model_of_a_former_version(tmp_path, rows):
    with tarfile.open(FORMER_HOME) as archive:
        (member,) = (member for member in archive.getmembers() if member.name.endswith("/model.skops"))
        member.name = "model.skops"
        archive.extract(member, tmp_path, filter="data")
    model = read_model(tmp_path)
    risk, (low, high) = model.risk(rows), model.range(rows)
    assert len(risk) == len(rows) > 0
    assert np.isfinite(risk).all()
    assert ((low >= 0) & (low <= risk) & (risk <= high) & (high <= 1)).all()
    assert np.ptp(risk) > 0.1
    assert set(model.thresholds_) == {"medium", "high"}
    assert model.metadata_["feature_service"] == "vital_signs_v3"
    assert model.max_negatives == 30_000
    assert len(model.domain_.unusual(rows)) == len(rows)
    assert model.contributions(rows.head(3)).sum(axis=1).to_numpy() == pytest.approx(model.margin(rows.head(3)))


def test_read_model_gives_former_attributes_their_present_names(tmp_path, model, monkeypatch):
    former = copy.copy(model)
    former.limits_, former.other_ = former.thresholds_, 1
    del former.thresholds_
    skops.io.dump(former, tmp_path / "model.skops")
    monkeypatch.setattr(stored_model, "_FORMER_ATTRIBUTES", {"limits_": "thresholds_", "other_": "no_such_attribute_"})
    read = read_model(tmp_path)
    assert read.thresholds_ == model.thresholds_
    assert not hasattr(read, "limits_")
    assert read.other_ == 1  # the class declares no attribute of the other name


def test_read_model_does_not_load_a_model_that_would_run_code(tmp_path, model, rows):
    """An attacker who can change the files of a registry can name a pickle as the model."""
    store(tmp_path, model, rows)
    (description,) = (path for path in tmp_path.rglob("MLmodel") if "model.skops" in path.read_text())
    ran = tmp_path / "ran"
    description.write_text(description.read_text().replace("model.skops", "model.pkl").replace("skops", "pickle"))
    description.with_name("model.pkl").write_bytes(pickle.dumps(RunsCommand(str(ran))))
    assert Registry(tmp_path).load(NAME).model.features == model.features  # of the one format, whatever the files name
    description.with_name("model.skops").unlink()
    with pytest.raises(UntrustedModelError, match="models of other formats are not loaded"):
        Registry(tmp_path).load(NAME)
    skops.io.dump({"a": RunsCommand(str(ran))}, description.with_name("model.skops"))
    with pytest.raises(UntrustedModelError, match="holds types that are not Vigil's"):
        Registry(tmp_path).load(NAME)
    skops.io.dump(StandardScaler(), description.with_name("model.skops"))
    with pytest.raises(UntrustedModelError, match="is no risk model"):
        Registry(tmp_path).load(NAME)
    assert not ran.exists()


class RunsCommand:
    """An object that runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)
