"""The evaluation report: made from its JSON alone, self-contained, without identifiers, and clear about simulated patients."""

import json
import re
from dataclasses import asdict, dataclass, replace
from html.parser import HTMLParser

import pytest

from tests.support.evaluation_sections import answered, behaviour, domain, examination
from tests.support.synthetic_risks import held_out
from vigil.models.evaluation.comparison import SECTIONS, count_alarms
from vigil.models.formatting import format_interval, format_number, format_percent_interval
from vigil.models.reporting import behaviour_tables, tables
from vigil.models.reporting.report import render_report
from vigil.models.reporting.style import display_name, order_models
from vigil.models.reporting.tables import describe_question
from vigil.models.tasks import TASKS, describe_task
from vigil.pipelines.results import write_json

CANARY = "canary-"
SECTION_IDS = {
    "summary", "discrimination", "calibration", "benefit", "alarms", "promise", "subgroups", "robustness", "behaviour",
    "domain", "ranges", "made", "fairness", "explanations",
}  # fmt: skip
ADDRESS = re.compile(r"(?:https?:)?//\w|\burl\((?!#)|\b(?:src|href)=\"(?!#)|@import", flags=re.IGNORECASE)


@dataclass(frozen=True)
class Certificate:
    """The fields of :class:`vigil.models.alarms.guarantee.Certificate`."""

    threshold: float = 0.3
    max_alarms_per_patient_day: float = 0.5
    min_precision: float = 0.1
    confidence: float = 0.95
    patients: int = 800
    alarms_per_patient_day: float = 0.4
    alarms_upper: float = 0.48
    precision: float = 0.2
    precision_lower: float = 0.12


def as_json(tmp_path, ward, *, losses=True, **facts):
    lost = {"what": "10 % of all readings", "auroc": 0.8, "event_recall": 0.5, "alarms_per_patient_day": 0.4}
    for name in ("auroc", "event_recall", "alarms_per_patient_day"):
        lost |= {f"{name}_change": -0.02, f"{name}_change_low": -0.03, f"{name}_change_high": -0.01}
    result = {
        "source": "<cohort & co>",
        "simulated": False,
        "version": "7",
        "task": describe_task(TASKS["sepsis"]),
        "made": {
            "data_digest": "ab" * 16,
            "feature_service": "deterioration_v1",
            "features": dict.fromkeys(ward.candidates, 12),
            "held_out_share": 0.2,
            "seed": 3,
            "resamples": 200,
            "cohort": {"stays": 600, "events": 100, "readings": 100_000},
            **facts,
        },
        "robustness": {"patients": 120, "losses": [lost] if losses else []},
        "behaviour": behaviour(),
        "domain": domain(),
    }
    for section in SECTIONS:
        result |= section(ward)
    write_json(tmp_path / "evaluation.json", result)
    return json.loads((tmp_path / "evaluation.json").read_text())


@pytest.fixture(scope="module")
def ward():
    return held_out(patients=160)


@pytest.fixture(scope="module")
def result(tmp_path_factory, ward):
    return as_json(tmp_path_factory.mktemp("report"), ward)


@pytest.fixture(scope="module")
def page(result):
    return render_report(result)


@pytest.fixture
def undrawn(monkeypatch):
    """Replace drawing, which takes seconds, in tests of the text."""
    monkeypatch.setattr("vigil.models.reporting.report._draw_svg", lambda *_: "")


