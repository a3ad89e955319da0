"""The report: made from its JSON alone, needs nothing but itself, names nobody, and says loudly what is simulated."""

import json
import re
from dataclasses import asdict, dataclass, replace
from html.parser import HTMLParser

import pytest

from models.evaluation.comparison import SECTIONS, alarmed
from models.reporting import behaviour_tables, tables
from models.reporting.report import report
from models.reporting.style import in_order, named
from models.reporting.tables import foreseen, interval, number, percents
from pipelines.results import write_json
from tests.models.behaviour.examined import answered, behaviour, domain, examination
from tests.models.evaluation.made_up import held_out

CANARY = "canary-"
SECTION_IDS = {
    "summary", "discrimination", "calibration", "benefit", "alarms", "promise", "subgroups", "robustness", "behaviour",
    "domain", "ranges", "made",
}  # fmt: skip
ADDRESS = re.compile(r"(?:https?:)?//\w|\burl\((?!#)|\b(?:src|href)=\"(?!#)|@import", flags=re.IGNORECASE)


@dataclass(frozen=True)
class Certificate:
    """As models.alarms.guarantee has it."""

    threshold: float = 0.3
    max_alarms_per_patient_day: float = 0.5
    min_precision: float = 0.1
    confidence: float = 0.95
    patients: int = 800
    alarms_per_patient_day: float = 0.4
    alarms_upper: float = 0.48
    precision: float = 0.2
    precision_lower: float = 0.12


