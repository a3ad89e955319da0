"""The risk model: cross-fitted, calibrated, explainable, and clear about what it needs."""

import copy

import lightgbm
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from vigil.features.catalogue import FEATURES
from vigil.models.cohort import assign_folds
from vigil.models.evaluation.ranges import measure_coverage
from vigil.models.training.candidate_models import small_cohort_model
from vigil.models.training.measurement_augmentation import Augmented
from vigil.models.training.members import TooFewEventsError
from vigil.models.training.risk_model import (
    FeatureMismatchError,
    NoThresholdError,
    RiskModel,
    from_log_odds,
    log_odds,
)

COLUMNS = ["heart_rate_mean_6h", "heart_rate_last_24h", "spo2_min_24h", "age"]
TREES = {"n_estimators": 60, "num_leaves": 7, "min_child_samples": 20, "verbosity": -1, "n_jobs": 1}
HOURS = 5  # rows of a patient


def patients(n, seed):
    """Return features, labels and subjects of n rows, five rows per patient."""
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame(generator.normal(size=(n, len(COLUMNS))), columns=COLUMNS).astype("float32")
    margin = 2 * frame["heart_rate_mean_6h"] - 1.5 * frame["spo2_min_24h"] - 2
    label = (generator.random(n) < 1 / (1 + np.exp(-margin))).astype(float)
    frame.loc[generator.random(n) < 0.2, "spo2_min_24h"] = np.nan
    return frame, label.to_numpy(), pd.Series([f"s{seed}-{row // HOURS}" for row in range(n)])


def trees(**other):
    return lightgbm.LGBMClassifier(**{**TREES, **other})


@pytest.fixture(scope="module")
def model():
    fitted = RiskModel(trees(), COLUMNS, folds=3).fit(*patients(4000, 1))
    fitted.thresholds_ = {"medium": 0.2, "high": 0.5}
    return fitted


class MemorisingLearner(LogisticRegression):
    """A learner that returns the label of a row that it has seen, and 0.5 for any other row."""

    def fit(self, X, y):
        self.seen_ = {row.tobytes(): label for row, label in zip(X, y, strict=True)}
        self.classes_ = np.array([0, 1])
        return self

    def predict_proba(self, X):
        p = np.array([self.seen_.get(row.tobytes(), 0.5) for row in X], dtype=float)
        return np.column_stack([1 - p, p])


def test_cross_fit_gives_out_of_fold_risks_by_members_that_have_not_seen_the_patient():
    X, y, groups = patients(500, 1)
    twin = pd.concat([X, X.iloc[[0]]], ignore_index=True)  # another patient has the same hour as the first
    owner = pd.concat([groups, groups.iloc[[0]]], ignore_index=True)
    risk = RiskModel(MemorisingLearner(), COLUMNS, folds=5).cross_fit(twin, np.append(y, y[0]), owner)
    assert np.ptp(risk) < 1e-12  # no label came back
    assert risk[0] == pytest.approx(np.append(y, y[0]).mean(), abs=1e-4)


def test_member_leaves_one_fold_of_patients_out():
    X, y, groups = patients(500, 1)
    model = RiskModel(MemorisingLearner(), COLUMNS, folds=4, repeats=2, seed=3).fit(X, y, groups)
    assert len(model.members_[0]) == 8
    rows = X.to_numpy(np.float32)
    for repeat in range(2):
        fold = assign_folds(groups, y == 1, 4, seed=3 + repeat)
        for left_out in range(4):
            seen = model.members_[0][4 * repeat + left_out].seen_
            assert [row.tobytes() in seen for row in rows] == (fold != left_out).tolist()


def test_cross_fit_scores_rows_without_a_label_and_does_not_learn_from_them():
    X, y, groups = patients(600, 1)
    unknown = np.where(np.arange(600) % 7 == 0, np.nan, y)
    model = RiskModel(MemorisingLearner(), COLUMNS)
    risk = model.cross_fit(X, unknown, groups)
    assert np.isfinite(risk).all()
    seen = set().union(*(member.seen_ for member in model.members_[0]))
    assert not seen & {row.tobytes() for row in X[np.isnan(unknown)].to_numpy(np.float32)}


