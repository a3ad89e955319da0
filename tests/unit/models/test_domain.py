"""The domain of use, compared with slow definitions, figures by hand and patients by hand."""

import numpy as np
import pandas as pd
import pytest
import skops.io

from vigil.features.catalogue import SERVICES
from vigil.models.cohort import patient_of
from vigil.models.domain import CHECKED, SHARE_OUTSIDE, DomainError, DomainOfUse
from vigil.models.typical_values import Combination, patterns, rate_limits, usual_patterns, weighted_quantiles

COUNTED = (*CHECKED, "diastolic_bp", "mean_bp")
# Each vital sign varies about its level. A common part of patient and hour makes them correlate.
LEVEL = np.array([80.0, 16.0, 97.0, 122.0, 36.8])
SPREAD = np.array([14.0, 4.0, 1.5, 18.0, 0.5])
COMMON = np.array([0.6, 0.6, -0.5, -0.5, 0.4])
BY_HAND = {
    "septic shock": ((135, 34, 84, 74, 39.8), ("combination of values",)),
    "opioid overdose": ((52, 5, 82, 115, 36.5), ("combination of values",)),
    "well": ((78, 16, 97, 124, 36.8), ()),
    "temperature unknown": ((78, 16, 97, 124, np.nan), ()),
    "nothing": ((np.nan,) * 5, ("not measured: heart_rate, respiratory_rate, spo2, systolic_bp, body_temperature",)),
    "no pressure": ((78, 16, 97, np.nan, 36.8), ("not measured: systolic_bp",)),
    "no saturation and no pressure": ((78, 16, np.nan, np.nan, 36.8), ("not measured: spo2, systolic_bp",)),
}  # fmt: skip


def ward(patients, seed, age=(20, 90), shift=0.0):
    """Return feature rows of patients observed hourly for hours or days, and their subjects; some lack a temperature."""
    generator = np.random.default_rng(seed)
    stays = []
    for number in range(patients):
        hours = np.arange(generator.integers(3, 80))
        common = generator.normal() + generator.normal(size=(len(hours), 1))
        own = generator.normal(size=(len(hours), 5))
        values = LEVEL + shift * SPREAD + SPREAD * (COMMON * common + np.sqrt(1 - COMMON**2) * own)
        values[generator.random(len(hours)) < 0.1, 4] = np.nan
        values[:, 2] = np.minimum(values[:, 2], 100)
        stay = frame(values.round(1), hours, np.minimum(hours + 1, 24), age=generator.integers(*age))
        stays.append(stay.assign(subject_id=f"p{seed}-{number}"))
    rows = pd.concat(stays, ignore_index=True)
    return rows, rows["subject_id"]


def frame(values, hours, readings, age=60.0):
    """Return feature rows with these latest values and counts, and a column that the domain does not read."""
    values = np.asarray(values, dtype=float)
    known = ~np.isnan(values)
    columns = {f"{vital}_last_24h": values[:, column] for column, vital in enumerate(CHECKED)}
    columns |= {f"{vital}_count_24h": np.where(known[:, column], readings, 0) for column, vital in enumerate(CHECKED)}
    columns |= {f"{vital}_count_24h": np.where(known[:, 3], readings, 0) for vital in ("diastolic_bp", "mean_bp")}
    return pd.DataFrame({"lactate_last_72h": 1.0, "hours_in_unit": hours, **columns, "age": age}).astype("float32")


def one(values=LEVEL, hours=30, readings=24, age=60.0):
    return frame([values], [hours], readings, age)


@pytest.fixture(scope="module")
def training():
    return ward(400, seed=1)


@pytest.fixture(scope="module")
def domain(training):
    return DomainOfUse.fit(*training, seed=0)


def share_by_patient(outside, subject):
    """Return the mean over patients of the share of their hours outside."""
    return np.mean([outside[subject == one].mean() for one in subject.unique()])


def test_domain_puts_at_most_the_stated_share_of_training_patient_hours_outside(training, domain):
    X, subject = training
    outside = domain.outside(X)
    share = share_by_patient(outside, subject)
    assert SHARE_OUTSIDE / 10 < share <= SHARE_OUTSIDE
    summary = domain.summary["outside_training"]
    assert summary["any"] == pytest.approx(share)
    assert summary["patients"] == pytest.approx(len(subject[outside].unique()) / 400)
    words = domain.unusual(X)
    for check in ("age", "hours_of_history", "readings", "not measured", "combination of values"):
        rows = np.array([any(word.startswith(check) for word in row) for row in words])
        assert summary[check] == pytest.approx(share_by_patient(rows, subject))
        assert summary[check] <= SHARE_OUTSIDE / 5 + 1e-12
    strict = DomainOfUse.fit(X, subject, share_outside=0.1, seed=0)
    assert share < share_by_patient(strict.outside(X), subject) <= 0.1


