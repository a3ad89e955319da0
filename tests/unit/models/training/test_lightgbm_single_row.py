"""Raw scores of single rows are those of LightGBM's own predict, in any thread and every time."""

import gc
import threading

import lightgbm
import numpy as np
import pytest

from vigil.models.training.lightgbm_single_row import raw_scores


def booster(columns=12, **settings):
    rng = np.random.default_rng(columns)
    matrix = rng.normal(size=(600, columns)).astype(np.float32)
    matrix[rng.random(matrix.shape) < 0.2] = np.nan
    label = (np.nan_to_num(matrix[:, 0]) + rng.normal(size=600) > 0).astype(int)
    model = lightgbm.LGBMClassifier(n_estimators=60, num_leaves=15, verbose=-1, n_jobs=1, **settings)
    return model.fit(matrix, label).booster_, matrix


@pytest.mark.parametrize(
    "settings", [{}, {"boosting_type": "rf", "subsample": 0.6, "subsample_freq": 1}, {"linear_tree": True}]
)
def test_raw_scores_are_those_of_predict_bit_for_bit(settings):
    model, matrix = booster(**settings)
    expected = model.predict(matrix, raw_score=True, num_threads=1)
    assert np.array_equal(raw_scores(model, matrix), expected)
    assert np.array_equal(raw_scores(model, matrix[::-2]), expected[::-2])  # rows that are not contiguous
    assert np.array_equal(raw_scores(model, np.asfortranarray(matrix)), expected)
    assert raw_scores(model, matrix[:0]).shape == (0,)


def test_raw_scores_can_be_computed_by_many_threads_at_once():
    model, matrix = booster()
    expected, wrong = model.predict(matrix, raw_score=True), []

    def score(number):
        for _ in range(20):
            rows = slice(number, number + 5)
            if not np.array_equal(raw_scores(model, matrix[rows]), expected[rows]):
                wrong.append(number)

    threads = [threading.Thread(target=score, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_raw_scores_refuse_a_row_of_another_width():
    model, matrix = booster()
    with pytest.raises(ValueError, match="11 columns; expected the 12 of the booster"):
        raw_scores(model, matrix[:, :11])


def test_raw_scores_release_their_predictor_with_its_booster():
    from vigil.models.training.lightgbm_single_row import _PREDICTORS

    before = len(_PREDICTORS)
    model, matrix = booster(5)
    raw_scores(model, matrix[:1])
    assert len(_PREDICTORS) == before + 1
    del model
    gc.collect()
    assert len(_PREDICTORS) == before
