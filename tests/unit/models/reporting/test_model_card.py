"""The model card: facts of the run only, every item of TRIPOD+AI answered or listed as unknown, no identifiers."""

import copy
import json
import re
from dataclasses import asdict

import pytest

from tests.support.evaluation_sections import answered as vignettes_answered
from tests.support.evaluation_sections import behaviour, domain, examination
from tests.support.synthetic_risks import held_out
from tests.unit.models.reporting.test_fairness_figures import GROUPS
from vigil.features.catalogue import SERVICES
from vigil.models.alarms.guarantee import Certificate
from vigil.models.evaluation.comparison import SECTIONS
from vigil.models.reporting.model_card import ITEMS, list_limits, render_model_card
from vigil.models.reporting.tables import name_group
from vigil.models.tasks import TASKS, describe_task
from vigil.pipelines.results import write_json

TRAINING = {
    "trained_at": "2026-03-01T12:00:00+00:00",
    "versions": {"python": "3.11.9", "vigil": "0.1.0", "lightgbm": "4.7.0"},
    "train_patients": None,
    "train_events": None,
    "learner": "LGBMClassifier",
    "parameters": {"num_leaves": "24", "learning_rate": "0.05"},
    "members": 10,
    "folds": 5,
    "repeats": 1,
    "max_negatives": 100_000,
    "ways": ["other_habits", "changed_habits", "cut_records"],
    "seed": 2026,
    "features": list(SERVICES["vital_signs_v1"]),
    "thresholds": {"medium": 0.0712, "high": 0.2134},
}
GUARANTEE_CHECK = {
    "alarms_per_patient_day": 0.47, "alarms_upper": 0.55, "precision": 0.061, "precision_lower": 0.05, "event_recall": 0.7,
    "held": True,
}  # fmt: skip


def evaluated(tmp_path, ward, *, simulated=False):
    result = {
        "source": "cinc2019",
        "simulated": simulated,
        "version": "7",
        "task": describe_task(TASKS["sepsis"]),
        "made": {
            "data_digest": "ab" * 16,
            "feature_service": "vital_signs_v1",
            "features": {name: 5 + place for place, name in enumerate(ward.candidates)},
            "held_out_share": 0.2,
            "seed": 3,
            "resamples": 200,
            "cohort": {"stays": 600, "events": 101, "readings": 123_456},
        },
    }
    for section in SECTIONS:
        result |= section(ward)
    if not ward.is_once_per_stay:
        guarantee = asdict(Certificate(0.2134, 0.5, 0.05, 0.95, 812, 0.4, 0.48, 0.08, 0.06))
        result["promises"] = {ward.default: {"certificate": guarantee, "held_out": dict(GUARANTEE_CHECK)}}
    write_json(tmp_path / "evaluation.json", result)
    return json.loads((tmp_path / "evaluation.json").read_text())


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    return evaluated(tmp_path_factory.mktemp("card"), held_out(patients=160))


@pytest.fixture
def result(evaluation):
    """A copy for tests that change it."""
    return copy.deepcopy(evaluation)


@pytest.fixture(scope="module")
def page(evaluation):
    return render_model_card(evaluation, TRAINING)


def unknown_items(page):
    """Return the items listed as unknown, with the unknown part of each."""
    section = page.split("## Not known to the run")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| (\d+[a-g]?) \| [^|]+ \| ([^|]+) \|$", section, flags=re.MULTILINE))


def answered_items(page):
    return re.findall(r"^\*\*(\d+[a-g]?) ", page, flags=re.MULTILINE)


def test_items_are_those_of_tripod_ai():
    assert len(ITEMS) == 52
    assert {int(re.match(r"\d+", key)[0]) for key in ITEMS} == set(range(1, 28))


def test_every_tripod_item_is_answered_or_listed_as_unknown(page):
    answers = answered_items(page)
    assert len(answers) == len(set(answers))
    assert set(answers) | set(unknown_items(page)) == set(ITEMS)
    assert {key for key, left_open in unknown_items(page).items() if left_open == "all of it"} == set(ITEMS) - set(answers)
    assert {"10", "17", "18a", "18b", "19", "20c", "25", "27c"} <= set(unknown_items(page)) - set(
        answers
    )  # no machine knows these


