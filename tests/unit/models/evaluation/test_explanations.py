"""What a model makes of a signal: the direction that it has learned, groups of rows alone, and the figure of it."""

import lightgbm
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from vigil.models.evaluation.explanations import explain_features, explain_row, explain_signals
from vigil.models.reporting.explanation_figures import draw_explanations
from vigil.models.reporting.shap_figures import draw_signal_swarm, draw_waterfall
from vigil.models.reporting.style import render_svg
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


@pytest.fixture(scope="module")
def trees(frame):
    learner = lightgbm.LGBMClassifier(
        n_estimators=40, num_leaves=7, verbosity=-1, n_jobs=1, deterministic=True, force_row_wise=True
    )
    return fitted(frame, learner)


def test_the_strongest_signal_rises_with_the_risk_and_its_groups_hold_many_rows(frame, trees):
    found = explain_signals(trees, frame, seed=1)
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


def test_density_counts_the_latest_values_and_dots_are_ranks_sorted_by_themselves(frame, trees):
    found = {signal["signal"]: signal for signal in explain_signals(trees, frame, seed=1)}
    density = found["spo2"]["density"]
    assert density["low"] == pytest.approx(96 - 2.33 * 2, abs=0.5)
    assert density["high"] == pytest.approx(96 + 2.33 * 2, abs=0.5)
    assert sum(density["counts"]) == pytest.approx(750 * 0.98, abs=40)
    assert found["time_in_care"]["density"] is None
    for signal in found.values():
        dots = signal["swarm"]
        assert len(dots["contribution"]) == len(dots["rank"]) == 200
        assert dots["contribution"] == sorted(dots["contribution"])
        assert all(rank is None or 0 < rank <= 1 for rank in dots["rank"])
    known = [rank is not None for rank in found["spo2"]["swarm"]["rank"]]
    assert np.mean(known) == pytest.approx(0.75, abs=0.08)


def test_contributions_of_features_add_up_to_those_of_signals(frame, trees):
    rows = frame.head(50)
    by_feature, by_signal = trees.contributions(rows, by="feature"), trees.contributions(rows)
    np.testing.assert_allclose(by_feature.sum(axis=1), trees.margin(rows), atol=1e-6)
    np.testing.assert_allclose(by_feature["heart_rate_last_24h"], by_signal["heart_rate"])
    strongest = explain_features(trees, frame, seed=1)
    assert strongest[0]["feature"] == "heart_rate_last_24h"
    assert [one["mean"] for one in strongest] == sorted((one["mean"] for one in strongest), reverse=True)


def test_parts_of_one_risk_add_up_to_its_log_odds(frame, trees):
    row = frame.iloc[[4]]
    explained = explain_row(trees, row)
    total = explained["baseline"] + sum(part["contribution"] for part in explained["parts"])
    assert 1 / (1 + np.exp(-total)) == pytest.approx(explained["risk"])
    assert explained["risk"] == pytest.approx(trees.risk(row)[0])
    parts = {part["name"]: part["value"] for part in explained["parts"]}
    assert parts["heart_rate"] == pytest.approx(row["heart_rate_last_24h"].item())
    assert parts["spo2"] is None  # every fourth is not known
    assert parts["time_in_care"] is None  # is no single value


def test_shap_draws_our_contributions_and_leaves_pyplot_and_numpy_as_they_were(frame, trees):
    from matplotlib import pyplot as plt

    found, explained = explain_signals(trees, frame, seed=1), explain_row(trees, frame.iloc[[4]])
    state, interactive = np.random.get_state()[1].copy(), plt.isinteractive()  # noqa: NPY002 - shap draws by it
    swarm, waterfall = draw_signal_swarm(found), draw_waterfall(explained)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    assert (plt.get_fignums(), plt.isinteractive()) == ([], interactive)
    axes = swarm.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()][::-1][0] == "Heart rate"
    drawn = sorted(x for dots in axes.collections for x, _ in dots.get_offsets())
    assert drawn == pytest.approx(sorted(x for signal in found for x in signal["swarm"]["contribution"]))
    labels = [text.get_text() for text in waterfall.axes[0].get_yticklabels()]
    assert f"Heart rate, {frame['heart_rate_last_24h'].iloc[4]:.4g} per minute" in labels
    assert waterfall.axes[0].get_title(loc="left").endswith(f"to this one, {100 * explained['risk']:.1f} %")
    svg = render_svg(draw_signal_swarm(found))
    assert svg == render_svg(draw_signal_swarm(found))
    assert "<image" not in svg  # which the page's policy would refuse


def test_a_model_that_cannot_say_has_no_explanations(frame):
    assert explain_signals(fitted(frame.fillna(90), LogisticRegression()), frame.fillna(90), seed=1) == []
    assert explain_features(fitted(frame.fillna(90), LogisticRegression()), frame.fillna(90), seed=1) == []
