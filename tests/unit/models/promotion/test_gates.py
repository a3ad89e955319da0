"""Promotion gates: each with metrics that just pass and just fail; then all on synthetic patients with a known difference."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from tests.support.evaluation_sections import answered, examination
from tests.support.synthetic_risks import held_out as made_up
from tests.support.synthetic_risks import logistic, ward
from vigil.models.alarms.guarantee import Certificate
from vigil.models.alarms.timeline import AlarmTimeline
from vigil.models.behaviour.directions import FEWEST_CASES
from vigil.models.evaluation.comparison import Candidate, EvaluationSet
from vigil.models.evaluation.group_changes import compare_groups
from vigil.models.evaluation.subgroups import assign_groups, measure_subgroups
from vigil.models.promotion.behaviour_gates import check_directions, check_vignettes
from vigil.models.promotion.gates import (
    check_alarm_guarantee,
    check_calibration,
    check_data,
    check_improvement,
    check_subgroups,
    describe_refusal,
    evaluate_gates,
)
from vigil.models.tasks import TASKS

FACTS = {"task": "sepsis", "source": "cinc2019", "simulated": False, "data_digest": "aa"}
CERTIFICATE = Certificate(0.3, 0.5, 0.05, 0.95, 900, 0.4, 0.49, 0.08, 0.06)
HOURLY, ONCE = TASKS["sepsis"], TASKS["mortality"]


def gain(low, auroc=0.01):
    return {
        "auroc": auroc, "auroc_low": low, "auroc_high": 0.03,
        "auprc": 0.02, "auprc_low": -0.01, "auprc_high": 0.05,
    }  # fmt: skip


def calibrated(slope, shift):
    return {
        "calibration_slope": slope, "calibration_slope_low": slope - 0.3, "calibration_slope_high": slope + 0.3,
        "calibration_intercept": shift, "calibration_intercept_low": shift - 0.5, "calibration_intercept_high": shift + 0.5,
    }  # fmt: skip


def group(name="female", *, auroc=(0.0, -0.02, 0.02), recall=(0.0, -0.05, 0.05), enough=True):
    row = {"by": "sex", "group": name, "patients": 90, "events": 30, "enough": enough}
    for metric, values in (("auroc_change", auroc), ("event_recall_change", recall)):
        row |= dict(zip((metric, f"{metric}_low", f"{metric}_high"), values, strict=True)) if enough else {}
    return row


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({}, "data digest aa, task sepsis, source cinc2019, simulated False"),
        ({"data_digest": "bb"}, "data digest bb"),
        ({"data_digest": None}, "data digest unknown"),
        ({"task": "aki"}, "task aki"),
        ({"source": "simulated", "simulated": True}, "source simulated, simulated True"),
    ],
)
def test_data_gate_requires_the_data_and_facts_of_the_champion(changed, found):
    gate = check_data(FACTS | changed, FACTS | {"data_digest": "of another day"}, "aa")
    assert gate.passed is (not changed)
    assert gate.found == found
    assert check_data(FACTS, FACTS, "ab").passed is False


def test_improvement_gate_requires_confidence():
    assert check_improvement(gain(0.0001)).passed
    assert not check_improvement(gain(0.0)).passed
    assert not check_improvement(gain(-0.0001)).passed
    assert not check_improvement(gain(float("nan"))).passed
    assert check_improvement(gain(0.0001)).found == (
        "AUROC +0.0100 (+0.0001 to +0.0300) and AUPRC +0.0200 (-0.0100 to +0.0500) above those of the champion (95 % CI)"
    )


@pytest.mark.parametrize(
    ("slope", "shift", "passes"),
    [
        (1, 0, True), (0.8, -0.2, True), (1.25, 0.2, True),
        (0.501, 0, True), (1.549, 0, True), (1, 0.699, True), (1, -0.699, True),
        (0.499, 0, False), (1.551, 0, False), (1, 0.701, False), (1, -0.701, False),
        (float("nan"), 0, False), (1, float("nan"), False),
    ],
)  # fmt: skip
def test_calibration_gate_refuses_an_interval_outside_the_limits(slope, shift, passes):
    gate = check_calibration(calibrated(slope, shift))
    assert gate.passed is passes
    assert set(gate.figures) == set(calibrated(1, 0))


def test_calibration_gate_states_symmetric_limits():
    assert "a slope from 0.8 to 1.25 and an intercept from -0.2 to 0.2" in check_calibration(calibrated(1, 0)).expected


@pytest.mark.parametrize(
    ("row", "harm"),
    [
        (group(), ""),
        (group(auroc=(-0.05, -0.15, 0.0)), ""),
        (group(auroc=(-0.051, -0.15, 0.02)), ""),
        (group(auroc=(-0.01, -0.02, -0.001)), "AUROC -0.010 (-0.020 to -0.001)"),
        (group(recall=(-0.3, -0.5, -0.1)), ""),
        (group(recall=(-0.3, -0.5, -0.101)), "event recall -30 % (-50 to -10)"),
        (group(recall=(float("nan"),) * 3), ""),
    ],
)
def test_subgroup_gate_refuses_a_harmed_group(row, harm):
    gate = check_subgroups([group("male"), row])
    assert gate.passed is (not harm)
    assert gate.found.startswith(f"sex female: {harm}" if harm else "of 2 groups large enough to judge none harmed")
    assert gate.figures["harmed"] == (["sex female"] if harm else [])


def test_subgroup_gate_names_small_groups_and_does_not_judge_them():
    gate = check_subgroups([group(), group("unknown", enough=False)])
    assert gate.passed
    assert gate.figures["too_small"] == ["sex unknown"]
    assert gate.found == "of 1 groups large enough to judge none harmed, 1 too small to judge"


def test_guarantee_gate_requires_a_guarantee_that_holds():
    outcome = {"alarms_per_patient_day": 0.44, "precision": 0.06, "held": False, "broken": False}
    assert check_alarm_guarantee(CERTIFICATE, outcome, once_per_stay=False).passed
    broken = check_alarm_guarantee(CERTIFICATE, outcome | {"broken": True}, once_per_stay=False)
    assert not broken.passed
    assert broken.found == "0.440 alarms per patient-day at a precision of 6.00 %"
    assert "at most 0.5 alarms per patient-day and a precision of at least 5.00 %" in broken.expected
    none = check_alarm_guarantee(None, None, once_per_stay=False)
    assert not none.passed
    assert "no guarantee" in none.found


def test_guarantee_gate_requires_none_for_one_prediction_per_stay():
    gate = check_alarm_guarantee(None, None, once_per_stay=True)
    assert gate.passed
    assert gate.found.startswith("not required")


def test_guarantee_gate_states_when_the_safety_net_alone_spends_the_budget():
    spent = "the safety net alone sounds 0.83 of 0.5 alarms per patient-day, so none are left for the model"
    assert check_alarm_guarantee(None, None, once_per_stay=False, reason=spent).found == f"no guarantee: {spent}"
    outcome = {"alarms_per_patient_day": 0.9, "precision": 0.06, "broken": True, "net_alarms_per_patient_day": 0.83}
    assert check_alarm_guarantee(CERTIFICATE, outcome, once_per_stay=False).found.endswith(
        "; the safety net alone sounds 0.83 of 0.5"
    )
    fewer = outcome | {"net_alarms_per_patient_day": 0.49}
    assert "safety net" not in check_alarm_guarantee(CERTIFICATE, fewer, once_per_stay=False).found


def test_vignette_gate_passes_when_all_answers_are_as_expected():
    gate = check_vignettes(answered({}))
    assert gate.passed
    assert gate.found == (
        "of 94 answers none too low or without a required alarm or finding, and of the 35 with a highest right band none "
        "above it"
    )
    assert "at most 25 % of the answers with a highest right band above it" in gate.expected


def test_vignette_gate_fails_for_one_answer_that_is_too_low_and_names_it():
    gate = check_vignettes(answered({("septic_shock", "none"): ("band_too_low", "band low, no alarm by NEWS2")}))
    assert not gate.passed
    assert gate.found.startswith(
        "septic_shock (none): band low, no alarm by NEWS2, expected band at least high, an alarm by NEWS2; of 94 answers 1 too "
    )


def test_vignette_gate_names_a_few_faults_and_counts_the_others():
    ways = ("none", "short_constant", "short_leading", "long_spaced", "long_hourly")
    gate = check_vignettes(answered({("opioid_overdose", way): ("alarm", "band high, no alarm by NEWS2") for way in ways}))
    assert gate.found.count("opioid_overdose (") == 3
    assert "; 2 more; of 94 answers 5 too low or without" in gate.found


def test_vignette_gate_accepts_an_unnecessary_review():
    gate = check_vignettes(answered({("athlete", "none"): ("band_too_high", "band high")}))
    assert gate.passed
    assert "none too low" in gate.found
    assert gate.found.endswith("1 above it")


def test_direction_gate_passes_and_states_its_evidence():
    gate = check_directions(examination())
    assert gate.passed
    assert gate.found == (
        "worsening: 2 % of 400 changes lower the risk; history, NEWS2 all: 2 % of 200 sets beyond the factor; removal of "
        "held-out patients: 1 % of 120 change high to low; removal of vignettes: 1 % of 120 change high to low"
    )
    assert set(gate.figures) == {"worsening", "history", "removal", "removal_of_vignettes"}


def test_direction_gate_fails_for_one_signal_and_names_it():
    row = {"signal": "spo2", "length": "all", "cases": 60, "violations": 12, "share": 0.2, "fall_median": 0.2, "fall_p95": 0.9}
    worse = examination()["worsening"]
    gate = check_directions(examination(worsening={**worse, "cases": [*worse["cases"], row], "broken": [row], "passed": False}))
    assert not gate.passed
    assert gate.found.startswith(
        "worsening of spo2, history all: 20 % of 60 changes lower the risk, 95th percentile of falls 0.90; history"
    )


@pytest.mark.parametrize("part", ["history", "removal", "removal_of_vignettes"])
def test_direction_gate_fails_for_each_other_test(part):
    figures = examination()[part] | {"passed": False}
    assert not check_directions(examination(**{part: figures})).passed


def test_direction_gate_with_few_cases_passes_and_states_it():
    few = {"cases": [], "judged": 0, "broken": [], "passed": True}
    none = {"high": 0, "cases": [], "removals": FEWEST_CASES - 1, "low": 9, "share": 0.5, "judged": False, "passed": True}
    gate = check_directions(examination(worsening=few, history=few, removal=none, removal_of_vignettes=none))
    assert gate.passed
    assert gate.found.count("too few to judge") == 4


def test_refusal_describes_the_first_gate_and_names_the_others():
    shut = [check_calibration(calibrated(2, 0)), check_improvement(gain(-1.0))]
    assert describe_refusal(shut) == (
        f"gate calibration: found {shut[0].found}; expected {shut[0].expected}; what to do: {shut[0].remedy} (also refused by: "
        "better)"
    )
    assert "also" not in describe_refusal(shut[:1])


def both(challenger_noise, champion_noise, *, patients=800, seed=1):
    """Build a ward under two models, each with some noise on the true log-odds; alarms in a tenth of the hours."""
    rows, stays, margin = ward(patients=patients, seed=seed)
    generator = np.random.default_rng(seed)
    truth = truth_of(rows, margin)
    candidates = {}
    for name, noise in (("challenger", challenger_noise), ("champion", champion_noise)):
        risk = logistic(truth + noise * generator.normal(size=len(truth)))
        candidates[name] = Candidate(risk, float(np.quantile(risk, 0.9)))
    return EvaluationSet(rows, candidates, None, assign_groups(stays), seed=3)


def truth_of(rows, margin):
    """Return the true log-odds: those of the label given the margin, fitted on the same rows."""
    known = rows["label"].notna().to_numpy()
    fitted = LogisticRegression(C=np.inf).fit(margin[known, None], rows["label"][known])
    return margin * fitted.coef_[0, 0] + fitted.intercept_[0]


def certified(held_out, *, max_alarms):
    """Give the challenger an alarm guarantee that it meets, or just fails."""
    challenger = held_out.candidates["challenger"]
    guarantee = replace(CERTIFICATE, threshold=challenger.threshold, max_alarms_per_patient_day=max_alarms)
    return replace(held_out, candidates=dict(held_out.candidates, challenger=replace(challenger, certificate=guarantee)))


def alarm_rate(held_out):
    challenger = held_out.candidates["challenger"]
    return (
        AlarmTimeline.from_frame(held_out.frame("challenger")).count(challenger.threshold).figures()["alarms_per_patient_day"]
    )


def passed(examined):
    return {gate.name: gate.passed for gate in examined.gates}


ALL = dict.fromkeys(("data", "better", "calibration", "subgroups", "promise", "vignettes", "directions"), True)


@pytest.fixture(scope="module")
def improved():
    return both(0.0, 1.5)


def test_gates_pass_a_better_challenger(improved):
    found = evaluate_gates(
        certified(improved, max_alarms=alarm_rate(improved) + 0.001), (FACTS, FACTS), "aa", examination(), HOURLY
    )
    assert passed(found) == ALL
    assert found.held_out["patients"] == 800
    assert set(found.metrics) == {"challenger", "champion"}
    assert found.left_out == ()


def test_gates_that_compare_are_left_out_without_a_champion(improved):
    alone = certified(improved, max_alarms=9)
    alone = replace(alone, candidates={"challenger": alone.candidates["challenger"]})
    found = evaluate_gates(
        alone, (FACTS, {name: FACTS[name] for name in ("task", "source", "simulated")}), "aa", examination(), HOURLY
    )
    assert passed(found) == {name: True for name in ALL if name not in {"better", "subgroups"}}
    assert found.left_out == ("better", "subgroups")
    assert set(found.metrics) == {"challenger"}


def test_gates_fail_for_behaviour_alone(improved):
    wrong = examination(vignettes=answered({("septic_shock", "none"): ("band_too_low", "band low")}))
    found = evaluate_gates(certified(improved, max_alarms=9), (FACTS, FACTS), "aa", wrong, HOURLY)
    assert passed(found) == ALL | {"vignettes": False}


@pytest.mark.parametrize(("share", "holds"), [(0.99, True), (0.5, False)])
def test_gates_fail_the_guarantee_alone_when_it_is_broken_with_confidence(improved, share, holds):
    found = evaluate_gates(
        certified(improved, max_alarms=alarm_rate(improved) * share), (FACTS, FACTS), "aa", examination(), HOURLY
    )
    assert passed(found) == ALL | {"promise": holds}


def test_gates_fail_a_worse_challenger():
    worse = both(1.5, 0.0)
    found = passed(evaluate_gates(certified(worse, max_alarms=9), (FACTS, FACTS), "aa", examination(), HOURLY))
    assert found == ALL | {"better": False, "calibration": False, "subgroups": False}


def test_gates_refuse_the_same_model_as_no_improvement(improved):
    same = dict.fromkeys(("challenger", "champion"), improved.candidates["challenger"])
    found = evaluate_gates(
        certified(replace(improved, candidates=same), max_alarms=9), (FACTS, FACTS), "aa", examination(), HOURLY
    )
    assert passed(found) == ALL | {"better": False}
    gate = found.gates[1]
    assert (gate.figures["auroc"], gate.figures["auroc_low"], gate.figures["auroc_high"]) == (0, 0, 0)


def test_subgroup_gate_finds_a_model_that_fails_one_group(improved):
    """The challenger is better for all patients together, and has no information about women."""
    challenger = improved.candidates["challenger"]
    women = (improved.groups["sex"] == "female").to_numpy()
    blind = np.where(women, np.median(challenger.risk), challenger.risk)
    candidates = dict(improved.candidates, challenger=replace(challenger, risk=blind))
    gate = check_subgroups(compare_groups(replace(improved, candidates=candidates), alarms=True))
    assert not gate.passed
    assert "sex female" in gate.figures["harmed"]
    assert "sex male" not in gate.figures["harmed"]
    assert "sex female: AUROC -" in gate.found


def test_group_changes_use_the_groups_of_the_report(improved):
    fewer = both(0.0, 1.5, patients=150)
    for held_out in (improved, fewer):
        ours = pd.DataFrame(compare_groups(held_out, alarms=True)).set_index(["by", "group"])
        report = measure_subgroups(
            held_out.frame("challenger"), held_out.groups, held_out.candidates["challenger"].threshold, seed=3
        ).set_index(["by", "group"])
        assert ours.index.equals(report.index)
        assert ours["enough"].any()
        columns = ["patients", "events", "enough", "auroc", "event_recall"]
        pd.testing.assert_frame_equal(ours[columns], report[columns], check_dtype=False)
    assert not ours["enough"].all()


def test_group_with_few_patients_without_an_event_is_too_small(improved):
    """AUROC needs patients with an event and patients without."""
    rows = improved.rows
    ill = rows.groupby("subject_id")["label"].transform("max") == 1
    well = rows["subject_id"].isin(rows.loc[~ill, "subject_id"].unique()[:19])
    by = pd.DataFrame({"ward": pd.Categorical(np.where(ill | well, "hospice", "other"), ["hospice", "other"])})
    _, hospice, other = compare_groups(replace(improved, groups=by), alarms=False)
    assert hospice["events"] > 100
    assert (hospice["patients"] - hospice["events"], hospice["enough"]) == (19, False)
    assert (other["events"], other["enough"]) == (0, False)


def test_group_changes_are_paired(improved):
    row = compare_groups(improved, alarms=True)[0]
    for metric in ("auroc", "event_recall"):
        change = row[f"{metric}_change"]
        assert change == pytest.approx(row[metric] - row[f"{metric}_champion"])
        assert row[f"{metric}_change_low"] < change < row[f"{metric}_change_high"]


def test_gates_of_one_prediction_per_stay_use_no_alarms():
    once = made_up(models=("challenger", "champion"), once=True, patients=400)
    found = evaluate_gates(once, (FACTS, FACTS), "aa", examination(), ONCE)
    assert [gate.name for gate in found.gates if gate.passed][-3:] == ["promise", "vignettes", "directions"]
    assert not any(name.startswith("event_recall") for row in found.gates[3].figures["groups"] for name in row)
