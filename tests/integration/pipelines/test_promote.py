"""Promotion with a real registry: a version that passes all gates becomes champion, others do not; and the rollback."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.support.evaluation_sections import answered, examination
from vigil.features.store import client as store_client
from vigil.features.store.client import Store
from vigil.models.registry import CHALLENGER, NoModelError, Registry
from vigil.models.tasks import TASKS
from vigil.models.training.risk_model import RiskModel
from vigil.pipelines.cli.main import app
from vigil.pipelines.cohort_store import CohortFacts, CohortStore
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.promote import NothingToPromoteError, PromotionRefusedError, WithdrawnError, promote, roll_back
from vigil.pipelines.jobs.train import digest, fit, read_labelled_index

NAME = "deterioration"
START = pd.Timestamp("2026-03-01T00:00:00Z").as_unit("us")
HOURS = 36
GATES = ["data", "better", "calibration", "subgroups", "promise", "vignettes", "directions"]
COMPARING = ["better", "subgroups"]
TOO_LOW = answered({("septic_shock", "none"): ("band_too_low", "band low, no alarm by NEWS2")})
SEES, BLIND = ["heart_rate_mean_6h", "spo2_min_24h"], ["age"]  # features that tell of the event below, and that do not


def store_cohort(home, patients=1200):
    """Store a cohort of which two in five deteriorate, without observations: the features are synthetic too."""
    generator = np.random.default_rng(1)
    stays = pd.DataFrame({"subject_id": [f"canary-{number:04}" for number in range(patients)]})
    stays = stays.assign(start=START, end=START + pd.Timedelta(hours=HOURS), unit="ward")
    stays["age"] = generator.uniform(20, 95, patients)
    stays["sex"] = generator.integers(0, 2, patients).astype(float)
    onset = START + pd.to_timedelta(generator.integers(14, HOURS, patients), unit="h") + pd.Timedelta(minutes=30)
    outcomes = stays[["subject_id"]].assign(onset=onset, kind="any", onset_known=True)[generator.random(patients) < 0.4]
    cohort = CohortStore(home)
    cohort.write(0, stays=stays, outcomes=outcomes)
    cohort.finish(CohortFacts("simulated", True, NAME, patients, len(outcomes), 0, {}))
    return cohort


class SyntheticStore(Store):
    """Features of any service: heart rate and SpO2 tell of an onset from ten hours before."""

    def read_training_frame(self, rows, _service):
        rows = rows.sort_values(["subject_id", "index_time"], ignore_index=True)
        generator = np.random.default_rng(len(rows))
        ahead = (rows["onset"] - rows["index_time"]).dt.total_seconds().to_numpy() / 3600
        near = np.where((ahead > 0) & (ahead <= 10), 10 - ahead, 0) / 10
        features = {
            "heart_rate_mean_6h": 80 + 25 * near + generator.normal(0, 8, len(rows)),
            "spo2_min_24h": 96 - 6 * near + generator.normal(0, 2, len(rows)),
            "age": generator.uniform(20, 95, len(rows)),
        }
        return pd.concat([rows, pd.DataFrame(features).astype("float32")], axis=1)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Models of one cohort, by what their features tell, and the frame they learned from."""
    home = tmp_path_factory.mktemp("learned")
    frame = SyntheticStore(home).read_training_frame(read_labelled_index(store_cohort(home), "train"), "vital_signs_v1")
    models = {}
    for name, features in (("sees", SEES), ("blind", BLIND)):
        learner = lightgbm.LGBMClassifier(
            n_estimators=60, num_leaves=7, min_child_samples=80, verbosity=-1, n_jobs=1, deterministic=True, force_row_wise=True
        )
        models[name] = RiskModel(learner, features, folds=3)
        fit(models[name], frame, TASKS[NAME])
        models[name].metadata_ = {
            "task": NAME,
            "source": "simulated",
            "simulated": True,
            "feature_service": "vital_signs_v1",
            "data_digest": digest(frame),
        }
    assert models["sees"].certificate_ is not None
    return models, frame


@pytest.fixture(scope="module")
def shared(tmp_path_factory, learned):
    """A home with a blind first version and a seeing second one; made once, since a registry takes seconds to make."""
    models, frame = learned
    home = tmp_path_factory.mktemp("promote") / "home"
    store_cohort(home)
    for name in ("blind", "sees"):
        register(home, models[name], frame)
    return home