def test_domain_share_unseen_agrees_with_other_patients_of_the_same_kind(domain):
    other, subject = ward(400, seed=2)
    share = share_by_patient(domain.outside(other), subject)
    assert share < 1.5 * SHARE_OUTSIDE
    assert domain.summary["outside_unseen"]["any"] == pytest.approx(share, abs=0.01)


def test_domain_puts_patients_of_another_kind_outside(domain):
    children, _ = ward(50, seed=3, age=(2, 9))
    assert domain.outside(children).all()
    ill, _ = ward(50, seed=4, shift=3.0)
    assert domain.outside(ill).mean() > 0.3


@pytest.mark.parametrize("name", BY_HAND)
def test_unusual_names_what_is_missing_or_unusual_in_vital_signs_by_hand(domain, name):
    values, expected = BY_HAND[name]
    assert domain.unusual(one(values)) == [expected]


def test_unusual_names_age_hours_and_readings(domain):
    assert domain.unusual(one(age=4)) == [("age",)]
    assert domain.unusual(one(age=np.nan)) == [()]
    assert domain.unusual(one(hours=500)) == [("hours_of_history",)]
    too_many = domain.unusual(one(readings=1440))[0]
    assert too_many == tuple(f"readings of {vital}" for vital in domain.counted)
    assert set(domain.counted) == set(COUNTED)
    assert domain.unusual(one(hours=40, readings=1)) == [too_many]  # too few, after so many hours
    assert domain.unusual(one(hours=0, readings=1)) == [()]


def test_unusual_accepts_few_observations_if_the_hours_are_unknown(domain):
    assert domain.unusual(one(hours=np.nan, readings=1)) == [()]
    assert len(domain.unusual(one(hours=np.nan, readings=1440))[0]) == len(COUNTED)


def test_unusual_has_words_for_rows_outside_and_only_for_those(domain):
    X, _ = ward(30, seed=5)
    X.loc[::7, "age"] = 3
    assert domain.outside(X).tolist() == [bool(words) for words in domain.unusual(X)]
    assert domain.unusual(X.iloc[:0]) == []


def test_domain_is_bit_identical_for_a_row_whatever_other_rows_are_judged(domain):
    X, _ = ward(40, seed=6)
    together, order = domain.unusual(X), np.random.default_rng(0).permutation(len(X))
    assert [domain.unusual(X.iloc[[row]])[0] for row in range(len(X))] == together
    assert domain.unusual(X.iloc[order]) == [together[row] for row in order]
    values = X[[f"{vital}_last_24h" for vital in CHECKED]].to_numpy(np.float64)
    code = patterns(values)
    alone = [domain.combination.distance(values[[row]], code[[row]])[0] for row in range(len(X))]
    assert domain.combination.distance(values, code).tolist() == alone


def test_domain_survives_storage(domain):
    stored = skops.io.dumps(domain)
    trusted = ["vigil.models.domain.DomainOfUse", "vigil.models.typical_values.Combination"]
    assert sorted(skops.io.get_untrusted_types(data=stored)) == trusted
    again = skops.io.loads(stored, trusted=trusted)
    X, _ = ward(40, seed=6)
    assert again.unusual(X) == domain.unusual(X)
    assert again.summary == domain.summary


def test_domain_fit_is_deterministic_and_counts_each_patient_once(training, domain):
    X, subject = training
    again = DomainOfUse.fit(X, subject, seed=0)
    assert again.summary == domain.summary
    assert again.combination.furthest.tolist() == domain.combination.furthest.tolist()
    ten_times = (subject == subject.iloc[0]).to_numpy()
    repeated = np.repeat(np.arange(len(X)), np.where(ten_times, 10, 1))
    longer = DomainOfUse.fit(X.iloc[repeated], subject.iloc[repeated], seed=0)
    np.testing.assert_allclose(longer.combination.furthest, domain.combination.furthest, rtol=1e-9)
    np.testing.assert_allclose(longer.low, domain.low)


def test_domain_counts_stays_of_a_patient_as_one():
    X, subject = ward(30, seed=7)
    stays = subject + "~" + (np.arange(len(X)) % 2).astype(str)
    assert {patient_of(stay) for stay in stays} == set(subject)
    assert DomainOfUse.fit(X, stays, seed=0).summary["patients"] == 30