def test_member_learns_from_all_events_and_a_number_of_others():
    X, y, groups = patients(2000, 1)
    model = RiskModel(MemorisingLearner(), COLUMNS, folds=4, max_negatives=300).fit(X, y, groups)
    for member in model.members_[0]:
        assert list(member.seen_.values()).count(0) == 300
    assert len(model.members_[0][0].seen_) > 300 + 0.6 * y.sum()
    X, y, groups = patients(4000, 1)
    risk = RiskModel(trees(), COLUMNS, max_negatives=500).cross_fit(X, y, groups)
    assert risk.mean() == pytest.approx(y.mean(), abs=1e-4)  # calibration undoes the draw


def test_member_learns_from_every_augmented_way_and_never_from_the_fold_left_out():
    X, y, groups = patients(1000, 1)
    some = np.random.default_rng(1).permutation(1000)[:400]
    habits = Augmented(np.arange(1000), X + 100, np.ones(1000), "other_habits")
    stands_for = (HOURS / groups.iloc[some].map(groups.iloc[some].value_counts())).to_numpy()
    late = Augmented(some, X.iloc[some] + 200, stands_for, "late_start")
    model = RiskModel(MemorisingLearner(), COLUMNS, folds=4, max_negatives=200, seed=3).fit(X, y, groups, [habits, late])
    assert (model.metadata_["other_habits"], model.metadata_["cut_records"]) == (True, True)
    fold = assign_folds(groups, y == 1, 4, seed=3)
    for left_out, member in enumerate(model.members_[0]):
        for rows, frame in ((np.arange(1000), X), (habits.rows, habits.features), (some, late.features)):
            seen = np.array([row.tobytes() in member.seen_ for row in frame.to_numpy(np.float32)])
            labels, away = y[rows], fold[rows] == left_out
            assert seen[~away & (labels == 1)].all()
            assert not seen[away].any()
            # The share of those without an event that is drawn as measured, each row standing for the hours of its stay.
            weight = HOURS / groups.iloc[rows].map(groups.iloc[rows].value_counts()).to_numpy()
            of_learned = [weight[~away & (labels == value)].sum() for value in (0, 1)]
            odds_against = of_learned[0] / of_learned[1] * 200 / ((fold != left_out) & (y == 0)).sum()
            assert (seen & (labels == 0)).sum() == round((~away & (labels == 1)).sum() * odds_against)


def test_augmented_rows_have_the_label_of_their_row_and_are_ignored_without_one():
    X, y, groups = patients(600, 1)
    unknown = np.where(np.arange(600) % 7 == 0, np.nan, y)
    rows = np.repeat(np.arange(600)[::-1], 2)
    ways = [Augmented(rows, (X.iloc[rows] + np.arange(1200)[:, None]).astype("float32"), np.full(1200, 0.5), "last_set")]
    model = RiskModel(MemorisingLearner(), COLUMNS).fit(X, unknown, groups, ways)
    assert (model.metadata_["other_habits"], model.metadata_["cut_records"]) == (False, True)
    label_of = dict(zip((row.tobytes() for row in ways[0].features.to_numpy(np.float32)), unknown[rows], strict=True))
    learned = [(label_of[row], label) for row, label in model.members_[0][0].seen_.items() if row in label_of]
    assert len(learned) > 700
    assert all(expected == label for expected, label in learned)


def test_truncated_records_teach_the_risk_of_a_level_without_history():
    """In ill patients the level has risen before, so the rise tells all. A patient known by one observation has none."""
    generator = np.random.default_rng(1)
    level, rise = generator.normal(size=(2, 8000))
    y = (generator.random(8000) < 1 / (1 + np.exp(3 - 3 * rise))).astype(float)
    X = pd.DataFrame({"heart_rate_last_24h": level + 2 * rise, "heart_rate_change_24h": rise}, dtype="float32")
    groups = pd.Series([f"p{row // HOURS}" for row in range(8000)])
    learned, unseen = np.arange(6000), np.arange(6000, 8000)
    alone = X.assign(heart_rate_change_24h=np.float32("nan"))
    way = Augmented(learned[::2], alone.iloc[learned[::2]], np.full(3000, 2.0), "last_set")
    model = RiskModel(trees(), list(X), folds=3)
    worst = unseen[X["heart_rate_last_24h"].iloc[unseen] > 3]
    without, cut = (
        model.fit(X.iloc[learned], y[learned], groups.iloc[learned], ways).risk(alone.iloc[worst]) for ways in ([], [way])
    )
    assert y[worst].mean() > 0.6
    assert without.mean() < 0.5 * y[worst].mean()
    assert cut.mean() == pytest.approx(y[worst].mean(), abs=0.12)


