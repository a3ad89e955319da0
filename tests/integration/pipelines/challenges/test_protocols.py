"""The frozen protocols on small synthetic sets: the form of the results, and that nothing of a test set reaches a model."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.support import synthetic_challenges as synthetic
from vigil.models.evaluation.challenges import Utility, score_event1
from vigil.models.training.candidate_models import CLOCK
from vigil.models.training.risk_model import RiskModel
from vigil.pipelines.challenges import PREDICTIONS, BenchmarkError
from vigil.pipelines.challenges.candidates import simplest_within_one_error
from vigil.pipelines.challenges.cinc2019 import compute_figures
from vigil.pipelines.challenges.frames import read_augmented, read_frame
from vigil.pipelines.challenges.run import run
from vigil.pipelines.cli.main import app
from vigil.pipelines.sources import SourceError
from vigil.pipelines.sources.cinc2019 import Cinc2019

SMALL = {"n_estimators": 15, "min_child_samples": 10}


@pytest.fixture(autouse=True)
def _small_models(monkeypatch):
    """Use small models: the protocols are tested, not the models."""
    for kind in ("HOURLY", "PER_STAY"):
        monkeypatch.setattr(f"vigil.models.training.candidate_models.{kind}", {**SMALL, "num_leaves": 4})


@pytest.fixture(scope="module")
def sepsis(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cinc2019")
    return synthetic.write_cinc2019(folder / "a", 60, 1), synthetic.write_cinc2019(folder / "b", 30, 2)


@pytest.fixture(scope="module")
def deaths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cinc2012")
    return synthetic.write_cinc2012(folder / "set-x", 120, 1), synthetic.write_cinc2012(folder / "set-y", 60, 2)


def test_cinc2019_scores_every_hour_of_every_stay_by_every_model(sepsis, tmp_path):
    train, test = sepsis
    options = ["--json", str(tmp_path / "benchmark.json"), "--predictions", str(tmp_path / "rows.parquet")]
    result = CliRunner().invoke(app, ["benchmark", "cinc2019", "--train", str(train), "--test", str(test), *options])
    assert result.exit_code == 0, result.output
    models = json.loads((tmp_path / "benchmark.json").read_text())["models"]
    rows = pd.read_parquet(tmp_path / "rows.parquet")
    assert tuple(rows.columns) == PREDICTIONS
    expected = ["all_signals", "clock", "vital_signs", "logistic", "news2", "qsofa", "sirs", "mews"]
    assert sorted(models) == sorted(rows["model"].unique()) == sorted(expected)
    hours = sum(len(file.read_text().splitlines()) - 1 for file in test.iterdir())
    for name, of_model in rows.groupby("model"):
        assert len(of_model) == hours
        assert set(of_model["subject_id"]) == {file.stem for file in test.iterdir()}
        assert of_model["probability"].between(0, 1).all()
        alarm, quiet = (of_model.loc[of_model["alarm"] == value, "probability"] for value in (True, False))
        assert alarm.empty or quiet.empty or alarm.min() > quiet.max(), name
    # The figures agree with the rows that were written.
    label = pd.concat([pd.read_csv(file, sep="|")["SepsisLabel"] for file in sorted(test.iterdir())]).to_numpy(float)
    of_default = rows[rows["model"] == "all_signals"].sort_values(["subject_id", "index_time"])
    utility = Utility.from_labels(label, of_default["subject_id"]).normalised(of_default["alarm"].to_numpy())
    assert models["all_signals"]["utility"] == pytest.approx(utility)
    assert models["all_signals"]["auroc"] > 0.75
    assert models["all_signals"]["auroc"] > models["clock"]["auroc"]
    for metric in ("auroc", "auprc", "utility", "calibration_slope"):
        low, value, high = (models["all_signals"][f"{metric}{side}"] for side in ("_low", "", "_high"))
        assert low <= value <= high


def test_cinc2019_counts_alarms_at_the_threshold_of_each_fold():
    """Two folds have different thresholds: a risk of 0.3 sounds an alarm in one and not in the other."""
    time = pd.date_range("2026-01-01", periods=24, freq="h", tz="UTC").as_unit("us")
    onset = pd.Series([time[20], pd.NaT], dtype="datetime64[us, UTC]")
    scored = pd.DataFrame(
        {
            "subject_id": np.repeat(["a", "b"], 24), "index_time": np.tile(time, 2), "onset": onset.repeat(24).array,
            "onset_known": True, "probability": 0.3,
        }
    )  # fmt: skip
    scored["label"] = ((scored["subject_id"] == "a") & (scored["index_time"] >= time[14])).astype(float)
    figures = compute_figures(scored.assign(alarm=(scored["subject_id"] == "a") & (scored["index_time"] >= time[10])))
    assert figures["alarms"] == 2  # at hour 10 and, after the refractory period, at hour 18
    assert (figures["event_recall"], figures["alarm_precision"], figures["lead_time_hours"]) == (1, 1, 10)
    assert figures["alarms_per_patient_day"] == pytest.approx(2 / (44 / 24))


def test_cinc2019_predictions_do_not_depend_on_labels_of_the_test_set(sepsis, tmp_path):
    train, test = sepsis
    relabelled = tmp_path / "relabelled"
    relabelled.mkdir()
    for number, file in enumerate(sorted(test.iterdir())):
        header, *lines = file.read_text().splitlines()
        cells = [line.rsplit("|", 1)[0] + f"|{int(number % 2)}" for line in lines]
        (relabelled / file.name).write_text("\n".join([header, *cells]) + "\n")
    first, second = (run("cinc2019", [train], [folder]).predictions for folder in (test, relabelled))
    pd.testing.assert_frame_equal(first, second)


def test_cinc2019_cross_validation_scores_no_patient_it_learned_from(sepsis, monkeypatch):
    train, _ = sepsis
    learned, fitted, leaks = set(), [], []
    original_fit, original_risk = RiskModel.cross_fit, RiskModel.risk

    def fit(self, X, y, groups, augmented):
        learned.clear()
        learned.update(groups)
        fitted.append((self.features, {way.way for way in augmented}))
        for way in augmented:  # its rows are of the training patients and of no others
            hours = X["hours_in_unit"].to_numpy()[way.rows]
            np.testing.assert_array_equal(way.features["hours_in_unit"], hours)
        return original_fit(self, X, y, groups, augmented)

    def risk(self, X):
        leaks.append(bool(learned & set(X["subject_id"])))
        return original_risk(self, X)

    monkeypatch.setattr(RiskModel, "cross_fit", fit)
    monkeypatch.setattr(RiskModel, "risk", risk)
    benchmark = run("cinc2019", [train])
    assert len(leaks) == 5 * len(benchmark.metrics)
    assert not any(leaks)
    assert {"physiology", "workflow"} < set(benchmark.metrics)
    everything, nothing = {"changed_habits", "late_start", "last_set"}, set()
    assert all(
        ways == (nothing if features in ([["news2"], ["qsofa"], ["sirs"], ["mews"], list(CLOCK)]) else everything)
        for features, ways in fitted
    )
    assert benchmark.facts["division"] == "5-fold by patient"
    assert benchmark.predictions["subject_id"].nunique() == 60


def test_read_augmented_returns_the_rows_of_read_frame_and_augmented_rows_of_them(sepsis, monkeypatch):
    monkeypatch.setattr("vigil.pipelines.sources.cinc2019.STAYS_PER_BATCH", 25)  # three batches
    features = ["heart_rate_count_24h", "heart_rate_last_24h", "lactate_last_72h", "age", "hours_in_unit"]
    frame, ways = read_augmented(Cinc2019(sepsis[0]), features, "set")
    pd.testing.assert_frame_equal(frame, read_frame(Cinc2019(sepsis[0]), features, "set"))
    habits, *_, late, sets = ways
    np.testing.assert_array_equal(habits.rows, np.arange(len(frame)))
    for way in ways:
        assert list(way.features) == features
        assert set(way.features.dtypes) == {np.dtype("float32")}
        assert set(frame["subject_id"].iloc[way.rows]) == set(frame["subject_id"])
        np.testing.assert_array_equal(way.features["hours_in_unit"], frame["hours_in_unit"].to_numpy()[way.rows])
    for name in ("heart_rate_last_24h", "lactate_last_72h"):
        np.testing.assert_array_equal(sets.features[name], frame[name].to_numpy()[sets.rows])
    assert (late.features["heart_rate_count_24h"] <= 12).all()


def test_cinc2012_scores_each_stay_once_also_without_an_observation(deaths):
    train, test = deaths
    benchmark = run("cinc2012", [train], [test])
    of_default = benchmark.predictions[benchmark.predictions["model"] == "all_signals"]
    assert sorted(of_default["subject_id"]) == sorted(file.stem for file in test.iterdir())
    died = pd.read_csv(test.parent / "Outcomes-y.txt", dtype={"RecordID": str}).set_index("RecordID")["In-hospital_death"]
    alarm, label = of_default["alarm"].to_numpy(bool), died[of_default["subject_id"]].to_numpy(float)
    metrics = benchmark.metrics["all_signals"]
    assert metrics["event1"] == pytest.approx(score_event1(label, alarm))
    assert metrics["event1_low"] <= metrics["event1"] <= metrics["event1_high"]
    assert metrics["auroc"] > 0.9
    assert {"saps_i", "first_day_sofa", "vital_signs"} <= set(benchmark.metrics)


def test_cinc2012_error_asks_for_a_test_set(deaths):
    with pytest.raises(BenchmarkError, match="--test is missing: cinc2012 is trained on one set and scored on another"):
        run("cinc2012", [deaths[0]])


def test_run_explains_an_unknown_protocol_and_a_missing_set(tmp_path):
    with pytest.raises(BenchmarkError, match="mimic: no such benchmark; choose one of cinc2012, cinc2019, ahe2009"):
        run("mimic", [tmp_path])
    with pytest.raises(SourceError):
        run("cinc2019", [tmp_path / "nowhere.zip"])


def test_ahe2009_scores_both_test_sets(ahe2009):
    benchmark = run("ahe2009", [ahe2009])
    assert len(benchmark.predictions) == 2 * 50
    assert (benchmark.metrics["all_signals"]["testA_records"], benchmark.metrics["all_signals"]["testB_records"]) == (10, 40)
    assert benchmark.metrics["all_signals"]["testB_auroc"] > 0.7


def test_transportability_scores_units_left_out_by_members_that_saw_none_of_them(tmp_path, monkeypatch):
    train = synthetic.write_cinc2019(tmp_path / "a", 60, 1)
    unit1 = set()
    for number, file in enumerate(sorted(train.iterdir())):
        if number % 2:
            file.write_text(file.read_text().replace("|0|1|-3|", "|1|0|-3|"))
            unit1.add(file.stem)
    learned, original = [], RiskModel.cross_fit

    def fit(self, X, y, groups, augmented):
        learned.append(set(groups) | {patient for way in augmented for patient in groups.iloc[way.rows]})
        return original(self, X, y, groups, augmented)

    monkeypatch.setattr(RiskModel, "cross_fit", fit)
    benchmark = run("travel2019", [train])
    of_fits = [frozenset(patients) for patients in learned[:3]]  # of the first candidate: all units, then each left out
    all_patients = of_fits[0]
    assert of_fits == [all_patients, all_patients - unit1, frozenset(unit1)]
    assert len(all_patients) == 60
    left_out = benchmark.metrics["all_signals: without Unit1"]
    assert {"auroc", "auroc_seen", "calibration_slope", "alarms_per_patient_day", "own_event_recall"} <= set(left_out)
    assert (
        0 < left_out["own_alarms_per_patient_day"] < 1
    )  # the budget is half an alarm a day; the patients are few and synthetic
    assert 0 <= left_out["domain_share_of_rows"] <= 1
    last_set = benchmark.metrics["all_signals: last set alone"]
    assert last_set["mean_risk"] == pytest.approx(last_set["prevalence"], abs=0.15)
    assert "all_signals: late start" in benchmark.metrics
    assert benchmark.metrics["clock: changed habits"]["auroc"] == pytest.approx(benchmark.metrics["clock: home"]["auroc"])
    compared = {name.split(":")[0] for name in benchmark.metrics if name.endswith(": both")} - {"clock"}
    assert len(compared) == 5
    assert benchmark.facts["simplest_within_one_standard_error"] in compared
    gaps = {name: benchmark.metrics[f"{name}: both"]["behind_best"] for name in compared}
    assert min(gaps.values()) == 0
    units = [benchmark.metrics[f"all_signals: without {unit}"]["auroc"] for unit in ("Unit1", "Unit2")]
    assert benchmark.metrics["all_signals: units left out"]["auroc"] == pytest.approx(np.mean(units))


def test_simplest_candidate_within_one_standard_error_of_the_best_is_chosen():
    noise = np.random.default_rng(0).normal(0, 0.01, 200)
    draws = {"simple": 0.79 + noise, "middle": 0.797 + noise, "best": 0.80 + noise + np.tile([-0.004, 0.004], 100)}
    auroc = {"simple": 0.79, "middle": 0.797, "best": 0.80}
    assert simplest_within_one_error(auroc, draws) == "middle"  # an error of .004, since the shared noise cancels
    assert simplest_within_one_error(auroc, draws | {"best": 0.80 + noise}) == "best"
