"""The risk model keeps scikit-learn's conventions: its checks, cross-validation with groups, routed groups, other labels."""

import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from tests.integration.models.training.test_risk_model import COLUMNS, MemorisingLearner, patients, trees
from vigil.models.training.risk_model import FeatureMismatchError, RiskModel

# A model that names its features cannot take part, since the checks give it arrays of any width;
# test_model_with_named_features_refuses_an_array has the rule that it follows.
_ROUNDING = "the blobs of the checks can be separated: calibration then magnifies what BLAS rounds, by the position of a row"
_MAY_FAIL = dict.fromkeys(("check_methods_sample_order_invariance", "check_methods_subset_invariance"), _ROUNDING)


def may_fail(estimator):
    """Return the checks that a linear learner may fail; trees add in one order and fail none."""
    return _MAY_FAIL if isinstance(estimator.learner, LogisticRegression) else {}


@parametrize_with_checks([RiskModel(), RiskModel(LogisticRegression(), folds=2)], expected_failed_checks=may_fail)
def test_scikit_learn_check(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that each row counts as a patient; and of learners on ten rows
        check(estimator)


def frame_of(X, y, groups):
    return X.assign(subject_id=groups, index_time=pd.Timestamp("2026-01-01", tz="UTC"), label=y)


def members_mix_patients(model, X, groups):
    """Whether a member has seen a patient whose other rows it scored as unseen."""
    rows = pd.Series([row.tobytes() for row in X[COLUMNS].to_numpy(np.float32)])
    mixed = [rows.isin(list(member.seen_)).groupby(groups.to_numpy()).nunique().max() == 2 for member in model.members_[0]]
    return any(mixed)


class RecordingModel(RiskModel):
    """A risk model that says whether its members mixed patients, for cross-validation to return."""

    def score(self, X, y):  # noqa: ARG002 - scikit-learn's signature
        return float(members_mix_patients(self, self.fitted_on_, self.patients_))

    def fit(self, X, y, groups=None, augmented=()):
        self.fitted_on_ = X
        self.patients_ = X["subject_id"] if "subject_id" in X else pd.Series(TRUE_GROUPS[list(X.index)])
        return super().fit(X, y, groups, augmented)


TRUE_GROUPS = patients(1000, 1)[2].to_numpy()


def test_cross_val_score_with_groups_is_that_of_a_loop_over_the_folds():
    X, y, groups = patients(1000, 1)
    rows = frame_of(X, y, groups)
    model = RiskModel(trees(), COLUMNS, folds=3)
    scores = cross_val_score(model, rows, y, groups=groups, cv=GroupKFold(4), scoring="neg_log_loss")
    expected = []
    for train, test in GroupKFold(4).split(X, y, groups):
        fitted = clone(model).fit(X.iloc[train], y[train], groups.iloc[train])
        p = fitted.risk(X.iloc[test])
        expected.append(np.mean(y[test] * np.log(p) + (1 - y[test]) * np.log1p(-p)))
    np.testing.assert_allclose(scores, expected)


def test_members_keep_the_rows_of_a_patient_together_by_the_column_of_the_frame():
    X, y, groups = patients(1000, 1)
    model = RecordingModel(MemorisingLearner(), COLUMNS, folds=3)
    assert cross_val_score(model, frame_of(X, y, groups), y, groups=groups, cv=GroupKFold(2)).tolist() == [0, 0]


def test_members_keep_the_rows_of_a_patient_together_by_routed_groups():
    X, y, groups = patients(1000, 1)
    model = RecordingModel(MemorisingLearner(), COLUMNS, folds=3)
    with sklearn.config_context(enable_metadata_routing=True):
        assert cross_val_score(model, X, y, params={"groups": groups}, cv=GroupKFold(2)).tolist() == [0, 0]
    with pytest.warns(UserWarning, match="groups: not given, and X has no column subject_id, so each row counts as a patient"):
        assert cross_val_score(model, X, y, groups=groups, cv=GroupKFold(2)).tolist() == [1, 1]  # what the warning is about


def test_grid_search_sets_parameters_of_the_learner():
    X, y, groups = patients(1000, 1)
    search = GridSearchCV(RiskModel(trees(), COLUMNS), {"learner__n_estimators": [2, 60]}, cv=GroupKFold(3), scoring="roc_auc")
    search.fit(frame_of(X, y, groups), y, groups=groups)
    assert search.best_params_ == {"learner__n_estimators": 60}
    assert search.best_score_ > 0.8


def test_features_without_names_are_all_columns_except_keys_and_labels():
    X, y, groups = patients(1000, 1)
    rows = frame_of(X, y, groups)
    by_frame, by_name = RiskModel(trees()).fit(rows, y), RiskModel(trees(), COLUMNS).fit(X, y, groups)
    assert by_frame.feature_names_in_.tolist() == by_name.feature_names_in_.tolist() == COLUMNS
    assert by_frame.n_features_in_ == by_name.n_features_in_ == len(COLUMNS)
    np.testing.assert_array_equal(by_frame.risk(X[COLUMNS[::-1]]), by_name.risk(X))  # by name, in any order


def test_labels_of_other_classes_are_those_of_zero_and_one():
    X, y, groups = patients(1000, 1)
    known = np.where(y == 1, "sepsis", "none").astype(object)
    known[::7] = None
    model = RiskModel(trees(), COLUMNS)
    named = clone(model).fit(X, known, groups)
    numbers = clone(model).fit(X, np.where(np.arange(1000) % 7 == 0, np.nan, y), groups)
    np.testing.assert_array_equal(named.risk(X), numbers.risk(X))
    assert named.classes_.tolist() == ["none", "sepsis"]
    assert set(named.predict(X)) == {"none", "sepsis"}
    assert numbers.classes_.tolist() == [0, 1]


def test_model_with_named_features_refuses_an_array():
    X, y, groups = patients(500, 1)
    model = RiskModel(trees(), COLUMNS)
    with pytest.raises(FeatureMismatchError, match="X: a ndarray; this model reads 4 columns by name; expected a pandas frame"):
        model.fit(X.to_numpy(), y, groups)
    with pytest.raises(FeatureMismatchError, match="X: a ndarray"):
        model.fit(X, y, groups).risk(X.to_numpy())
