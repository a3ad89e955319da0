"""`vigil tune` on the trained ward: training patients only, a leaderboard, a search that continues, a version made of it."""

import json

import pandas as pd
import pytest
from lightgbm import LGBMClassifier
from sklearn.model_selection import GroupKFold, cross_val_score
from typer.testing import CliRunner

import vigil
from vigil.features.catalogue import SERVICES
from vigil.models.cohort import LABEL_COLUMNS, assign_splits
from vigil.models.search.space import Range
from vigil.models.training.candidate_models import linear_model, score_model, tree_model
from vigil.pipelines.cli.main import app
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.proposal import Proposal, ProposalError
from vigil.pipelines.jobs.train import SettingError, train
from vigil.pipelines.jobs.tune import tune

FEATURES = ["age", "hours_in_unit", "heart_rate_last_24h", "heart_rate_count_24h", "respiratory_rate_last_24h", "spo2_last_24h"]


@pytest.fixture(scope="module")
def small_search(own_home):
    """A home in which search and training know few features and few trees."""

    def few(*_, hourly, seed):
        model = tree_model(FEATURES, hourly=hourly, seed=seed)
        model.learner.set_params(n_estimators=60, learning_rate=0.1)
        logistic = linear_model(FEATURES, hourly=hourly, seed=seed)
        return {"all_signals": model, "logistic": logistic, "news2": score_model("news2", hourly=hourly, seed=seed)}

    with pytest.MonkeyPatch.context() as patch:
        for job in ("train", "tune"):
            patch.setattr(f"vigil.pipelines.jobs.{job}.candidates", few)
        patch.setattr("vigil.pipelines.jobs.tune.HOURLY_SPACE", {"num_leaves": Range(4, 64), "n_estimators": Range(30, 90)})
        yield own_home


@pytest.fixture(scope="module")
def searched(small_search):
    """The result of the command, and the subjects that it read."""
    home, read = Home(small_search), []
    frames = home.features.read_training_frame

    def note(index, service):
        read.append(index["subject_id"])
        return frames(index, service)

    home.features.read_training_frame = note
    return tune(home, 0.05, rival=True), pd.concat(read)


def test_tune_reads_training_patients_only_and_sets_a_fifth_of_them_aside(searched):
    result, read = searched
    assert set(assign_splits(read)) == {"train"}
    sides = result.patients
    assert sides["set_aside"]["patients"] == pytest.approx(0.2 * sum(own["patients"] for own in sides.values()), abs=3)
    assert sides["set_aside"]["events"] >= 1


def test_training_rows_are_those_of_training_patients_for_any_estimator(small_search):
    rows = vigil.Home(small_search).training_rows()
    assert set(assign_splits(rows["subject_id"])) == {"train"}
    assert rows.columns[:5].tolist() == LABEL_COLUMNS
    known = rows.dropna(subset="label")
    model = vigil.RiskModel(LGBMClassifier(n_estimators=20, verbosity=-1), folds=2)
    scores = cross_val_score(model, known, known["label"], groups=known["subject_id"], cv=GroupKFold(2), scoring="roc_auc")
    assert scores.min() > 0.6
    assert model.fit(known, known["label"]).feature_names_in_.tolist() == list(SERVICES["vital_signs_v3"])


def test_tune_compares_what_was_found_with_default_baselines_and_rival(searched):
    result, _ = searched
    board = result.leaderboard
    assert {"all_signals", "logistic", "news2"} <= set(board.index) <= {"all_signals", "logistic", "news2", "tuned", "flaml"}
    assert ("tuned" in board.index) is not result.is_default
    assert board["log_loss"].is_monotonic_increasing
    assert (board["log_loss_low"] < board["log_loss"]).all()
    assert result.trials["optuna"]["complete"] >= 1
    assert result.simulated


def test_tune_continues_and_its_result_is_in_the_home_and_in_mlflow(searched, small_search, tmp_path):
    before, _ = searched
    answer = CliRunner().invoke(
        app, ["tune", "--home", str(small_search), "--minutes", "0", "--json", str(tmp_path / "out.json")]
    )
    assert answer.exit_code == 0, answer.output
    assert "They are no clinical evidence." in " ".join(answer.output.split())
    written = json.loads((small_search / "reports/tuning.json").read_text())
    assert json.loads((tmp_path / "out.json").read_text()) == written
    assert written["run_id"] == before.run_id
    assert written["trials"]["optuna"] == pytest.approx(before.trials["optuna"])  # not even the defaults were fitted again
    assert written["parameters"] == before.parameters
    assert Home(small_search).registry.load_dictionary(before.run_id, "tuning.json") == written


def test_proposal_becomes_a_version_like_any_other(searched, small_search, tmp_path):
    result, _ = searched
    path = tmp_path / "proposal.json"
    path.write_text(json.dumps({**result.as_dict(), "parameters": {"num_leaves": 5}}, default=str))
    home = Home(small_search)
    trained = train(home, proposal=Proposal.read(path), settings={"n_estimators": 20})
    assert home.registry.load(trained.model_name, trained.version).model.settings["num_leaves"] == 5
    run = home.registry.client.get_run(trained.run_id)
    assert (run.data.params["num_leaves"], run.data.params["n_estimators"]) == ("5", "20")
    assert run.data.tags["proposed_by"] == result.run_id
    assert run.info.run_name.endswith(", all_signals")
    board = vigil.Home(small_search).leaderboard()
    assert set(board["version"]) == {1}  # the other one is not evaluated
    assert board["auprc"].is_monotonic_decreasing
    with pytest.raises(ProposalError, match="found for the feature service vital_signs_v3; expected vital_signs_v2"):
        train(home, proposal=Proposal.read(path), service="vital_signs_v2")
    with pytest.raises(SettingError, match="--set num_leafs: there is none; did you mean num_leaves"):
        train(home, proposal=Proposal({"num_leafs": 5}))


@pytest.mark.parametrize("content", ["", "[1]", '{"parameters": 3}'])
def test_proposal_error_says_what_a_file_should_hold(tmp_path, content):
    path = tmp_path / "proposal.json"
    path.write_text(content)
    with pytest.raises(ProposalError, match=r"--params .*; expected"):
        Proposal.read(path)
