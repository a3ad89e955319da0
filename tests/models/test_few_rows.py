"""The short way to a raw score is the score of LightGBM's own predict, whoever asks, however often."""

import gc
import threading

import lightgbm
import numpy as np
import pytest

from models.training.lightgbm_single_row import raw_scores


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
def test_they_are_those_of_predict_bit_for_bit(settings):
    model, matrix = booster(**settings)
    expected = model.predict(matrix, raw_score=True, num_threads=1)
    assert np.array_equal(raw_scores(model, matrix), expected)
    assert np.array_equal(raw_scores(model, matrix[::-2]), expected[::-2])  # rows that do not lie side by side
    assert np.array_equal(raw_scores(model, np.asfortranarray(matrix)), expected)
    assert raw_scores(model, matrix[:0]).shape == (0,)


def test_many_threads_may_ask_at_once():
    model, matrix = booster()
    expected, wrong = model.predict(matrix, raw_score=True), []

    def ask(number):
        for _ in range(20):
            rows = slice(number, number + 5)
            if not np.array_equal(raw_scores(model, matrix[rows]), expected[rows]):
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_row_of_another_width_is_refused_before_it_is_read():
    model, matrix = booster()
    with pytest.raises(ValueError, match="11 columns; expected the 12 of the booster"):
        raw_scores(model, matrix[:, :11])


def test_what_was_prepared_goes_with_its_booster():
    from models.training.lightgbm_single_row import _PREPARED

    before = len(_PREPARED)
    model, matrix = booster(5)
    raw_scores(model, matrix[:1])
    assert len(_PREPARED) == before + 1
    del model
    gc.collect()
    assert len(_PREPARED) == before