def as_json(tmp_path, ward, *, losses=True, **made):
    lost = {"what": "10 % of all readings", "auroc": 0.8, "event_recall": 0.5, "alarms_per_patient_day": 0.4}
    for name in ("auroc", "event_recall", "alarms_per_patient_day"):
        lost |= {f"{name}_change": -0.02, f"{name}_change_low": -0.03, f"{name}_change_high": -0.01}
    result = {
        "source": "<cohort & co>",
        "simulated": False,
        "version": "7",
        "task": {"name": "sepsis", "outcome": "sepsis (Sepsis-3)", "horizon_hours": 6.0},
        "made": {
            "data_digest": "ab" * 16,
            "feature_service": "deterioration_v1",
            "features": dict.fromkeys(ward.candidates, 12),
            "held_out_share": 0.2,
            "seed": 3,
            "resamples": 200,
            "cohort": {"stays": 600, "events": 100, "readings": 100_000},
            **made,
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
    return report(result)


@pytest.fixture
def undrawn(monkeypatch):
    """For tests of the words: drawing takes seconds."""
    monkeypatch.setattr("models.reporting.report._drawn", lambda *_: "")


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


def test_it_holds_every_section_and_figure_and_is_well_formed(page):
    elements = Elements(page)
    assert elements.open == []
    assert set(elements.ids) >= SECTION_IDS
    assert elements.tags.count("svg") == 9
    assert not {"script", "link", "img", "iframe"} & set(elements.tags)


def test_it_needs_nothing_but_itself(page):
    assert ADDRESS.findall(page) == []
    assert "default-src 'none'" in page


def test_nobody_is_named(page, result, ward):
    assert ward.rows["subject_id"].str.startswith(CANARY).all()
    assert CANARY not in page
    assert CANARY not in json.dumps(result)
    assert "2026-03" not in json.dumps(result)  # nor when somebody lay there


def test_the_same_json_is_the_same_page(page, result):
    assert report(result) == page


def test_what_comes_from_outside_is_escaped(page):
    assert "&lt;cohort &amp; co&gt;" in page
    assert "<cohort" not in page


@pytest.mark.usefixtures("undrawn")
def test_simulated_patients_are_no_evidence(result, page):
    assert "NO CLINICAL EVIDENCE" in report(result | {"simulated": True})
    assert "NO CLINICAL EVIDENCE" not in page


def test_json_holds_plain_numbers_of_every_question(result, ward):
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


def test_a_rule_on_the_score_is_the_same_as_its_calibrated_risk(result):
    """NEWS2's probability rises with the score, so acting at that of five points is acting on five points."""
    curve = {row["rule"]: row for row in result["alarms"]["rules"]}
    against = result["alarms"]["against_rules"]["all_signals"]
    assert [row["rule"] for row in against] == list(curve)
    assert "news2" not in result["alarms"]["against_rules"]
    assert against[0]["rule_recall"] == curve["NEWS2 >= 5"]["event_recall"]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("held", [True, False])
def test_a_promise_is_shown_with_what_came_of_it(result, ward, monkeypatch, held):
    def check(certificate, watch):
        assert certificate.patients == 800
        assert len(watch.time)
        figures = {"alarms_per_patient_day": 0.7, "alarms_upper": 0.8, "precision": 0.3, "precision_lower": 0.2}
        return {**figures, "event_recall": 0.6, "held": held}

    monkeypatch.setattr("models.evaluation.comparison.check", check)
    default = replace(ward.candidates["all_signals"], certificate=Certificate())
    promises = alarmed(replace(ward, candidates={"all_signals": default}))["promises"]
    assert promises["all_signals"]["certificate"] == asdict(Certificate())
    page = report(result | {"promises": promises})
    assert ("the promise held" in page) == held
    assert ("did NOT hold" in page) == (not held)


def test_without_a_promise_it_says_so(page):
    assert "No model of this run carries a promise" in page


def test_a_model_without_ranges_groups_score_or_robustness_has_a_report_too(tmp_path, ward):
    bare = {name: replace(candidate, low=None, high=None) for name, candidate in ward.candidates.items() if name != "news2"}
    page = report(as_json(tmp_path, replace(ward, candidates=bare, news2=None, groups=None), losses=False, data_digest=None))
    for said in ("gives no range", "Nothing is known of these patients", "Not tried", "not kept"):
        assert said in page
    assert Elements(page).open == []
    assert "NEWS2 &gt;= 5" not in page


def test_a_question_asked_once_a_stay_has_no_alarms(tmp_path):
    found = as_json(tmp_path, held_out(patients=300, once=True))
    assert found["alarms"] is None
    page = report(found)
    assert "asked once a stay: no alarms sound" in page
    assert "patient-hour" not in page
    assert Elements(page).open == []


def test_few_patients_are_named_but_neither_judged_nor_counted(tmp_path):
    found = as_json(tmp_path, held_out(patients=30))
    assert all(len(row) == 2 for row in tables.subgroups(found).rows)
    page = report(found)
    assert "too few to judge" in page
    assert Elements(page).open == []


def test_models_are_shown_as_they_are_compared():
    names = ["lightgbm", "news2", "clock", "mine", "workflow", "mews", "physiology"]
    assert in_order(names) == ["lightgbm", "mine", "physiology", "workflow", "clock", "news2", "mews"]
    assert [named(name) for name in ("news2", "physiology", "all_signals")] == ["NEWS2", "physiology only", "all signals"]


def test_figures_are_written_with_their_intervals():
    row = {"auroc": 0.8294, "auroc_low": 0.8126, "auroc_high": 0.845, "gain": -0.01, "gain_low": -0.02, "gain_high": 0.0}
    assert interval(row, "auroc") == "0.829 (0.813-0.845)"
    assert interval(row, "gain", 2, signed=True) == "-0.01 (-0.02 to +0.00)"
    assert percents(row, "auroc") == "83 % (81-84)"
    assert interval({"auroc": None}, "auroc") == percents({"auroc": None}, "auroc") == number(None) == "-"
    assert number(-0.0001, 2) == "0.00"


def test_a_horizon_of_years_is_none():
    assert foreseen({"outcome": "sepsis", "horizon_hours": 6}) == "sepsis within 6 h"
    assert foreseen({"outcome": "death in hospital", "horizon_hours": 240_000}) == "death in hospital"


def cells(table, heading):
    """One column by the first."""
    place = table.headings.index(heading)
    return {row[0]: row[place] for row in table.rows}


def test_vignettes_are_shown_with_what_was_found_and_what_is_wrong(result):
    faults = {
        ("septic_shock", "none"): ("band_too_low", "band low, no alarm by NEWS2"),
        ("panic_attack", "short_leading"): ("band_too_high", "band high, no alarm by NEWS2"),
    }
    table = behaviour_tables.vignettes(result | {"behaviour": behaviour(vignettes=answered(faults))})
    assert len(table.rows) == 20
    assert {len(row) for row in table.rows} == {len(table.headings)}
    assert cells(table, "nothing before")["Septic shock from pneumonia"] == "low (TOO LOW)"
    assert cells(table, "5 hourly sets leading there")["Panic attack"] == "high (too high)"
    wrong = {patient for patient, verdict in cells(table, "as expected?").items() if verdict == "NO"}
    assert wrong == {"Septic shock from pneumonia", "Panic attack"}
    shown = behaviour_tables.wrong_vignettes(result | {"behaviour": behaviour(vignettes=answered(faults))})
    assert {row[0] for row in shown.rows} == wrong


def test_directions_are_shown_by_signal_and_length(result):
    base = {"violations": 0, "fall_median": 0.0, "fall_p95": 0.1}
    cases = [
        {"signal": "all", "length": "all", "cases": 70, "share": 0.04, **base},
        {"signal": "all", "length": "under 2 h", "cases": 30, "share": 0.01, **base},
        {"signal": "spo2", "length": "all", "cases": 60, "share": 0.2, **base},
        {"signal": "spo2", "length": "under 2 h", "cases": 30, "share": 0.01, **base},
        {"signal": "heart_rate", "length": "all", "cases": 10, "share": 0.1, **base},
    ]
    worse = {"cases": cases, "judged": 3, "broken": [cases[2]], "passed": False}
    table = behaviour_tables.directions(result | {"behaviour": behaviour(worsening=worse)})
    assert cells(table, "limits") == {"all signals": "kept", "spo2": "NOT kept", "heart rate": "too few to judge"}
    assert cells(table, "history under 2 h") == {"all signals": "1.0 % of 30", "spo2": "1.0 % of 30", "heart rate": "-"}
    assert cells(table, "history of any length")["spo2"] == "20.0 % of 60"


def test_removal_and_history_say_what_was_judged(result):
    few = examination()["removal"] | {"judged": False}
    broken = examination()["history"] | {"broken": examination()["history"]["cases"], "passed": False}
    found = result | {"behaviour": behaviour(removal=few, history=broken)}
    assert cells(behaviour_tables.removal(found), "limit") == {"held-out patients": "too few to judge", "vignettes": "kept"}
    assert cells(behaviour_tables.history(found), "limit") == {"all": "NOT kept"}
    assert "What had fewer than 20 cases is shown, but not judged." in behaviour_tables.behaves(found)


def test_sentences_of_behaviour_hold_its_figures(result):
    said = " ".join(behaviour_tables.behaves(result))
    assert "Of 94 answers to 20 clinical vignettes none is too low" in said
    assert "fell by more than 0.25 log-odds in 2.0 % of 400 changes" in said
    assert "have a NEWS2 of 7 or more. The model alone would have called 31 of them low and left 97 without an alarm" in said
    assert "with the safety net none is low and none without an alarm" in said


def test_domain_is_shown_in_plain_words(result, page):
    assert cells(behaviour_tables.limits(result), "at most") == {
        "age, years": "96", "history, hours in the unit": "312", "readings of heart rate, per hour": "61.50",
    }  # fmt: skip
    assert cells(behaviour_tables.limits(result), "at least")["history, hours in the unit"] == "0"
    assert cells(behaviour_tables.outside(result), "of training patient-hours")["anything"] == "1.50 %"
    assert set(cells(behaviour_tables.outside(result), "of those left out of the limits").values()) == {"-"}
    said = " ".join(behaviour_tables.speaks(result))
    assert "1.3 % (0.9-1.9) are outside, and 10 % (10-11) of the patients" in said
    assert "AUROC is 0.810 (0.806-0.816) inside and unknown outside." in said
    assert "Of 94 sets of the vignettes 20 are outside: age (14), not measured: spo2 (6)." in said
    assert "spo2, systolic bp" in page


@pytest.mark.usefixtures("undrawn")
def test_version_without_domain_or_examination_has_a_report_too(result):
    page = report({name: section for name, section in result.items() if name != "behaviour"} | {"domain": None})
    assert "Not examined." in page
    assert "carries no domain of use: the model speaks for every patient" in page
    assert Elements(page).open == []


@pytest.mark.usefixtures("undrawn")
def test_report_says_why_there_is_no_promise(result):
    spent = "the safety net alone sounds 0.83 of 0.5 alarms per patient-day, so none are left for the model"
    assert spent in report(result | {"made": result["made"] | {"no_promise": spent}})