@pytest.fixture
def ward(shared, monkeypatch):
    """That home as it was: version 1 is champion, version 2 challenger; later versions have no alias."""
    monkeypatch.setattr(store_client, "Store", SyntheticStore)
    # The ward has no observations to examine.
    monkeypatch.setattr("vigil.pipelines.jobs.promote.examine_held_out_behaviour", lambda *_: examination())
    client = Registry(shared).client
    for version in client.search_model_versions(f"name = '{NAME}'"):
        for tag in version.tags:
            client.delete_model_version_tag(NAME, version.version, tag)
    for alias, version in (("champion", "1"), ("challenger", "2")):
        client.set_registered_model_alias(NAME, alias, version)
    return shared


def register(home, model, frame, **options):
    registry = Registry(home)
    with registry.run(NAME) as run_id:
        registry.log_models({"all_signals": model}, frame.head(5))
    return registry.register(run_id, "all_signals", NAME, {}, **options)


def aliases(home):
    return {alias: str(version) for alias, version in Registry(home).client.get_registered_model(NAME).aliases.items()}


def tags(home, version):
    return Registry(home).client.get_model_version(NAME, version).tags


def logged_decisions(home, version):
    """Return every decision logged with a version's run."""
    registry = Registry(home)
    run = registry.client.get_model_version(NAME, version).run_id
    paths = [file.path for file in registry.client.list_artifacts(run, "promotions")]
    return [json.loads(Path(registry.client.download_artifacts(run, path)).read_text()) for path in paths]


