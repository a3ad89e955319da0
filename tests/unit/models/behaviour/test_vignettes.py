"""Vignettes: the library agrees with the chart, records have the stated history, and answers are compared with expectations."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from tests.support.synthetic_behaviour import VIEWS
from vigil.features.scores import NEWS2_BANDS, compute_score
from vigil.models.assessment import Finding, assess
from vigil.models.behaviour.vignettes import (
    HISTORIES,
    SHOWN_AT,
    Vignette,
    VignetteError,
    build_records,
    build_rows,
    evaluate_vignettes,
    load_vignettes,
)

LIBRARY = load_vignettes()
BY_NAME = {vignette.name: vignette for vignette in LIBRARY}
EMERGENCIES = {
    "septic_shock", "opioid_overdose", "haemorrhagic_shock", "complete_heart_block", "severe_asthma", "hypothermia",
}  # fmt: skip
QUIET = {"silent_hypoxia", "hypoglycaemia", "hyperkalaemic_bradycardia", "stroke_with_hypertension"}
UNUSUAL_BUT_WELL = {
    "athlete",
    "copd_on_target",
    "panic_attack",
    "febrile_at_16",
    "febrile_but_well",
    "pregnancy",
    "child_of_two",
}

ONE = """
[[vignette]]
name = "one"
title = "One"
age = 50
news2 = 3
at_least = "medium"
histories = ["none"]
source = "RCP 2017"
signs = {{ heart_rate = 36 }}
{more}
"""


def by_component(vignette):
    values = {signal: np.array([vignette.signs.get(signal, np.nan)]) for signal in NEWS2_BANDS}
    return {name: value.item() for name, value in compute_score("news2", NEWS2_BANDS, values).items()}


def file_of(tmp_path, text):
    path = tmp_path / "some.toml"
    path.write_text(text)
    return path


def without_model(frame):
    return assess(None, frame)


def test_library_holds_the_required_presentations():
    assert EMERGENCIES | QUIET | UNUSUAL_BUT_WELL | {"pulmonary_oedema", "palliative_care"} <= set(BY_NAME)


@pytest.mark.parametrize("vignette", LIBRARY, ids=lambda vignette: vignette.name)
def test_vignette_states_the_news2_of_its_signs(vignette):
    components = by_component(vignette)
    assert (components["news2"], components["news2_highest"]) == (vignette.news2, vignette.news2)  # every component is known


@pytest.mark.parametrize("vignette", LIBRARY, ids=lambda vignette: vignette.name)
def test_vignette_expects_the_response_of_the_chart(vignette):
    """RCP 2017, chart 2, where NEWS2 applies: 7 is an emergency, 5 or a single 3 requires an urgent review."""
    components = by_component(vignette)
    worst = max(components[f"news2_{signal}"] for signal in NEWS2_BANDS)
    if vignette.pregnant or vignette.age < 16:
        assert (vignette.at_least, vignette.alarm) == (None, False)
        assert vignette.findings
    elif vignette.news2 >= 7:
        assert (vignette.at_least, vignette.alarm) == ("high", True)
    elif vignette.news2 >= 5 or worst == 3:
        assert vignette.at_least == "medium"
        assert not vignette.alarm
    else:
        assert vignette.at_most in {"low", "medium"}
        assert vignette.alarm is False


def test_library_emergencies_have_seven_points_and_quiet_ones_fewer():
    assert all(BY_NAME[name].news2 >= 7 for name in EMERGENCIES)
    assert all(BY_NAME[name].news2 < 7 for name in QUIET)


def test_library_expects_only_findings_that_exist():
    assert {finding for vignette in LIBRARY for finding in vignette.findings} <= set(get_args(Finding))


def test_library_tries_acute_vignettes_with_every_history_and_steady_ones_without_a_lead():
    for vignette in LIBRARY:
        assert set(vignette.histories) == set(HISTORIES) - ({"short_leading"} if vignette.steady else set())


@pytest.mark.parametrize(
    ("history", "hours", "heart_rates"),
    [
        ("none", [0], [36]),
        # The measurement error is 5 /min: half of it up or down in turn.
        ("short_constant", [5, 4, 3, 2, 1, 0], [38.5, 33.5, 38.5, 33.5, 38.5, 36]),
        # From 76 by 8 an hour.
        ("short_leading", [5, 4, 3, 2, 1, 0], [78.5, 65.5, 62.5, 49.5, 46.5, 36]),
        ("long_spaced", [12, 0], [73.5, 36]),
        ("long_hourly", list(range(24, -1, -1)), [*[73.5, 78.5] * 12, 36]),
    ],
)
def test_build_records_gives_the_history_of_its_name(history, hours, heart_rates):
    observations, index = build_records([BY_NAME["hyperkalaemic_bradycardia"]], history)
    pulse = observations[observations["signal"] == "heart_rate"]
    assert ((SHOWN_AT - pulse["observed_at"]) / pd.Timedelta(hours=1)).tolist() == hours
    assert pulse["value"].tolist() == heart_rates
    assert observations.groupby("observed_at").size().eq(9).all()  # seven components, diastolic pressure, potassium
    assert index["unit_admitted_at"].item() == SHOWN_AT - pd.Timedelta(hours=hours[0])


def test_build_records_gives_whole_codes_towards_the_last_set():
    observations, _ = build_records([BY_NAME["opioid_overdose"]], "short_leading")
    assert observations.loc[observations["signal"] == "consciousness", "value"].tolist() == [0, 1, 1, 2, 2, 3]


def test_build_records_leaves_out_vignettes_without_the_history():
    _, index = build_records(LIBRARY, "short_leading")
    assert set(index["subject_id"]) == {vignette.name for vignette in LIBRARY if not vignette.steady}


@pytest.mark.parametrize("history", HISTORIES)
def test_build_rows_holds_the_last_set_with_every_history(history):
    built = build_rows(LIBRARY, history, VIEWS).set_index("subject_id")
    for name, row in built.iterrows():
        vignette = BY_NAME[name]
        assert (row["news2"], row["news2_sustained"], row["age"]) == (vignette.news2, vignette.news2, vignette.age)
        assert row["pregnant"] == vignette.pregnant
        for signal in NEWS2_BANDS:
            assert row[f"{signal}_last_24h"] == np.float32(vignette.signs[signal])


def test_evaluate_vignettes_accepts_every_answer_of_news2_alone():
    outcomes = evaluate_vignettes(without_model, LIBRARY, VIEWS)
    assert [outcome for outcome in outcomes if not outcome.passed] == []
    assert len(outcomes) == sum(len(vignette.histories) for vignette in LIBRARY)


def test_evaluate_vignettes_finds_an_answer_that_hides_an_emergency():
    def reassuring(frame):
        return [replace(risk, band="low") for risk in without_model(frame)]

    failed = [outcome for outcome in evaluate_vignettes(reassuring, LIBRARY, VIEWS) if not outcome.passed]
    assert {outcome.vignette for outcome in failed} == {v.name for v in LIBRARY if v.at_least is not None}
    assert {outcome.fault for outcome in failed} == {"band_too_low"}
    septic = next(outcome for outcome in failed if outcome.vignette == "septic_shock")
    assert septic.expected == "band at least high, an alarm by NEWS2"
    assert septic.found == "band low, an alarm by NEWS2, no_model"


def test_evaluate_vignettes_finds_an_answer_that_calls_every_patient_ill():
    def alarmist(frame):
        return [replace(risk, band="high") for risk in without_model(frame)]

    failed = [outcome for outcome in evaluate_vignettes(alarmist, LIBRARY, VIEWS) if not outcome.passed]
    assert {outcome.vignette for outcome in failed} == {v.name for v in LIBRARY if v.at_most is not None}
    assert {outcome.fault for outcome in failed} == {"band_too_high"}


def test_evaluate_vignettes_finds_an_alarm_where_news2_does_not_apply():
    def for_adults_only(frame):
        return assess(None, frame.assign(age=50.0, pregnant=0.0))

    failed = {
        outcome.vignette: outcome for outcome in evaluate_vignettes(for_adults_only, LIBRARY, VIEWS) if not outcome.passed
    }
    assert set(failed) == {"pregnancy", "child_of_two"}
    assert failed["pregnancy"].fault == "alarm"
    assert failed["pregnancy"].expected == "band at most medium, no alarm by NEWS2, news2_not_in_pregnancy"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, None),
        ({"band": "unknown"}, "band_too_low"),
        ({"band": "high"}, "band_too_high"),
        ({"net_score": 7}, "alarm"),
        ({"findings": ()}, "findings"),
        ({"band": "low", "net_score": 7, "findings": ()}, "band_too_low"),
    ],
)
def test_fault_is_the_most_dangerous_one(changes, fault):
    vignette = Vignette(
        name="one", title="One", age=50, signs={"spo2": 90}, news2=3, at_least="medium", at_most="medium", alarm=False,
        findings=("no_model",), histories=("none",), source="RCP 2017",
    )  # fmt: skip
    (risk,) = without_model(build_rows([vignette], "none", VIEWS))
    assert risk.band == "medium"
    assert vignette.fault_of(replace(risk, **changes)) == fault


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[vignette]", r"some.toml: cannot be read \(TOMLDecodeError\); expected TOML with \[\[vignette\]\]"),
        ("", "some.toml: vignette .*Field required"),
        (ONE.format(more="colour = 1"), "vignette.0.colour .*Extra inputs are not permitted"),
        (
            ONE.format(more="").replace("heart_rate", "pulse"),
            "signs: pulse is no signal; expected names of",
        ),
        (ONE.format(more="").replace("36", "360"), "signs.heart_rate is implausible; expected 20 to 300 /min"),
        (ONE.format(more="").replace("heart_rate = 36", "lactate = 4"), "signs.lactate has no value of a well adult"),
        (ONE.format(more="").replace('at_least = "medium"', ""), "nothing is expected; expected at_least, at_most, alarm"),
        (ONE.format(more="").replace('"medium"', '"severe"'), "vignette.0.at_least .*Input should be 'unknown', 'low'"),
        (ONE.format(more='at_most = "low"'), "at_least is above at_most"),
        (ONE.format(more="steady = true").replace('"none"', '"short_leading"'), "short_leading of steady signs"),
        (ONE.format(more="").replace('["none"]', "[]"), "vignette.0.histories"),
        (ONE.format(more="").replace('source = "RCP 2017"', ""), "vignette.0.source .*Field required"),
        (ONE.format(more="") * 2, "name: one occurs twice; expected each name once; rename one"),
    ],
)
def test_load_vignettes_refuses_an_unusable_library(tmp_path, text, message):
    with pytest.raises(VignetteError, match=message) as caught:
        load_vignettes(file_of(tmp_path, text))
    assert "360" not in str(caught.value)


def test_load_vignettes_names_a_missing_file(tmp_path):
    with pytest.raises(VignetteError, match="gone.toml: cannot be read"):
        load_vignettes(tmp_path / "gone.toml")