@pytest.mark.parametrize(
    "text",
    [
        "600 stays, 101 of them with an event", "123,456 readings", "`" + "ab" * 16 + "`", "version **7**",
        "Sepsis (Sepsis-3) within 6 h, predicted at each full hour", "| num_leaves | 24 |", "divided into 5 folds by patient.",
        "seed 2026", "medium from 7.12 %, high from", "21.34 %", "mean of 10 members (LGBMClassifier)",
        "python 3.11.9, vigil 0.1.0", "models:/sepsis/7", "at most 100,000 without", "812 patients", "with 95 % confidence",
        "it held:\n0.47 alarms per patient-day",
        "| heart rate | 8867-4 | per minute (/min) | 19 | number of readings in the last hour `heart_rate_count_1h`",
        "Times at or after the onset count as positive", "not a medical device",
    ],
)  # fmt: skip
def test_card_states_the_facts_of_the_run(page, text):
    assert text in page


def test_card_names_every_feature_of_the_model_and_no_other(page):
    section = page.split("## Features by signal")[1]
    assert sorted(re.findall(r"`(\w+)`", section)) == sorted(TRAINING["features"])


def test_card_numbers_are_those_of_the_evaluation(evaluation, page):
    for metrics in evaluation["models"].values():
        assert f"{metrics['auroc']:.3f} ({metrics['auroc_low']:.3f}-{metrics['auroc_high']:.3f})" in page
    for row in evaluation["ranges"]:
        assert f"| {row['n']:,} | {row['patients']:,} |" in page


def change(result, where, value):
    *path, last = where
    for key in path:
        result = result[key]
    assert result[last] != value
    result[last] = value


@pytest.mark.parametrize(
    ("where", "value", "text"),
    [
        (("models", "all_signals", "auroc"), 0.51234, "| 0.512 ("),
        (("models", "clock", "calibration_slope"), 0.31, "| 0.31 ("),
        (("gains", "clock", "auroc"), -0.4321, "| -0.432 ("),
        (("patients",), 4321.0, "4,321 of these"),
        (("made", "cohort", "stays"), 98_765, "98,765 stays"),
        (("made", "data_digest"), "cd" * 16, "cd" * 16),
        (("promises", "all_signals", "held_out", "alarms_per_patient_day"), 0.77, "0.77 alarms per patient-day"),
        (("promises", "all_signals", "held_out", "held"), False, "it **did NOT hold**"),
        (("subgroups", 1, "auroc"), 0.61234, "| 0.612 ("),
        (("ranges", 0, "observed"), 0.4444, "| 44.44 % ("),
        (("alarms", "at_frozen_threshold", "all_signals", "event_recall"), 0.17, "| 17 % ("),
    ],
)
def test_card_changes_when_a_number_changes(result, page, where, value, text):
    change(result, where, value)
    assert text not in page
    assert text in render_model_card(result, TRAINING)


def test_card_changes_when_the_training_changes(evaluation):
    trained = render_model_card(
        evaluation, TRAINING | {"train_patients": "480", "train_events": "81", "seed": 7, "max_negatives": None}
    )
    assert "not held out (480, 81 of them with an event). Evaluation: 160 patients" in trained
    assert "seed 7:" in trained
    assert "no rows are weighted, left out or repeated" in trained
    for way in ("other measurement habits", "very different habits", "to the last set of observations alone"):
        assert way in trained
    some = render_model_card(evaluation, TRAINING | {"ways": ["cut_records"]})
    assert "the last set" in some
    assert "habits" not in some
    assert "further versions" not in render_model_card(evaluation, TRAINING | {"ways": []})
    linear = render_model_card(evaluation, TRAINING | {"learner": "Pipeline", "parameters": {"steps": "[impute, scale]"}})
    assert "trees" not in linear
    assert "| steps | [impute, scale] |" in linear


def test_limits_list_what_is_wrong_and_only_that(result):
    for metric, right in (("calibration_slope", 1.0), ("calibration_intercept", 0.0)):
        result["models"]["all_signals"] |= {metric: right, f"{metric}_low": right - 0.1, f"{metric}_high": right + 0.1}
    for row in result["ranges"]:
        row["compatible"] = True
    all_patients, *groups = result["subgroups"]
    for row in groups:
        row |= {"enough": True, "auroc_high": 1.0}
    assert len(list_limits(result)) == 1  # one source, as always
    result["models"]["all_signals"]["calibration_slope_low"] = 1.01
    result["promises"]["all_signals"]["held_out"]["held"] = False
    result["ranges"][3]["compatible"] = False
    groups[0]["auroc_high"] = all_patients["auroc"] - 0.001
    groups[1]["enough"] = False
    text = "\n".join(list_limits(result))
    assert "The calibration slope is 1.00 (1.01-1.10). Its interval does not include the right value, 1." in text
    assert "calibration intercept" not in text
    assert "did not hold" in text
    assert "In 1 of 10 groups by risk" in text
    assert "The AUROC is lower, with its whole 95 % interval below that of all patients, in: age, years: under 45." in text
    assert "(fewer than 20 patients with an event, or without one), so not known: age, years: 45-64." in text