def vigil(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_challenger_that_passes_all_gates_becomes_champion_and_can_be_rolled_back(ward, tmp_path):
    result = vigil("promote", "--home", ward, "--json", tmp_path / "promotion.json")
    assert result.exit_code == 0, result.output
    assert aliases(ward) == {"champion": "2"}  # and there is no challenger any more
    assert "version 2 is champion in place of 1" in result.output
    decision = json.loads((tmp_path / "promotion.json").read_text())
    assert decision == json.loads((ward / "reports/promotion.json").read_text())
    assert decision in logged_decisions(ward, "2")
    assert decision["decision"] == "promoted"
    assert [(gate["name"], gate["passed"]) for gate in decision["gates"]] == [(name, True) for name in GATES]
    assert (decision["champion"]["version"], decision["challenger"]["version"]) == ("1", "2")
    assert decision["gates"][1]["figures"]["auroc_low"] > 0.1
    assert decision["held_out"]["patients"] > 200
    assert tags(ward, "2") == {"previous_champion": "1", "promoted_at": decision["decided_at"]}

    result = vigil("promote", "--rollback", "--home", ward, "--json", tmp_path / "rollback.json")
    assert result.exit_code == 0, result.output
    assert aliases(ward) == {"champion": "1"}
    assert Registry(ward).load(NAME).model.features == BLIND
    assert "version 1 is champion in place of 2" in result.output
    back = json.loads((tmp_path / "rollback.json").read_text())
    assert (back["decision"], back["champion"]["version"], back["previous_champion"]["version"]) == ("rolled_back", "2", "1")
    assert back == json.loads((ward / "reports/promotion.json").read_text())
    assert all(record in logged_decisions(ward, "2") for record in (decision, back))
    assert tags(ward, "2") == {"promoted_at": decision["decided_at"], "rolled_back_at": back["decided_at"]}

    with pytest.raises(NoModelError, match="version 1 of model 'deterioration' took no champion's place"):
        roll_back(Home(ward))
    assert aliases(ward) == {"champion": "1"}


def test_withdrawn_version_becomes_champion_neither_by_promotion_nor_by_rollback(ward):
    registry, at = Registry(ward), datetime(2026, 2, 1, 12, tzinfo=UTC)
    registry.withdraw(NAME, "2", "its certificate does not hold", at)
    message = "was withdrawn at 2026-02-01 12:00 UTC: its certificate does not hold; expected a version in use; reinstate it"
    result = vigil("promote", "--home", ward)
    assert result.exit_code == 2
    assert f"version 2 of deterioration {message}" in result.output
    registry.reinstate(NAME, "2")
    registry.withdraw(NAME, "1", "its certificate does not hold", at)  # a withdrawn champion can be replaced
    promote(Home(ward))
    with pytest.raises(WithdrawnError, match=re.escape(f"version 1 of deterioration {message}")):
        roll_back(Home(ward))
    assert aliases(ward) == {"champion": "2"}


def test_decision_records_hold_no_identifier(ward):
    promote(Home(ward))
    for path in [*(ward / "mlartifacts").rglob("*"), ward / "mlflow.db", *(ward / "reports").iterdir()]:
        if path.is_file():
            assert b"canary-" not in path.read_bytes(), path


def assert_refused(home, gate, version=None):
    """Promote, and check that it is refused by a gate first; return the failed gates and the message."""
    before = aliases(home)
    with pytest.raises(PromotionRefusedError, match=f"is not promoted, gate {gate}: found ") as caught:
        promote(Home(home), version)
    assert aliases(home) == before
    failed = [result["name"] for result in caught.value.decision["gates"] if not result["passed"]]
    assert failed[0] == gate
    written = json.loads((home / "reports/promotion.json").read_text())
    assert (written["decision"], len(written["gates"])) == ("refused", len(GATES))
    assert written in logged_decisions(home, written["challenger"]["version"])
    assert tags(home, written["challenger"]["version"])["refused_by"] == ", ".join(failed)
    return failed, str(caught.value)


def test_promotion_refusal_is_one_line_that_names_the_gate_and_moves_no_alias(ward, learned, tmp_path):
    models, frame = learned
    promote(Home(ward))
    version, alias = register(ward, models["blind"], frame)
    assert alias == CHALLENGER
    result = vigil("promote", "--home", ward, "--json", tmp_path / "promotion.json")
    assert result.exit_code == 2
    line = next(line for line in result.output.splitlines() if line.startswith("vigil: "))
    assert line.startswith(f"vigil: version {version} of deterioration is not promoted, gate better: found AUROC -0.")
    assert "; expected a lower limit of the AUROC difference above 0; what to do: keep the champion" in line
    assert line.endswith("(also refused by: subgroups)")
    assert json.loads((tmp_path / "promotion.json").read_text())["decision"] == "refused"
    assert aliases(ward) == {"champion": "2", "challenger": version}


def test_same_training_again_is_refused_by_gate_better(ward, learned):
    models, frame = learned
    promote(Home(ward))
    register(ward, models["sees"], frame)
    failed, line = assert_refused(ward, "better")
    assert failed == ["better"]
    assert "AUROC +0.0000 (+0.0000 to +0.0000)" in line


def test_challenger_of_other_data_is_refused_by_gate_data(ward, learned, monkeypatch):
    class Changed(SyntheticStore):
        def read_training_frame(self, rows, service):
            frame = super().read_training_frame(rows, service)
            frame.loc[0, "spo2_min_24h"] += np.float32(0.01)  # one value of one hour
            return frame

    monkeypatch.setattr(store_client, "Store", Changed)
    failed, line = assert_refused(ward, "data")
    assert failed == ["data"]
    assert learned[0]["sees"].metadata_["data_digest"] in line
    assert "vigil train" in line


def changed_model(model, **attributes):
    """Return a copy of a model with other attributes."""
    other = RiskModel(**model.get_params(deep=False))
    vars(other).update(vars(model))
    vars(other).update(attributes)
    return other


@pytest.mark.parametrize(
    ("gate", "change"),
    [
        ("data", lambda model: {"metadata_": model.metadata_ | {"source": "cinc2019", "simulated": False}}),
        ("calibration", lambda model: {"intercept_": model.intercept_ + 0.6}),  # ranks equally, but is too high
        ("calibration", lambda model: {"weights_": model.weights_ * 1.6}),
        ("promise", lambda _: {"certificate_": None}),
    ],
)
def test_each_gate_can_refuse_alone(ward, learned, gate, change):
    models, frame = learned
    version, _ = register(ward, changed_model(models["sees"], **change(models["sees"])), frame)
    failed, _ = assert_refused(ward, gate, version)
    assert set(failed) - {"promise"} <= {gate}  # a shifted risk breaks its alarm guarantee too


@pytest.mark.parametrize(
    ("gate", "changed"),
    [
        ("vignettes", {"vignettes": TOO_LOW}),
        ("directions", {"history": examination()["history"] | {"passed": False}}),
    ],
)
def test_each_gate_of_behaviour_can_refuse_alone(ward, monkeypatch, gate, changed):
    examined = []

    def examine(_, model):
        examined.append(model)
        return examination(**changed)

    monkeypatch.setattr("vigil.pipelines.jobs.promote.examine_held_out_behaviour", examine)
    failed, _ = assert_refused(ward, gate)
    assert failed == [gate]
    assert [model.features for model in examined] == [SEES]  # the challenger


@pytest.fixture
def uncrowned(ward):
    """That home as a refused first training leaves it: without a champion."""
    Registry(ward).client.delete_registered_model_alias(NAME, "champion")
    return ward


def test_without_a_champion_promotion_leaves_out_the_gates_that_compare(uncrowned):
    result = vigil("promote", "--home", uncrowned)
    assert result.exit_code == 0, result.output
    assert aliases(uncrowned) == {"champion": "2"}
    assert "version 2 is champion, the first;" in result.output
    assert "left out better: there was no champion to compare with" in result.output
    decision = json.loads((uncrowned / "reports/promotion.json").read_text())
    assert (decision["decision"], decision["champion"], decision["left_out"]) == ("promoted", None, COMPARING)
    assert [gate["name"] for gate in decision["gates"]] == [name for name in GATES if name not in COMPARING]
    assert list(decision["metrics"]) == ["challenger"]
    assert tags(uncrowned, "2") == {"promoted_at": decision["decided_at"]}
    with pytest.raises(NoModelError, match="version 2 of model 'deterioration' took no champion's place"):
        roll_back(Home(uncrowned))


@pytest.mark.parametrize(("gate", "version", "changed"), [("vignettes", "2", {"vignettes": TOO_LOW})])
def test_without_a_champion_a_gate_can_refuse_too(uncrowned, monkeypatch, gate, version, changed):
    monkeypatch.setattr("vigil.pipelines.jobs.promote.examine_held_out_behaviour", lambda *_: examination(**changed))
    with pytest.raises(PromotionRefusedError, match=f"is not promoted, gate {gate}: found "):
        promote(Home(uncrowned), version)
    assert aliases(uncrowned) == {"challenger": "2"}


def test_without_a_champion_a_version_of_another_source_is_refused(uncrowned, learned):
    models, frame = learned
    other = changed_model(models["sees"], metadata_=models["sees"].metadata_ | {"source": "cinc2019", "simulated": False})
    version, _ = register(uncrowned, other, frame, may_be_champion=False)
    with pytest.raises(PromotionRefusedError, match="gate data: found source cinc2019, simulated False"):
        promote(Home(uncrowned), version)


def test_promote_takes_a_named_version(ward, learned):
    models, frame = learned
    challenger, _ = register(ward, models["blind"], frame)
    promote(Home(ward), "2")
    assert aliases(ward) == {"champion": "2", "challenger": challenger}


def test_champion_cannot_be_promoted(ward):
    with pytest.raises(NothingToPromoteError, match="version 1 of deterioration is the champion, and there is no other"):
        promote(Home(ward), "1")
    promote(Home(ward))
    with pytest.raises(NoModelError, match="no challenger of model 'deterioration'; train one first: vigil train"):
        promote(Home(ward))
    assert aliases(ward) == {"champion": "2"}


def test_rollback_twice_goes_two_champions_back(ward, learned):
    models, frame = learned
    promote(Home(ward))
    version, _ = register(ward, models["blind"], frame)
    Registry(ward).promote(NAME, version, {})  # as if it had passed
    assert aliases(ward) == {"champion": version}
    roll_back(Home(ward))
    assert aliases(ward) == {"champion": "2"}
    roll_back(Home(ward))
    assert aliases(ward) == {"champion": "1"}


def test_rollback_and_version_exclude_each_other(tmp_path):
    result = vigil("promote", "--rollback", "--version", "1", "--home", tmp_path)
    assert result.exit_code == 2
    assert result.output.strip() == (
        "vigil: --version 1: --rollback returns to the champion before this one; leave one of the two out"
    )


@pytest.mark.parametrize("more", [[], ["--rollback"]])
def test_without_a_cohort_there_is_nothing_to_promote(tmp_path, more):
    result = vigil("promote", *more, "--home", tmp_path / "home")
    assert result.exit_code == 2
    assert "no cohort there" in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "home").exists()


def test_promote_computes_the_data_digest_of_training_through_feast(own_home, tmp_path):
    """The chain's champion compared with itself fails only `better`: its data have not changed."""
    registry = Registry(tmp_path)
    model = Registry(own_home).load(NAME).model
    sample = pd.DataFrame(0.0, index=range(3), columns=model.features).astype("float32")
    for _ in range(2):
        register(tmp_path, model, sample)
    opened = Home(own_home)
    opened.registry = registry
    with pytest.raises(PromotionRefusedError) as caught:
        promote(opened)
    gates = {gate["name"]: gate for gate in caught.value.decision["gates"]}
    assert gates["data"]["passed"]
    assert gates["vignettes"]["passed"]  # by the observations of its own held-out patients
    assert gates["directions"]["passed"]
    assert not gates["better"]["passed"]
    assert gates["better"]["figures"]["auroc_low"] == gates["better"]["figures"]["auroc_high"] == 0