class Elements(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.open, self.ids, self.tags = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in {"meta", "br"} and "use" not in tag:
            self.open.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_startendtag(self, tag, _):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_report_holds_every_section_and_figure_and_is_well_formed(page):
    elements = Elements(page)
    assert elements.open == []
    assert set(elements.ids) >= SECTION_IDS
    assert elements.tags.count("svg") == 9
    assert not {"script", "link", "img", "iframe"} & set(elements.tags)


def test_report_is_self_contained_without_addresses(page):
    assert ADDRESS.findall(page) == []
    assert "default-src 'none'" in page


def test_report_holds_no_identifier_and_no_date(page, result, ward):
    assert ward.rows["subject_id"].str.startswith(CANARY).all()
    assert CANARY not in page
    assert CANARY not in json.dumps(result)
    assert "2026-03" not in json.dumps(result)  # nor any date of a stay


def test_report_is_the_same_for_the_same_json(page, result):
    assert render_report(result) == page


def test_report_escapes_names_from_the_data(page):
    assert "&lt;cohort &amp; co&gt;" in page
    assert "<cohort" not in page


def test_no_table_of_the_report_repeats_its_plot(page):
    headings = re.findall(r'<th scope="col">([^<]*)</th>', page)
    assert "AUROC gain of the default model" in headings
    assert not {"AUROC", "AUPRC", "change of AUROC", "threshold probability", "risk range, mean"} & set(headings)


@pytest.mark.usefixtures("undrawn")
def test_report_marks_simulated_patients_as_no_evidence(result, page):
    assert "NO CLINICAL EVIDENCE" in render_report(result | {"simulated": True})
    assert "NO CLINICAL EVIDENCE" not in page


def test_evaluation_json_holds_plain_numbers_of_every_section(result, ward):
    assert list(result["models"]) == list(ward.candidates)
    assert result["default"] == "all_signals"
    assert set(result["gains"]) == set(ward.candidates) - {"all_signals"}
    assert result["gains"]["clock"]["auroc"] == pytest.approx(
        result["models"]["all_signals"]["auroc"] - result["models"]["clock"]["auroc"]
    )
    assert {row["rule"] for row in result["alarms"]["rules"]} == {"NEWS2 >= 5", "NEWS2 >= 7"}
    assert [len(result["reliability"][name]) for name in ward.candidates] == [10] * 6
    assert {"threshold", "treat_all", "treat_none", "clock", "NEWS2 >= 7"} <= set(result["net_benefit"]["curve"][0])
    assert [point["rule"] for point in result["net_benefit"]["rule_points"]] == ["NEWS2 >= 5", "NEWS2 >= 7"]
    assert len(result["ranges"]) == 10
    assert isinstance(result["ranges"][0]["covered"], bool)


def test_news2_rule_equals_its_calibrated_risk(result):
    """The probability of NEWS2 rises with the score, so acting from the probability of 5 points is acting from 5 points."""
    curve = {row["rule"]: row for row in result["alarms"]["rules"]}
    against = result["alarms"]["against_rules"]["all_signals"]
    assert [row["rule"] for row in against] == list(curve)
    assert "news2" not in result["alarms"]["against_rules"]
    assert against[0]["rule_recall"] == curve["NEWS2 >= 5"]["event_recall"]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("held", [True, False])
def test_report_shows_an_alarm_guarantee_and_whether_it_held(result, ward, monkeypatch, held):
    def check(certificate, watch):
        assert certificate.patients == 800
        assert len(watch.time)
        figures = {"alarms_per_patient_day": 0.7, "alarms_upper": 0.8, "precision": 0.3, "precision_lower": 0.2}
        return {**figures, "event_recall": 0.6, "held": held}

    monkeypatch.setattr("vigil.models.evaluation.comparison.check_guarantee", check)
    default = replace(ward.candidates["all_signals"], certificate=Certificate())
    promises = count_alarms(replace(ward, candidates={"all_signals": default}))["promises"]
    assert promises["all_signals"]["certificate"] == asdict(Certificate())
    page = render_report(result | {"promises": promises})
    assert ("the guarantee held" in page) == held
    assert ("did NOT hold" in page) == (not held)


def test_report_states_a_missing_alarm_guarantee(page):
    assert "No model of this run has an alarm guarantee" in page


def test_report_without_ranges_groups_news2_or_robustness(tmp_path, ward):
    bare = {name: replace(candidate, low=None, high=None) for name, candidate in ward.candidates.items() if name != "news2"}
    page = render_report(
        as_json(tmp_path, replace(ward, candidates=bare, news2=None, groups=None), losses=False, data_digest=None)
    )
    for text in ("gives no range", "No groups are known of these patients", "Not tested", "not recorded"):
        assert text in page
    assert Elements(page).open == []
    assert "NEWS2 &gt;= 5" not in page


def test_report_of_one_prediction_per_stay_has_no_alarms(tmp_path):
    evaluation = as_json(tmp_path, held_out(patients=300, once=True))
    assert evaluation["alarms"] is None
    page = render_report(evaluation)
    assert "one prediction per stay: no alarms sound" in page
    assert "patient-hour" not in page
    assert Elements(page).open == []


def test_report_names_small_groups_but_does_not_judge_or_count_them(tmp_path):
    evaluation = as_json(tmp_path, held_out(patients=30))
    assert all(len(row) == 2 for row in tables.tabulate_subgroups(evaluation).rows)
    page = render_report(evaluation)
    assert "too few to judge" in page
    assert Elements(page).open == []


def test_models_have_an_order_and_names_for_readers():
    names = ["lightgbm", "news2", "clock", "mine", "workflow", "mews", "physiology"]
    assert order_models(names) == ["lightgbm", "mine", "physiology", "workflow", "clock", "news2", "mews"]
    assert [display_name(name) for name in ("news2", "physiology", "all_signals")] == [
        "NEWS2",
        "physiology only",
        "all signals",
    ]


def test_numbers_are_formatted_with_their_intervals():
    row = {"auroc": 0.8294, "auroc_low": 0.8126, "auroc_high": 0.845, "gain": -0.01, "gain_low": -0.02, "gain_high": 0.0}
    assert format_interval(row, "auroc") == "0.829 (0.813-0.845)"
    assert format_interval(row, "gain", 2, signed=True) == "-0.01 (-0.02 to +0.00)"
    assert format_percent_interval(row, "auroc") == "83 % (81-84)"
    assert (
        format_interval({"auroc": None}, "auroc")
        == format_percent_interval({"auroc": None}, "auroc")
        == format_number(None)
        == "-"
    )
    assert format_number(-0.0001, 2) == "0.00"


def test_horizon_of_years_is_not_shown():
    assert describe_question({"outcome": "sepsis", "horizon_hours": 6}) == "sepsis within 6 h"
    assert describe_question({"outcome": "death in hospital", "horizon_hours": 240_000}) == "death in hospital"


def cells(table, heading):
    """Return one column of a table by its first column."""
    place = table.headings.index(heading)
    return {row[0]: row[place] for row in table.rows}


def test_vignettes_are_tabulated_with_answers_and_faults(result):
    faults = {
        ("septic_shock", "none"): ("band_too_low", "band low, no alarm by NEWS2"),
        ("panic_attack", "short_leading"): ("band_too_high", "band high, no alarm by NEWS2"),
    }
    table = behaviour_tables.tabulate_vignettes(result | {"behaviour": behaviour(vignettes=answered(faults))})
    assert len(table.rows) == 20
    assert {len(row) for row in table.rows} == {len(table.headings)}
    assert cells(table, "nothing before")["Septic shock from pneumonia"] == "low (TOO LOW)"
    assert cells(table, "5 hourly sets towards the last")["Panic attack"] == "high (too high)"
    failed = {patient for patient, verdict in cells(table, "as expected?").items() if verdict == "NO"}
    assert failed == {"Septic shock from pneumonia", "Panic attack"}
    shown = behaviour_tables.tabulate_failed_vignettes(result | {"behaviour": behaviour(vignettes=answered(faults))})
    assert {row[0] for row in shown.rows} == failed


def test_worsening_is_tabulated_by_signal_and_length(result):
    base = {"violations": 0, "fall_median": 0.0, "fall_p95": 0.1}
    cases = [
        {"signal": "all", "length": "all", "cases": 70, "share": 0.04, **base},
        {"signal": "all", "length": "under 2 h", "cases": 30, "share": 0.01, **base},
        {"signal": "spo2", "length": "all", "cases": 60, "share": 0.2, **base},
        {"signal": "spo2", "length": "under 2 h", "cases": 30, "share": 0.01, **base},
        {"signal": "heart_rate", "length": "all", "cases": 10, "share": 0.1, **base},
    ]
    worse = {"cases": cases, "judged": 3, "broken": [cases[2]], "passed": False}
    table = behaviour_tables.tabulate_worsening(result | {"behaviour": behaviour(worsening=worse)})
    assert cells(table, "limits") == {"all signals": "met", "SpO2": "NOT met", "heart rate": "too few to judge"}
    assert cells(table, "history under 2 h") == {"all signals": "1.0 % of 30", "SpO2": "1.0 % of 30", "heart rate": "-"}
    assert cells(table, "history of any length")["SpO2"] == "20.0 % of 60"


def test_removal_and_history_state_whether_limits_are_met(result):
    few = examination()["removal"] | {"judged": False}
    broken = examination()["history"] | {"broken": examination()["history"]["cases"], "passed": False}
    changed = result | {"behaviour": behaviour(removal=few, history=broken)}
    assert cells(behaviour_tables.tabulate_removal(changed), "limit") == {
        "held-out patients": "too few to judge",
        "vignettes": "met",
    }
    assert cells(behaviour_tables.tabulate_history(changed), "limit") == {"all": "NOT met"}
    assert "Tests with fewer than 20 cases are shown, but not judged." in behaviour_tables.summarise_behaviour(changed)


def test_behaviour_sentences_hold_its_numbers(result):
    text = " ".join(behaviour_tables.summarise_behaviour(result))
    assert "Of 94 answers to 20 clinical vignettes none is too low" in text
    assert "fell by more than 0.25 log-odds in 2.0 % of 400 changes" in text
    assert "have a NEWS2 of 7 or more. The model alone would have called 31 of them low and left 97 without an alarm" in text
    assert "With the safety net none is low and none without an alarm" in text


def test_domain_of_use_is_tabulated_and_summarised(result, page):
    assert cells(behaviour_tables.tabulate_domain_limits(result), "at most") == {
        "age, years": "96", "history, hours in the unit": "312", "readings of heart rate, per hour": "61.50",
    }  # fmt: skip
    assert cells(behaviour_tables.tabulate_domain_limits(result), "at least")["history, hours in the unit"] == "0"
    assert cells(behaviour_tables.tabulate_outside(result), "of training patient-hours")["any value"] == "1.50 %"
    assert set(cells(behaviour_tables.tabulate_outside(result), "of patients left out of the limits").values()) == {"-"}
    text = " ".join(behaviour_tables.summarise_domain(result))
    assert "1.3 % (0.9-1.9) are outside, and 10 % (10-11) of the patients" in text
    assert "AUROC is 0.810 (0.806-0.816) inside and unknown outside." in text
    assert "Of 94 records of vignettes 20 are outside: age (14), not measured: SpO2 (6)." in text
    assert "SpO2, systolic blood pressure" in page


@pytest.mark.usefixtures("undrawn")
def test_report_without_domain_of_use_or_examination(result):
    page = render_report({name: section for name, section in result.items() if name != "behaviour"} | {"domain": None})
    assert "Not examined." in page
    assert "has no domain of use: the model answers for every patient" in page
    assert Elements(page).open == []


@pytest.mark.usefixtures("undrawn")
def test_report_gives_the_reason_for_a_missing_alarm_guarantee(result):
    spent = "the safety net alone sounds 0.83 of 0.5 alarms per patient-day, so none are left for the model"
    assert spent in render_report(result | {"made": result["made"] | {"no_promise": spent}})