def test_domain_learns_nothing_from_rows_without_a_vital_sign(training, domain):
    X, subject = training
    empty = frame(np.full((len(X), 5), np.nan), 0, 0)
    both = DomainOfUse.fit(pd.concat([X, empty]), pd.concat([subject, subject]), seed=0)
    assert both.summary["outside_training"] == pytest.approx(domain.summary["outside_training"])
    assert both.summary["limits"] == domain.summary["limits"]
    assert domain.outside(empty).all()


def test_domain_error_names_missing_columns_and_cohorts_without_vital_signs(domain):
    with pytest.raises(DomainError, match="2 of the 14 columns .* missing: age, spo2_last_24h; expected rows of the model's"):
        domain.unusual(one().drop(columns=["age", "spo2_last_24h"]))
    with pytest.raises(
        DomainError, match="none of the 2 training rows has a vital sign; expected some with a reading of heart_rate"
    ):
        DomainOfUse.fit(frame(np.full((2, 5), np.nan), 0, 0), pd.Series(["a", "b"]), seed=0)


def test_domain_of_few_features_checks_those():
    X, subject = ward(30, seed=8)
    clock = DomainOfUse.fit(X[["age", "hours_in_unit"]], subject, seed=0)
    assert clock.unusual(one([np.nan] * 5, readings=0)) == [()]
    assert clock.unusual(one([np.nan] * 5, readings=0, age=4)) == [("age",)]
    nothing = DomainOfUse.fit(X[["lactate_last_72h"]], subject, seed=0)
    assert nothing.unusual(one(age=4)) == [()]
    pulse = DomainOfUse.fit(X[["heart_rate_last_24h"]], subject, seed=0)
    assert pulse.unusual(one()) == [()]
    assert pulse.unusual(one([250, *LEVEL[1:]])) == [("combination of values",)]
    alone = DomainOfUse.fit(X.iloc[:5], pd.Series(["a"] * 5), seed=0)
    assert alone.summary["outside_unseen"] is None


@pytest.mark.parametrize(
    ("service", "hours"), [("vital_signs_v2", 24), ("deterioration_v2", 24), ("mortality_v2", 72), ("pressure_v1", 24)]
)
def test_domain_reads_every_service(service, hours):
    X, subject = ward(20, seed=9)
    rows = X.rename(columns=lambda name: name.replace("24h", f"{hours}h")).reindex(columns=list(SERVICES[service]))
    fitted = DomainOfUse.fit(rows, subject, seed=0)
    assert set(fitted.columns) <= set(SERVICES[service])
    assert (set(fitted.windows), fitted.vitals, len(fitted.counted)) == ({float(hours)}, list(CHECKED), 8)
    assert not fitted.outside(rows).all()


def test_combination_is_the_mahalanobis_distance_of_the_known_values():
    """The definition: interpolated quantiles, a matrix inverse for each row, and sums written out."""
    generator = np.random.default_rng(10)
    values = LEVEL + SPREAD * (generator.normal(size=(500, 5)) + generator.normal(size=(500, 1)))
    values[generator.random((500, 5)) < 0.15] = np.nan
    weight = generator.random(500)
    fitted = Combination.fit(values, list(CHECKED), weight, 0.05)
    scores = np.column_stack([slow_scores(values[:, column], weight) for column in range(5)])
    correlation = np.eye(5)
    for i in range(5):
        for j in range(5):
            both = ~np.isnan(scores[:, i]) & ~np.isnan(scores[:, j])
            a, b = (scores[both, k] - np.average(scores[both, k], weights=weight[both]) for k in (i, j))
            w = weight[both]
            correlation[i, j] = (w * a * b).sum() / np.sqrt((w * a * a).sum() * (w * b * b).sum())
    assert np.linalg.eigvalsh(correlation).min() > 0.05  # so it is taken as it is
    inside = np.abs(np.nan_to_num(scores)).max(axis=1) < 3
    for row in np.flatnonzero(inside)[:100]:
        known = np.flatnonzero(~np.isnan(scores[row]))
        inverse = np.linalg.inv(correlation[np.ix_(known, known)])
        expected = sum(
            scores[row, i] * inverse[a, b] * scores[row, j] for a, i in enumerate(known) for b, j in enumerate(known)
        )
        assert fitted.distance(values[[row]], patterns(values[[row]]))[0] == pytest.approx(expected)
    beyond = fitted.is_unusual(values, patterns(values))
    assert 0.03 < weight[beyond].sum() / weight.sum() <= 0.05


