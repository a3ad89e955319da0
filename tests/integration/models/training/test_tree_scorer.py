"""Scores of many rows by trees: those of LightGBM, bit for bit."""

import lightgbm
import numpy as np
import pytest

from vigil.models.training.tree_scorer import TreeScorer, score_many

ROWS = 3_000


def _learn(matrix, *, trees=40, **settings):
    """Return a booster of noisy labels, which need every feature."""
    generator = np.random.default_rng(1)
    margin = np.nan_to_num(matrix[:, 0]) - np.nan_to_num(matrix[:, 1]) * (matrix[:, -1] > 0)
    label = (margin + generator.normal(size=len(matrix)) > 0.5).astype(int)
    learner = lightgbm.LGBMClassifier(n_estimators=trees, verbosity=-1, n_jobs=1, **{"num_leaves": 16, **settings})
    return learner.fit(matrix, label).booster_


def _features(missing, columns=7):
    generator = np.random.default_rng(2)
    matrix = generator.normal(size=(ROWS, columns)).astype(np.float32)
    matrix[:, 2] = np.round(matrix[:, 2])  # ties with thresholds
    matrix[generator.random(matrix.shape) < missing] = np.nan
    return matrix


@pytest.mark.parametrize("leaves", [2, 8, 16, 32, 40])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_tree_scorer_gives_the_scores_of_lightgbm_bit_for_bit(leaves, missing):
    booster = _learn(_features(missing), num_leaves=leaves)
    asked = np.vstack([_features(0.5), np.full((1, 7), np.nan), np.full((1, 7), np.inf), np.full((1, 7), -np.inf)])
    asked = asked.astype(np.float32)
    assert (TreeScorer.of_booster(booster) is None) == (leaves > 32)
    np.testing.assert_array_equal(score_many(booster, asked), booster.predict(asked, raw_score=True))


def test_tree_scorer_takes_a_value_at_a_threshold_to_the_same_side():
    booster = _learn(_features(0.0))
    thresholds = booster.trees_to_dataframe()["threshold"].dropna().to_numpy()
    exact = thresholds.astype(np.float32)
    near = np.concatenate([exact, np.nextafter(exact, np.float32(np.inf)), np.nextafter(exact, np.float32(-np.inf))])
    asked = np.repeat(near[:, None], 7, axis=1)
    np.testing.assert_array_equal(score_many(booster, asked), booster.predict(asked, raw_score=True))


@pytest.mark.parametrize("rows", [0, 1, 255, 256, 257])
def test_tree_scorer_scores_any_number_of_rows(rows):
    booster, asked = _learn(_features(0.1)), _features(0.1)[:rows]
    expected = booster.predict(asked, raw_score=True) if rows else np.empty(0)
    np.testing.assert_array_equal(score_many(booster, asked), expected)


def test_tree_scorer_knows_trees_without_a_split():
    booster = _learn(_features(0.0), trees=3, min_child_samples=ROWS)
    asked = _features(0.0)[:5]
    assert TreeScorer.of_booster(booster) is not None
    np.testing.assert_array_equal(score_many(booster, asked), booster.predict(asked, raw_score=True))


def test_tree_scorer_leaves_categories_and_zeros_as_missing_to_lightgbm():
    matrix = _features(0.0)
    matrix[:, 2] = np.abs(matrix[:, 2])
    for settings in ({"categorical_feature": [2], "min_data_per_group": 1, "cat_smooth": 0.1}, {"zero_as_missing": True}):
        booster = _learn(matrix, **settings)
        assert TreeScorer.of_booster(booster) is None
        np.testing.assert_array_equal(score_many(booster, matrix), booster.predict(matrix, raw_score=True))