def test_card_shows_behaviour_and_domain_of_use_with_failed_vignettes(evaluation, page):
    assert "**Behaviour**" not in page
    low = vignettes_answered({("septic_shock", "none"): ("band_too_low", "band low, no alarm by NEWS2")})
    shown = render_model_card(evaluation | {"behaviour": behaviour(vignettes=low), "domain": domain()}, TRAINING)
    assert "| Septic shock from pneumonia | 19 | band at least high, an alarm by NEWS2 | low (TOO LOW) |" in shown
    assert "| Opioid overdose |" not in shown
    assert "- Of 94 answers to 20 clinical vignettes 1 is too low" in shown
    assert "| age, years | 17 | 96 |" in shown
    assert "Of the held-out patient-hours with a reading 1.3 % (0.9-1.9) are outside" in shown
    assert "\n\n\n" not in shown
    assert "not answered as expected" not in render_model_card(
        evaluation | {"behaviour": behaviour(), "domain": domain()}, TRAINING
    )


def test_limits_list_failed_behaviour_and_a_missing_domain_of_use(evaluation):
    before = list_limits(evaluation)
    failing = behaviour(history=examination()["history"] | {"passed": False})
    assert [text for text in list_limits(evaluation | {"behaviour": failing, "domain": domain()}) if text not in before] == [
        "Its behaviour does not meet the limits in: history."
    ]
    assert list_limits(evaluation | {"behaviour": behaviour(), "domain": domain()}) == before
    assert "It has no domain of use" in " ".join(list_limits(evaluation | {"domain": None}))


def test_card_names_small_groups_but_does_not_count_them(page, evaluation):
    few = [row for row in evaluation["subgroups"] if not row["enough"]]
    assert few
    for row in few:
        name = name_group(row)
        assert f"| {name} | too few to judge |  |  |" in page
        assert f"| {name} | {row['patients']}" not in page


def test_card_marks_simulated_patients_as_no_evidence(evaluation, page):
    simulated = render_model_card(evaluation | {"simulated": True, "source": "simulated"}, TRAINING)
    assert simulated.splitlines()[0].endswith("(SIMULATED)")
    assert "SIMULATED PATIENTS: NO CLINICAL EVIDENCE" in simulated.split("## ")[0]
    assert "The patients are simulated: no figure here is evidence" in simulated.split("## Limits")[1]
    assert "simulated" not in page.lower()


def test_missing_alarm_guarantee_is_a_limit(evaluation):
    none = render_model_card(evaluation | {"promises": {}}, TRAINING)
    assert "None: the training patients allowed none at any threshold." in none
    assert "- There is no alarm guarantee, because the training patients allowed none." in none


def test_card_of_one_prediction_per_stay_has_no_alarms(tmp_path):
    once = evaluated(tmp_path, held_out(patients=300, once=True))
    page = render_model_card(
        once
        | {
            "task": {
                "name": "mortality",
                "outcome": "death in hospital",
                "horizon_hours": 240_000.0,
                "after_onset": "positive",
                "cut_off": "negative",
            }
        },
        TRAINING,
    )
    assert "Death in hospital, predicted once per stay." in page
    assert "no alarms sound, and there is no alarm guarantee" in page
    assert "high where sensitivity equals positive predictivity" in page
    assert "patient-hours" not in page
    assert "There is no alarm guarantee" not in page


def test_card_escapes_names_from_the_data(result):
    unit = next(row for row in result["subgroups"] if row["by"] == "unit")
    unit["group"] = "A|B <script>\n# x"
    page = render_model_card(result, TRAINING)
    assert "| ward: A\\|B &lt;script> # x |" in page
    assert "<script" not in page


def test_card_tables_are_complete(page):
    """Every row of a table has as many cells as its headings."""
    for table in re.findall(r"(?:^\|.*\|$\n?)+", page, flags=re.MULTILINE):
        assert len({len(re.split(r"(?<!\\)\|", line)) for line in table.strip().splitlines()}) == 1
    assert "\n\n\n" not in page
    assert "None" not in re.sub(r"\bNone(?= by design|:)", "", page)
    assert "nan" not in page


def test_card_holds_no_identifier(page):
    assert "canary-" not in page


def test_card_states_fairness_by_named_attributes(evaluation):
    section = {"by": ["sex"], "groups": GROUPS, "calibration": [], "threshold": 0.2}
    page = render_model_card(evaluation | {"fairness": section}, TRAINING)
    assert "Patients flagged at the threshold, in groups of sex;" in page
    assert "- Insurance: of the patient-hours before an event the fewest are flagged in the group public (100 patients" in page
    assert "| insurance: other | under 11 | under 11 | too few to conclude |" in page
