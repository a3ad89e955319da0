"""The change control plan: it is complete and checked, and the strongest action of the rules that apply is taken."""

from importlib import resources

import pandas as pd
import pytest

from vigil.models.monitoring.change_control_plan import FILE, PlanError, check_plan, read_plan
from vigil.models.monitoring.detectors import Finding
from vigil.models.monitoring.faults import FAULTS

TEXT = resources.files("vigil.models.monitoring").joinpath(FILE).read_text()


def finding(fault, affected=3, where=()):
    return Finding(
        fault, None, "gateway" if where else "ward", where, pd.Timestamp("2026-01-01", tz="UTC"), affected, 40, "seen"
    )


@pytest.fixture(scope="module")
def plan():
    return check_plan(TEXT, FILE)


@pytest.mark.parametrize("fault", FAULTS)
def test_plan_has_an_answer_to_every_fault(plan, fault):
    action, rules = plan.decide([finding(fault)], {"patients": 40.0})
    assert action != "none"
    assert all(rule.because for rule in rules)


@pytest.mark.parametrize(
    ("findings", "figures", "action"),
    [
        ([], {}, "none"),
        ([], {"columns_share": 0.29, "prediction_drifted": 0.0}, "none"),
        ([], {"columns_share": 0.3}, "warn"),
        ([], {"prediction_drifted": 1.0}, "warn"),
        ([finding("fahrenheit", 10)], {"patients": 40.0}, "warn"),
        ([finding("fahrenheit", 20)], {"patients": 40.0}, "withdraw"),
        ([finding("fahrenheit", 8, (gateway,)) for gateway in "abc"], {"patients": 40.0}, "withdraw"),  # 60 % of the ward
        ([finding("fahrenheit", 12, ("a",)), finding("stuck", 12, ("a",))], {"patients": 40.0}, "warn"),  # maybe the same
        ([finding("late", 40)], {"patients": 40.0}, "warn"),
        ([finding("prevalence")], {"patients": 40.0}, "recalibrate"),
        ([finding("prevalence"), finding("concept")], {"patients": 40.0}, "withdraw"),
        ([finding("case_mix")], {"estimated_auroc_lost": 0.04}, "warn"),
        ([finding("case_mix")], {"estimated_auroc_lost": 0.06}, "retrain"),
        ([], {"estimated_auroc_lost": 0.2}, "none"),  # an estimate alone is no reason
        ([], {"auroc_lost": 0.11}, "withdraw"),
        ([], {"auroc_lost": 0.09}, "none"),
        ([finding("version_mismatch", 3)], {"patients": 40.0}, "warn"),
        ([finding("version_mismatch", 30)], {"patients": 40.0}, "withdraw"),
    ],
)
def test_plan_decides_for_the_strongest_action(plan, findings, figures, action):
    assert plan.decide(findings, figures)[0] == action


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("faults: [prevalence]", "faults: [prevalense]", "rules.5.when.faults: prevalense: no such fault"),
        ("faults: [prevalence]", "faults: [late]", "rules: none for prevalence alone; expected an answer to every fault"),
        ("then: recalibrate", "then: relax", "rules.5.then: Input should be 'warn', 'recalibrate', 'retrain' or 'withdraw'"),
        ("version: 1", "version: 2", "version: Input should be 1"),
        ("when: {columns_share: 0.3}", "when: {columns_share: 30}", "rules.11.when.columns_share"),
        ("when: {columns_share: 0.3}", "when: {}", "no condition; expected at least one"),
        ("when: {columns_share: 0.3}", "when: {share_of_patients: 0.3}", "share_of_patients without faults"),
        ("when: {auroc_lost: 0.1}", "when: {auroc_lots: 0.1}", "rules.2.when.auroc_lots: Extra inputs are not permitted"),
        ("  withdraw:\n", "  withdrew:\n", "actions.withdrew"),
    ],
)
def test_check_plan_names_the_wrong_field(before, after, message):
    assert before in TEXT
    with pytest.raises(PlanError, match=rf"^pccp\.yaml: .*{message.replace('(', '.').replace(')', '.')}"):
        check_plan(TEXT.replace(before, after), FILE)


@pytest.mark.parametrize("text", ["", "version: 1\nrules: [", "- a list", TEXT[:900]])
def test_check_plan_refuses_a_half_written_file(text):
    with pytest.raises(PlanError, match=r"^x\.yaml: "):
        check_plan(text, "x.yaml")


@pytest.mark.parametrize("line", ["version: 1", "then: withdraw"])
def test_check_plan_refuses_a_repeated_key_and_names_its_line(line):
    key = line.partition(":")[0]
    lines = TEXT.splitlines()
    first = next(n for n, text in enumerate(lines) if text.strip(" -").startswith(f"{key}:"))
    indent = lines[first].index(key)
    lines.insert(first + 1, " " * indent + line)
    with pytest.raises(PlanError, match=rf"^pccp\.yaml: no YAML, line {first + 2}; a key is repeated"):
        check_plan("\n".join(lines), FILE)


def test_read_plan_prefers_the_plan_of_the_home(tmp_path):
    assert read_plan(tmp_path) == check_plan(TEXT, FILE)
    (tmp_path / FILE).write_text(TEXT.replace("columns_share: 0.3", "columns_share: 0.2"))
    assert read_plan(tmp_path).decide([], {"columns_share": 0.25})[0] == "warn"
