"""What a model makes of a signal: the direction that it has learned, groups of rows alone, and the figure of it."""

import lightgbm
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from vigil.models.evaluation.explanations import explain_signals
from vigil.models.reporting.explanation_figures import draw_explanations
from vigil.models.training.risk_model import RiskModel

COLUMNS = ["heart_rate_last_24h", "spo2_last_24h", "age", "hours_in_unit"]


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(4)
    rows = 3_000
    values = {
        "heart_rate_last_24h": rng.normal(80, 15, rows),
        "spo2_last_24h": rng.normal(96, 2, rows),
        "age": rng.uniform(20, 90, rows),
    }
    frame = pd.DataFrame({**values, "hours_in_unit": rng.uniform(0, 99, rows)}).astype("float32")
    frame.loc[::4, "spo2_last_24h"] = np.nan
    odds = (frame["heart_rate_last_24h"] - 80) / 8 - 2
    return frame.assign(
        label=(rng.random(rows) < 1 / (1 + np.exp(-odds))).astype(float), group=[f"p{row // 3}" for row in range(rows)]
    )


def fitted(frame, learner):
    model = RiskModel(learner, COLUMNS, folds=3)
    return model.fit(frame, frame["label"], frame["group"])


def test_the_strongest_signal_rises_with_the_risk_and_its_groups_hold_many_rows(frame):
    learner = lightgbm.LGBMClassifier(
        n_estimators=40, num_leaves=7, verbosity=-1, n_jobs=1, deterministic=True, force_row_wise=True
    )
    found = explain_signals(fitted(frame, learner), frame, seed=1)
    first = found[0]
    assert (first["signal"], first["unit"]) == ("heart_rate", "/min")
    contributions = [group["contribution"] for group in first["groups"]]
    assert contributions[0] < -0.5 < 0.5 < contributions[-1]
    assert [group["value"] for group in first["groups"]] == sorted(group["value"] for group in first["groups"])
    assert all(group["rows"] >= 20 and group["low"] <= group["high"] for signal in found for group in signal["groups"])
    unknown = next(signal for signal in found if signal["signal"] == "spo2")["groups"][0]
    assert unknown["value"] is None
    assert unknown["rows"] == pytest.approx(250, abs=40)
    assert len(draw_explanations({"explanations": found}).axes) == 4


def test_a_model_that_cannot_say_has_no_explanations(frame):
    assert explain_signals(fitted(frame.fillna(90), LogisticRegression()), frame.fillna(90), seed=1) == []