def test_smallest_leaf_is_a_share_of_the_rows_of_a_member():
    X, y, groups = patients(2000, 1)
    twice = Augmented(np.arange(2000), X, np.ones(2000), "changed_habits")
    for ways, rows in (([], 1500), ([twice], 3000)):
        model = RiskModel(trees(), COLUMNS, folds=4, smallest_leaf=0.05).fit(X, y, groups, ways)
        for member in model.members_[0]:
            assert member.min_child_samples == pytest.approx(0.05 * rows, rel=0.02)


def test_margin_of_a_former_model_uses_both_lists_of_learners(model):
    stored = copy.copy(model)
    stored.members_, stored.weights_ = [model.members_[0], model.members_[0][:1]], np.array([0.7, 0.2])
    del stored.smallest_leaf  # former models lack it
    X, _, _ = patients(50, 4)
    first, second = (np.mean([m.predict(X.to_numpy(), raw_score=True) for m in view], axis=0) for view in stored.members_)
    np.testing.assert_allclose(stored.margin(X), 0.7 * first + 0.2 * second + model.intercept_, atol=1e-9)
    np.testing.assert_allclose(stored.contributions(X).sum(axis=1), stored.margin(X), atol=1e-6)
    assert "smallest_leaf" not in stored.settings


def test_calibration_makes_the_mean_out_of_fold_risk_the_event_rate():
    X, y, groups = patients(2000, 1)
    assert RiskModel(trees(), COLUMNS).cross_fit(X, y, groups).mean() == pytest.approx(y.mean(), abs=1e-4)


def test_calibration_corrects_overconfident_members():
    overfitted = trees(min_child_samples=1, num_leaves=60, n_estimators=150)
    X, y, groups = patients(3000, 1)
    new_X, new_y, _ = patients(20_000, 3)
    alone = overfitted.fit(X.to_numpy(), y).predict(new_X.to_numpy(), raw_score=True)[:, None]
    model = RiskModel(overfitted, COLUMNS, folds=10).fit(X, y, groups)
    slope_before, slope_after = (
        LogisticRegression(C=np.inf).fit(margin, new_y).coef_[0, 0] for margin in (alone, model.margin(new_X)[:, None])
    )
    assert slope_before < 0.5
    assert 0.75 < slope_after < 1.5  # ten members averaged are steadier than the one that calibration saw


def test_risk_is_bit_identical_whatever_other_rows_are_scored():
    X, y, groups = patients(400, 1)
    model = RiskModel(trees(n_estimators=20), COLUMNS, folds=3, repeats=4).fit(X, y, groups)
    together = model.risk(X)
    for at_once in (1, 2, 7):
        parts = [model.risk(X[first : first + at_once]) for first in range(0, len(X), at_once)]
        assert (np.concatenate(parts) == together).all()


def test_contributions_add_up_to_the_margin_and_are_grouped_by_signal(model):
    X, _, _ = patients(50, 4)
    result = model.contributions(X)
    assert set(result.columns) == {FEATURES[name].signal for name in COLUMNS} | {"baseline"}
    np.testing.assert_allclose(result.sum(axis=1), model.margin(X), atol=1e-6)


def test_what_changed_adds_up_to_the_change_and_names_the_signal(model):
    before, _, _ = patients(20, 5)
    now = before.assign(heart_rate_mean_6h=before["heart_rate_mean_6h"] + 2)
    changed = model.contribution_changes(before, now)
    np.testing.assert_allclose(changed.sum(axis=1), model.margin(now) - model.margin(before), atol=1e-6)
    assert (changed.abs().mean().idxmax(), "baseline" in changed) == ("heart_rate", False)


def test_contributions_refuse_a_linear_model():
    X, y, groups = patients(300, 1)
    linear = RiskModel(LogisticRegression(), ["age"]).fit(X, y, groups)
    with pytest.raises(TypeError, match="expected a LightGBM model, this one is a LogisticRegression"):
        linear.contributions(X)


