"""Label-free estimates: by hand, by drawing labels, and their limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from vigil.features.errors import VigilError
from vigil.models.evaluation.label_free import METRICS, EstimateError, Reliability, estimate_performance
from vigil.models.statistics.bootstrap import RESAMPLES, Resamples, percentile_interval

SEED = 3


def by_pairs(risk):
    """Return the expected AUROC over pairs of different rows."""
    pair = risk[:, None] * (1 - risk[None, :])
    np.fill_diagonal(pair, 0)
    wins = (risk[:, None] > risk[None, :]) + 0.5 * (risk[:, None] == risk[None, :])
    return (pair * wins).sum() / pair.sum()


def ward(patients=300, hours=20, seed=0):
    """Return hourly risks of patients, some of them sicker, and their subjects."""
    generator = np.random.default_rng(seed)
    margin = generator.normal(-2.5, 1, patients).repeat(hours) + generator.normal(0, 0.7, patients * hours)
    return 1 / (1 + np.exp(-margin)), np.array([f"canary-{n:05}" for n in range(patients)]).repeat(hours)


def test_estimate_of_four_rows_by_hand():
    result = estimate_performance([0.8, 0.4, 0.4, 0.1], ["a", "b", "c", "d"], 0.4, seed=SEED)
    # Pairs are event x no event. 0.8 is above all. Each 0.4 ties with the other and is above 0.1.
    wins = 0.8 * (0.6 + 0.6 + 0.9) + 2 * 0.4 * 0.6 / 2 + 2 * 0.4 * 0.9
    losses = 2 * 0.4 * 0.6 / 2 + 2 * 0.4 * 0.2 + 0.1 * (0.2 + 0.6 + 0.6)
    assert result["auroc"] == pytest.approx(wins / (wins + losses))
    assert result["brier"] == pytest.approx((0.16 + 2 * 0.24 + 0.09) / 4)
    assert result["prevalence"] == pytest.approx(1.7 / 4)
    assert result["precision"] == pytest.approx(1.6 / 3)  # a risk at the threshold is an alert
    assert result["recall"] == pytest.approx(1.6 / 1.7)
    assert result["alerts"] == pytest.approx(3 / 4)
    # Precision at an event: 1 at the highest risk, which is one if it is an event; then among three, then four.
    expected = 0.8 * 1 + ((0.4 + 0.4) * 1.6 + 2 * 0.24) / 3 + (0.1 * 1.7 + 0.09) / 4
    assert result["auprc"] == pytest.approx(expected / 1.7)


@given(st.lists(st.integers(0, 20), min_size=2, max_size=30))
def test_estimate_of_auroc_is_the_expectation_over_all_pairs(twentieths):
    risk = np.array(twentieths) / 20  # with ties, zeros and ones
    result = estimate_performance(risk, np.arange(len(risk)), 0.5, seed=SEED)["auroc"]
    if set(twentieths) in ({0}, {20}):
        assert np.isnan(result)  # no pair has one event
    else:
        assert result == pytest.approx(by_pairs(risk))


def test_estimate_is_the_mean_over_drawn_labels():
    risk, subject = ward()
    result = estimate_performance(risk, subject, 0.2, seed=SEED)
    generator, above = np.random.default_rng(1), risk >= 0.2
    drawn = []
    for label in generator.random((200, len(risk))) < risk:
        figures = (roc_auc_score(label, risk), average_precision_score(label, risk), brier_score_loss(label, risk))
        drawn.append([*figures, label.mean(), label[above].mean(), label[above].sum() / label.sum(), above.mean()])
    mean, error = np.mean(drawn, axis=0), np.std(drawn, axis=0) / np.sqrt(len(drawn))
    for name, expected, scatter in zip(METRICS, mean, error, strict=True):
        assert result[name] == pytest.approx(expected, abs=4 * scatter + 1e-4), (
            name
        )  # a ratio of means is not quite a mean of ratios


def test_estimate_draws_equal_those_of_copied_patients():
    risk, subject = ward(patients=12, hours=6)
    risk = np.round(risk, 2)
    resamples = Resamples.draw(subject, SEED)
    auroc, precision = [], []
    for times in resamples.times:
        rows = np.repeat(np.arange(len(risk)), times[resamples.patient])
        copied = risk[rows]
        pair = copied[:, None] * (1 - copied[None, :]) * (rows[:, None] != rows[None, :])  # a copy has the label of its row
        wins = (copied[:, None] > copied[None, :]) + 0.5 * (copied[:, None] == copied[None, :])
        auroc.append((pair * wins).sum() / pair.sum())
        precision.append(copied[copied >= 0.1].mean())
    assert len(auroc) == RESAMPLES
    result = estimate_performance(risk, subject, 0.1, seed=SEED)
    assert (result["auroc_low"], result["auroc_high"]) == pytest.approx(percentile_interval(np.array(auroc)))
    assert (result["precision_low"], result["precision_high"]) == pytest.approx(percentile_interval(np.array(precision)))


def test_estimate_intervals_cover_the_value_of_many_patients():
    """At 95 %, about 38 of 40 wards cover the truth; 33 or fewer have a probability below 0.01."""
    truth = estimate_performance(*ward(patients=20_000, seed=99), 0.2, seed=SEED)
    wards = [estimate_performance(*ward(patients=150, seed=seed), 0.2, seed=seed) for seed in range(40)]
    for name in METRICS:
        assert sum(result[f"{name}_low"] <= truth[name] <= result[f"{name}_high"] for result in wards) > 33, name


def test_estimate_ignores_row_order_and_repeats_with_the_seed():
    risk, subject = ward(patients=30)
    first = estimate_performance(risk, subject, 0.2, seed=SEED)
    assert first == estimate_performance(risk, subject, 0.2, seed=SEED)
    order = np.random.default_rng(0).permutation(len(risk))
    mixed = estimate_performance(risk[order], subject[order], 0.2, seed=SEED)
    assert {name: mixed[name] for name in METRICS} == pytest.approx({name: first[name] for name in METRICS})


def test_estimate_draws_the_stays_of_a_patient_together():
    risk = np.array([0.1, 0.2, 0.3, 0.4])
    apart = estimate_performance(risk, ["a", "b", "c", "d"], 0.25, seed=SEED)
    together = estimate_performance(risk, ["a~1", "a~2", "b~1", "b~2"], 0.25, seed=SEED)
    assert together["alerts"] == apart["alerts"]
    assert (together["alerts_low"], together["alerts_high"]) == (0, 1)


def test_estimate_is_nan_where_it_is_not_defined():
    certain = estimate_performance([0.0, 0.0, 0.0], ["a", "b", "c"], 0.5, seed=SEED)
    assert all(np.isnan(certain[name]) for name in ("auroc", "auprc", "precision", "recall"))
    assert (certain["prevalence"], certain["alerts"], certain["brier"]) == (0, 0, 0)
    perfect = estimate_performance([0.0, 1.0, 0.0, 1.0], ["a", "b", "c", "d"], 0.5, seed=SEED)
    assert [perfect[name] for name in ("auroc", "auprc", "precision", "recall")] == [1, 1, 1, 1]


def labelled_ward(patients, seed, wrong=1.0):
    """Return risks, labels drawn from log-odds that are a multiple of those of the risks, and subjects."""
    risk, subject = ward(patients, seed=seed)
    chance = 1 / (1 + (risk / (1 - risk)) ** -wrong)
    return risk, (np.random.default_rng(seed).random(len(risk)) < chance).astype(float), subject


def test_reliability_corrects_an_overconfident_model():
    risk, label, subject = labelled_ward(3000, seed=1, wrong=0.5)
    new_risk, new_label, new_subject = labelled_ward(3000, seed=2, wrong=0.5)
    result = [estimate_performance(new_risk, new_subject, 0.2, seed=SEED)]
    result.append(
        estimate_performance(
            new_risk, new_subject, 0.2, seed=SEED, reliability=Reliability.fit(risk, label, subject, seed=SEED)
        )
    )
    above = new_risk >= 0.2
    measured = {
        "auroc": roc_auc_score(new_label, new_risk),
        "auprc": average_precision_score(new_label, new_risk),
        "brier": brier_score_loss(new_label, new_risk),
        "prevalence": new_label.mean(),
        "precision": new_label[above].mean(),
        "recall": new_label[above].sum() / new_label.sum(),
    }
    for name, value in measured.items():
        assert abs(result[1][name] - value) < 0.015, name
        assert abs(result[0][name] - value) > 2 * abs(result[1][name] - value), name


def test_reliability_is_the_isotonic_fit_of_few_risks():
    risk, label = np.array([0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.3]), np.array([0, 0, 1, 1, 0, 1, 1])
    fitted = Reliability.fit(risk, label, np.arange(7), seed=SEED)
    assert fitted.highest.tolist() == [0.1, 0.2]
    assert fitted.chance == pytest.approx([0, 4 / 5, 4 / 5])  # 1 then 2/3 would fall: pooled
    assert fitted.draws.shape == (RESAMPLES, 3)
    assert ((np.diff(fitted.draws) >= -1e-12) & (fitted.draws[:, 1:] <= 1)).all()
    result = estimate_performance([0.05, 0.15, 0.9], ["a", "b", "c"], 0.15, seed=SEED, reliability=fitted)
    assert result["prevalence"] == pytest.approx((0 + 4 / 5 + 4 / 5) / 3)
    assert result["brier"] == pytest.approx((0.05**2 + (0.8 * 0.85**2 + 0.2 * 0.15**2) + (0.8 * 0.1**2 + 0.2 * 0.9**2)) / 3)


def test_reliability_from_fewer_patients_gives_wider_intervals():
    risk, subject = ward(seed=5)
    widths = []
    for patients in (60, 3000):
        reliability = Reliability.fit(*labelled_ward(patients, seed=4), seed=SEED)
        result = estimate_performance(risk, subject, 0.2, seed=SEED, reliability=reliability)
        widths.append(result["auroc_high"] - result["auroc_low"])
    assert widths[0] > 1.5 * widths[1]


@pytest.mark.parametrize("label", [[0, 0, 0], [1, 1, 1], [0, 1], [0, 1, np.nan], [0, 1, 0.5]])
def test_reliability_requires_labels_of_both_classes(label):
    with pytest.raises(EstimateError, match="expected 0 or 1") as raised:
        Reliability.fit([0.1, 0.2, 0.3], label, ["canary-1", "canary-2", "canary-3"], seed=SEED)
    assert "canary" not in str(raised.value)


def test_estimate_does_not_respond_to_concept_shift():
    """With the outcomes of other patients the risks are the same, and so is the estimate."""
    risk, label, subject = labelled_ward(1000, seed=6)
    expected = estimate_performance(risk, subject, 0.2, seed=SEED)["auroc"]
    assert roc_auc_score(label, risk) == pytest.approx(expected, abs=0.02)
    assert roc_auc_score(np.roll(label, 5000), risk) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("probability", "subjects", "message"),
    [
        ([], [], "no predictions"),
        ([0.1, 0.2], ["canary-1~1", "canary-1~2"], "one patient only"),
        ([0.1, np.nan, 0.3], ["canary-1", "canary-2", "canary-3"], "1 of 3 lie outside 0 to 1 or are missing"),
        ([0.1, 1.01, -0.2], ["canary-1", "canary-2", "canary-3"], "2 of 3 lie outside"),
        ([0.1, np.inf], ["canary-1", "canary-2"], "1 of 2 lie outside"),
        ([0.1, 0.2, 0.3], ["canary-1", "canary-2"], "expected one subject for each risk"),
    ],
)
def test_estimate_errors_state_what_was_expected_without_identifiers(probability, subjects, message):
    with pytest.raises(VigilError, match=message) as raised:
        estimate_performance(probability, subjects, 0.5, seed=SEED)
    assert "expected" in str(raised.value)
    assert "canary" not in str(raised.value)
