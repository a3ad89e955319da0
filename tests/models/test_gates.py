"""The gates, each by figures that just pass and just fail; then all of them on made-up patients of a known difference."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from models.alarms.guarantee import Certificate
from models.alarms.timeline import Watch
from models.behaviour.directions import FEWEST_CASES
from models.evaluation.comparison import Candidate, HeldOut
from models.evaluation.group_changes import by_group
from models.evaluation.subgroups import groups
from models.evaluation.subgroups import subgroups as judged_subgroups
from models.promotion.gates import better, calibration, data, directions, examine, promise, refusal, subgroups, vignettes
from models.tasks import TASKS
from tests.models.behaviour.examined import answered, examination
from tests.models.evaluation.made_up import held_out as made_up
from tests.models.evaluation.made_up import logistic, ward

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
def test_data_are_pinned_and_those_of_the_champion(changed, found):
    gate = data(FACTS | changed, FACTS | {"data_digest": "of another day"}, "aa")
    assert gate.passed is (not changed)
    assert gate.found == found
    assert data(FACTS, FACTS, "ab").passed is False


def test_better_means_with_confidence():
    assert better(gain(0.0001)).passed
    assert not better(gain(0.0)).passed
    assert not better(gain(-0.0001)).passed
    assert not better(gain(float("nan"))).passed
    assert better(gain(0.0001)).found == (
        "AUROC +0.0100 (+0.0001 to +0.0300) and AUPRC +0.0200 (-0.0100 to +0.0500) beyond the champion's (95 % CI)"
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
def test_calibration_is_refused_where_its_interval_lies_beyond(slope, shift, passes):
    gate = calibration(calibrated(slope, shift))
    assert gate.passed is passes
    assert set(gate.figures) == set(calibrated(1, 0))


def test_the_limits_of_the_slope_are_as_far_from_one_either_way():
    assert "a slope from 0.8 to 1.25 and an intercept from -0.2 to 0.2" in calibration(calibrated(1, 0)).expected


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
def test_no_group_is_harmed(row, harm):
    gate = subgroups([group("male"), row])
    assert gate.passed is (not harm)
    assert gate.found.startswith(f"sex female: {harm}" if harm else "of 2 groups large enough to judge none harmed")
    assert gate.figures["harmed"] == (["sex female"] if harm else [])


def test_groups_that_are_too_small_are_named_and_not_judged():
    gate = subgroups([group(), group("unknown", enough=False)])
    assert gate.passed
    assert gate.figures["too_small"] == ["sex unknown"]
    assert gate.found == "of 1 groups large enough to judge none harmed, 1 too small to judge"


def test_a_promise_has_to_be_there_and_to_hold():
    kept = {"alarms_per_patient_day": 0.44, "precision": 0.06, "held": False, "broken": False}
    assert promise(CERTIFICATE, kept, once=False).passed
    broken = promise(CERTIFICATE, kept | {"broken": True}, once=False)
    assert not broken.passed
    assert broken.found == "0.440 alarms per patient-day at a precision of 6.00 %"
    assert "at most 0.5 alarms per patient-day and a precision of at least 5.00 %" in broken.expected
    none = promise(None, None, once=False)
    assert not none.passed
    assert "no promise" in none.found


def test_no_promise_is_asked_of_a_question_asked_once():
    gate = promise(None, None, once=True)
    assert gate.passed
    assert gate.found.startswith("not asked")


def test_promise_says_when_the_safety_net_alone_spends_the_budget():
    spent = "the safety net alone sounds 0.83 of 0.5 alarms per patient-day, so none are left for the model"
    assert promise(None, None, once=False, reason=spent).found == f"no promise: {spent}"
    kept = {"alarms_per_patient_day": 0.9, "precision": 0.06, "broken": True, "net_alarms_per_patient_day": 0.83}
    assert promise(CERTIFICATE, kept, once=False).found.endswith("; the safety net alone sounds 0.83 of 0.5")
    fewer = kept | {"net_alarms_per_patient_day": 0.49}
    assert "safety net" not in promise(CERTIFICATE, fewer, once=False).found


def test_vignettes_pass_where_all_are_as_expected():
    gate = vignettes(answered({}))
    assert gate.passed
    assert gate.found == (
        "of 94 answers none too low or without a due alarm or finding, and of the 35 with a highest right band none above it"
    )
    assert "at most 25 % of the answers with a highest right band above it" in gate.expected


def test_vignettes_fail_for_one_answer_that_is_too_low_and_name_it():
    gate = vignettes(answered({("septic_shock", "none"): ("band_too_low", "band low, no alarm by NEWS2")}))
    assert not gate.passed
    assert gate.found.startswith(
        "septic_shock (none): band low, no alarm by NEWS2, expected band at least high, an alarm by NEWS2; of 94 answers 1 too "
    )


def test_vignettes_name_a_few_faults_and_count_the_others():
    ways = ("none", "short_constant", "short_leading", "long_spaced", "long_hourly")
    gate = vignettes(answered({("opioid_overdose", way): ("alarm", "band high, no alarm by NEWS2") for way in ways}))
    assert gate.found.count("opioid_overdose (") == 3
    assert "; 2 more; of 94 answers 5 too low or without" in gate.found


def test_vignettes_forgive_a_review_too_many():
    gate = vignettes(answered({("athlete", "none"): ("band_too_high", "band high")}))
    assert gate.passed
    assert "none too low" in gate.found
    assert gate.found.endswith("1 above it")


def test_directions_pass_and_say_what_was_found():
    gate = directions(examination())
    assert gate.passed
    assert gate.found == (
        "worsening: 2 % of 400 changes lower the risk; history, NEWS2 all: 2 % of 200 sets beyond the factor; removal of "
        "held-out patients: 1 % of 120 turn high into low; removal of vignettes: 1 % of 120 turn high into low"
    )
    assert set(gate.figures) == {"worsening", "history", "removal", "removal_of_vignettes"}


def test_directions_fail_for_one_signal_and_name_it():
    row = {"signal": "spo2", "length": "all", "cases": 60, "violations": 12, "share": 0.2, "fall_median": 0.2, "fall_p95": 0.9}
    worse = examination()["worsening"]
    gate = directions(examination(worsening={**worse, "cases": [*worse["cases"], row], "broken": [row], "passed": False}))
    assert not gate.passed
    assert gate.found.startswith(
        "worsening of spo2, history all: 20 % of 60 lower the risk, 95th percentile of falls 0.90; history"
    )


@pytest.mark.parametrize("part", ["history", "removal", "removal_of_vignettes"])
def test_directions_fail_for_each_other_part(part):
    figures = examination()[part] | {"passed": False}
    assert not directions(examination(**{part: figures})).passed


def test_directions_with_few_cases_pass_and_say_so():
    few = {"cases": [], "judged": 0, "broken": [], "passed": True}
    none = {"high": 0, "cases": [], "removals": FEWEST_CASES - 1, "low": 9, "share": 0.5, "judged": False, "passed": True}
    gate = directions(examination(worsening=few, history=few, removal=none, removal_of_vignettes=none))
    assert gate.passed
    assert gate.found.count("too few to judge") == 4


def test_refusal_is_one_line_of_the_first_gate_that_names_the_others():
    shut = [calibration(calibrated(2, 0)), better(gain(-1.0))]
    assert refusal(shut) == (
        f"gate calibration: found {shut[0].found}; expected {shut[0].expected}; what to do: {shut[0].remedy} (also refused by: "
        "better)"
    )
    assert "also" not in refusal(shut[:1])


def both(challenger_noise, champion_noise, *, patients=800, seed=1):
    """A ward under two models, each the truth blurred by so much noise; alarms at a tenth of the hours."""
    rows, stays, margin = ward(patients=patients, seed=seed)
    generator = np.random.default_rng(seed)
    truth = truth_of(rows, margin)
    candidates = {}
    for name, noise in (("challenger", challenger_noise), ("champion", champion_noise)):
        risk = logistic(truth + noise * generator.normal(size=len(truth)))
        candidates[name] = Candidate(risk, float(np.quantile(risk, 0.9)))
    return HeldOut(rows, candidates, None, groups(stays), seed=3)


def truth_of(rows, margin):
    """Log-odds that are right: those of the label given the margin, fitted on these very rows."""
    known = rows["label"].notna().to_numpy()
    fitted = LogisticRegression(C=np.inf).fit(margin[known, None], rows["label"][known])
    return margin * fitted.coef_[0, 0] + fitted.intercept_[0]


def certified(held_out, *, max_alarms):
    """With a promise that the challenger keeps, or just not."""
    challenger = held_out.candidates["challenger"]
    promised = replace(CERTIFICATE, threshold=challenger.threshold, max_alarms_per_patient_day=max_alarms)
    return replace(held_out, candidates=dict(held_out.candidates, challenger=replace(challenger, certificate=promised)))


def alarm_rate(held_out):
    challenger = held_out.candidates["challenger"]
    return Watch.of(held_out.frame("challenger")).count(challenger.threshold).figures()["alarms_per_patient_day"]


def passed(examined):
    return {gate.name: gate.passed for gate in examined.gates}


ALL = dict.fromkeys(("data", "better", "calibration", "subgroups", "promise", "vignettes", "directions"), True)


@pytest.fixture(scope="module")
def improved():
    return both(0.0, 1.5)


def test_a_better_challenger_passes_all_gates(improved):
    found = examine(certified(improved, max_alarms=alarm_rate(improved) + 0.001), (FACTS, FACTS), "aa", examination(), HOURLY)
    assert passed(found) == ALL
    assert found.held_out["patients"] == 800
    assert set(found.metrics) == {"challenger", "champion"}
    assert found.left_out == ()


def test_without_a_champion_what_compares_is_left_out(improved):
    alone = certified(improved, max_alarms=9)
    alone = replace(alone, candidates={"challenger": alone.candidates["challenger"]})
    found = examine(
        alone, (FACTS, {name: FACTS[name] for name in ("task", "source", "simulated")}), "aa", examination(), HOURLY
    )
    assert passed(found) == {name: True for name in ALL if name not in {"better", "subgroups"}}
    assert found.left_out == ("better", "subgroups")
    assert set(found.metrics) == {"challenger"}


def test_behaviour_alone_can_shut_a_gate(improved):
    wrong = examination(vignettes=answered({("septic_shock", "none"): ("band_too_low", "band low")}))
    found = examine(certified(improved, max_alarms=9), (FACTS, FACTS), "aa", wrong, HOURLY)
    assert passed(found) == ALL | {"vignettes": False}


@pytest.mark.parametrize(("share", "holds"), [(0.99, True), (0.5, False)])
def test_a_promise_broken_with_confidence_shuts_its_gate_only(improved, share, holds):
    found = examine(certified(improved, max_alarms=alarm_rate(improved) * share), (FACTS, FACTS), "aa", examination(), HOURLY)
    assert passed(found) == ALL | {"promise": holds}


def test_a_worse_challenger_fails_where_it_is_worse():
    worse = both(1.5, 0.0)
    found = passed(examine(certified(worse, max_alarms=9), (FACTS, FACTS), "aa", examination(), HOURLY))
    assert found == ALL | {"better": False, "calibration": False, "subgroups": False}


def test_the_same_model_again_is_not_better_and_harms_nobody(improved):
    same = dict.fromkeys(("challenger", "champion"), improved.candidates["challenger"])
    found = examine(certified(replace(improved, candidates=same), max_alarms=9), (FACTS, FACTS), "aa", examination(), HOURLY)
    assert passed(found) == ALL | {"better": False}
    gate = found.gates[1]
    assert (gate.figures["auroc"], gate.figures["auroc_low"], gate.figures["auroc_high"]) == (0, 0, 0)


def test_a_model_that_fails_one_group_is_found_out(improved):
    """Better for everybody, and blind to the women."""
    challenger = improved.candidates["challenger"]
    women = (improved.groups["sex"] == "female").to_numpy()
    blind = np.where(women, np.median(challenger.risk), challenger.risk)
    candidates = dict(improved.candidates, challenger=replace(challenger, risk=blind))
    gate = subgroups(by_group(replace(improved, candidates=candidates), alarms=True))
    assert not gate.passed
    assert "sex female" in gate.figures["harmed"]
    assert "sex male" not in gate.figures["harmed"]
    assert "sex female: AUROC -" in gate.found


def test_the_groups_that_count_are_those_of_the_report(improved):
    fewer = both(0.0, 1.5, patients=150)
    for held_out in (improved, fewer):
        ours = pd.DataFrame(by_group(held_out, alarms=True)).set_index(["by", "group"])
        report = judged_subgroups(
            held_out.frame("challenger"), held_out.groups, held_out.candidates["challenger"].threshold, seed=3
        ).set_index(["by", "group"])
        assert ours.index.equals(report.index)
        assert ours["enough"].any()
        columns = ["patients", "events", "enough", "auroc", "event_recall"]
        pd.testing.assert_frame_equal(ours[columns], report[columns], check_dtype=False)
    assert not ours["enough"].all()


def test_a_group_of_almost_nobody_but_the_ill_is_too_small(improved):
    """AUROC needs both: those with an event, and those without."""
    rows = improved.rows
    ill = rows.groupby("subject_id")["label"].transform("max") == 1
    well = rows["subject_id"].isin(rows.loc[~ill, "subject_id"].unique()[:19])
    by = pd.DataFrame({"ward": pd.Categorical(np.where(ill | well, "hospice", "other"), ["hospice", "other"])})
    _, hospice, other = by_group(replace(improved, groups=by), alarms=False)
    assert hospice["events"] > 100
    assert (hospice["patients"] - hospice["events"], hospice["enough"]) == (19, False)
    assert (other["events"], other["enough"]) == (0, False)


def test_differences_by_group_are_paired(improved):
    row = by_group(improved, alarms=True)[0]
    for metric in ("auroc", "event_recall"):
        change = row[f"{metric}_change"]
        assert change == pytest.approx(row[metric] - row[f"{metric}_champion"])
        assert row[f"{metric}_change_low"] < change < row[f"{metric}_change_high"]


def test_a_question_asked_once_is_judged_without_alarms():
    once = made_up(models=("challenger", "champion"), once=True, patients=400)
    found = examine(once, (FACTS, FACTS), "aa", examination(), ONCE)
    assert [gate.name for gate in found.gates if gate.passed][-3:] == ["promise", "vignettes", "directions"]
    assert not any(name.startswith("event_recall") for row in found.gates[3].figures["groups"] for name in row)