def test_range_holds_the_probability_and_the_observed_frequency_and_is_narrow(model):
    X, y, groups = patients(20_000, 6)
    risk, (low, high) = model.risk(X), model.range(X)
    assert ((low <= risk) & (risk <= high)).all()
    assert low.min() >= 0
    assert high.max() <= 1
    assert (high - low).mean() < 0.1
    assert measure_coverage(y, risk, low, high, groups)["compatible"].sum() >= 9


def test_risk_reads_columns_by_name_not_by_position(model):
    X, _, _ = patients(20, 5)
    np.testing.assert_array_equal(model.risk(X), model.risk(X[COLUMNS[::-1]].assign(more=1)))


def test_feature_mismatch_error_shows_the_difference(model):
    X, _, _ = patients(5, 6)
    renamed = X.rename(columns={"spo2_min_24h": "spo2_min_12h"}).drop(columns="age")
    message = (
        r"2 of the model's 4 columns are missing: spo2_min_24h \(is it spo2_min_12h\?\), age; the frame has 2 of them and 1"
    )
    with pytest.raises(FeatureMismatchError, match=message):
        model.risk(renamed)


def test_band_begins_at_its_threshold(model):
    assert [model.band(p) for p in (0.199, 0.2, 0.499, 0.5)] == ["low", "medium", "medium", "high"]
    X, _, _ = patients(200, 7)
    np.testing.assert_array_equal(model.predict(X), model.risk(X) >= 0.5)


def test_too_few_events_error_explains_a_cohort_without_events():
    X, _, groups = patients(300, 1)
    with pytest.raises(TooFewEventsError, match="hold 1 of the 2 classes of outcome"):
        RiskModel(LogisticRegression(), ["age"]).fit(X, np.zeros(300), groups)


def test_settings_are_those_of_the_learner_and_the_smallest_leaf():
    settings = RiskModel(trees(), COLUMNS, smallest_leaf=0.02).settings
    assert (settings["num_leaves"], settings["smallest_leaf"]) == (7, 0.02)
    assert "smallest_leaf" not in RiskModel(trees(), COLUMNS).settings


def test_learners_that_change_their_input_do_not_affect_others():
    X, y, groups = patients(2000, 1)
    model = small_cohort_model(COLUMNS, seed=1)
    out_of_fold = model.cross_fit(X, y, groups)
    before = X.copy()
    fresh = [log_odds(member.predict_proba(X[COLUMNS].to_numpy("float32", copy=True))[:, 1]) for member in model.members_[0]]
    expected = np.mean(fresh, axis=0) * model.weights_[0] + model.intercept_
    np.testing.assert_allclose(model.margin(X), expected)
    pd.testing.assert_frame_equal(X, before)
    assert np.corrcoef(out_of_fold, model.risk(X))[0, 1] > 0.99


def test_no_threshold_error_tells_how_to_set_thresholds():
    X, y, groups = patients(500, 1)
    with pytest.raises(NoThresholdError, match="thresholds_: no high band; expected probabilities"):
        RiskModel(trees(), COLUMNS).fit(X, y, groups).band(0.2)


def test_predict_without_thresholds_is_the_likelier_class():
    X, y, groups = patients(1000, 1)
    model = RiskModel(trees(), COLUMNS).fit(X, y, groups)
    np.testing.assert_array_equal(model.predict(X), model.predict_proba(X).argmax(axis=1))
    assert 0 < model.predict(X).sum() < 1000


def test_fit_with_the_same_data_and_seed_gives_the_same_model():
    X, y, groups = patients(1000, 1)
    first, again = (RiskModel(trees(n_jobs=2), COLUMNS, max_negatives=500, seed=5).fit(X, y, groups) for _ in range(2))
    np.testing.assert_array_equal(first.margin(X), again.margin(X))
    other = RiskModel(trees(), COLUMNS, max_negatives=500, seed=6).fit(X, y, groups)
    assert not np.array_equal(first.margin(X), other.margin(X))


def test_from_log_odds_of_any_size_is_a_probability():
    result = from_log_odds(np.array([-1e4, -710.0, 0.0, np.log(3), 1e4]))
    np.testing.assert_allclose(result, [0, 0, 0.5, 0.75, 1], atol=1e-300)