def slow_scores(values, weight):
    """Return normal quantiles at the weighted quantiles, with straight lines between; NaN where unknown."""
    normal = [-3.090232, -2.326348, -1.644854, -0.674490, 0.0, 0.674490, 1.644854, 2.326348, 3.090232]
    levels = [0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999]
    known = sorted((v, w) for v, w in zip(values, weight, strict=True) if not np.isnan(v))
    total, edges = sum(w for _, w in known), []
    for level in levels:
        below = 0.0
        for value, w in known:
            below += w
            if below >= level * total:
                edges.append(value)
                break
    return np.where(np.isnan(values), np.nan, np.interp(values, edges, normal))


def test_normal_scores_extend_beyond_training_and_meet_in_the_middle_of_ties():
    saturation = np.repeat([90.0, 94.0, 98.0, 100.0], [10, 190, 400, 400])[:, None]
    fitted = Combination.fit(saturation, ["spo2"], np.ones(1000), 0.05)
    scores = fitted.normal_scores(np.array([[100.0], [98.0], [90.0], [82.0], [np.nan]]))[:, 0]
    # 100 holds the levels .75 to .999, 98 holds .25 and .5, 90 holds .001 and .01: normal quantiles of .8745, .375 and .0055.
    assert scores[:3] == pytest.approx([1.147924, -0.318639, -2.542699], abs=1e-5)
    assert scores[3] == pytest.approx(-2 * 2.542699, abs=1e-5)  # twice as far from the median of 98
    assert np.isnan(scores[4])


def test_normal_scores_count_a_measurement_error_as_one_unit_at_most():
    constant = Combination.fit(np.full((50, 1), 36.8), ["body_temperature"], np.ones(50), 0.05)
    assert constant.normal_scores(np.array([[36.8], [37.1], [36.2]]))[:, 0] == pytest.approx([0, 1, -2])


def test_patterns_number_the_known_values():
    assert patterns(np.array([[1, np.nan, 2], [np.nan, np.nan, np.nan], [1, 1, 1]])).tolist() == [5, 0, 7]


def test_usual_patterns_are_all_but_the_rarest_of_a_share():
    seen = np.repeat([0, 1, 2, 3], [1, 2, 7, 90])
    assert usual_patterns(seen, np.ones(100), 3, 0.02).tolist() == [False, True, True, True] + [False] * 4
    assert usual_patterns(seen, np.ones(100), 2, 0.03).tolist() == [False, False, True, True]
    assert usual_patterns(seen, np.where(seen == 3, 0.0, 1.0), 2, 0.1).tolist() == [False, True, True, False]


def test_weighted_quantiles_are_those_of_repeated_rows():
    generator = np.random.default_rng(11)
    values, times = generator.integers(0, 40, 200).astype(float), generator.integers(0, 5, 200)
    levels = [0.013, 0.25, 0.5, 0.9871]
    expected = np.quantile(np.repeat(values, times), levels, method="inverted_cdf")
    assert weighted_quantiles(values, times.astype(float), levels).tolist() == expected.tolist()
    assert np.isnan(weighted_quantiles(np.array([np.nan]), np.ones(1), levels)).all()


def test_rate_limits_leave_less_than_the_share_beyond_any_of_them():
    generator = np.random.default_rng(12)
    rates = generator.gamma(2, size=(2000, 3)).round(2)
    rates[generator.random(rates.shape) < 0.2] = np.nan
    weight = generator.random(2000)
    low, high = rate_limits(rates, weight, 0.05)
    beyond = ((rates < low) | (rates > high)).any(axis=1)
    assert 0.045 < weight[beyond].sum() / weight.sum() <= 0.05
    for signal in range(3):  # as much beyond each limit as beyond the others
        known = ~np.isnan(rates[:, signal])
        for rows in (rates[:, signal] < low[signal], rates[:, signal] > high[signal]):
            assert weight[rows].sum() / weight[known].sum() == pytest.approx(0.05 / 6, abs=0.004)


def test_unusual_names_vital_signs_as_measured_that_training_never_had_together(training):
    """Of patients whose temperature was never read, one with a temperature is unusual."""
    X, subject = training
    fitted = DomainOfUse.fit(X.assign(body_temperature_last_24h=np.float32(np.nan)), subject, seed=0)
    assert fitted.unusual(one())[0] == ("measured: heart_rate, respiratory_rate, spo2, systolic_bp, body_temperature",)
