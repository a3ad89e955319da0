"""The examination asks everything, passes a sane model with the safety net, and fails each kind of absurdity."""

import json
from dataclasses import replace

import numpy as np
import pytest

from models.assessment import assess
from models.behaviour.examination import MOST_TOO_HIGH, examine_behaviour, summary
from models.behaviour.vignettes import Outcome, load
from tests.models.behaviour.made_up import VIEWS, level, logistic, ward

SECTIONS = ["vignettes", "worsening", "history", "removal", "removal_of_vignettes"]


@pytest.fixture(scope="module")
def cohort():
    return ward(patients=20)


class Model:
    """As much of a risk model as an assessment asks for."""

    def __init__(self, risk):
        self.risk = risk

    def band(self, probability):
        return "high" if probability >= 0.3 else "medium" if probability >= 0.1 else "low"


def examined(risk, cohort, net=assess):
    return examine_behaviour(lambda rows: net(Model(risk), rows), risk, VIEWS, *cohort, at_most=120)


def passed(figures):
    return [section for section in figures if figures[section]["passed"]]


def test_examination_passes_a_sane_model(cohort):
    found = examined(level, cohort)
    assert list(found) == SECTIONS
    assert passed(found) == SECTIONS
    assert found["removal_of_vignettes"]["high"] == 39  # seven acute emergencies with five histories, a steady one with four
    assert json.loads(json.dumps(found)) == found


def test_examination_fails_a_model_upside_down(cohort):
    found = examined(lambda rows: 1 - level(rows), cohort)
    assert not found["worsening"]["passed"]
    assert not found["vignettes"]["passed"]  # the well are called ill
    assert {failure["fault"] for failure in found["vignettes"]["failed"]} == {"band_too_high"}


def test_examination_fails_a_model_of_change_alone(cohort):
    def of_change(rows):
        return logistic(-5 + rows["heart_rate_change_6h"].abs().fillna(0).to_numpy(float) / 8)

    found = examined(of_change, cohort)
    assert not found["history"]["passed"]
    assert found["vignettes"]["passed"]  # the safety net holds whatever a model says


def test_examination_fails_an_answer_without_the_safety_net(cohort):
    def model_alone(model, rows):
        bands = [model.band(p) for p in model.risk(rows)]
        return [replace(risk, band=band, net_score=None) for risk, band in zip(assess(model, rows), bands, strict=True)]

    found = examined(lambda rows: np.full(len(rows), 0.01), cohort, model_alone)
    assert passed(found) == [section for section in SECTIONS if section != "vignettes"]
    assert {failure["fault"] for failure in found["vignettes"]["failed"]} == {"band_too_low"}


@pytest.mark.parametrize(
    ("faults", "passes"),
    [
        (["band_too_high"] * 8, True),
        (["band_too_high"] * 9, False),
        (["band_too_low"], False),
        (["alarm"], False),
        (["findings"], False),
    ],
)
def test_summary_forgives_some_reviews_too_many_and_no_answer_that_is_too_low(faults, passes):
    library = load()
    bounded = [v for v in library if v.at_most is not None]
    shown = [(vignette, history) for vignette in bounded for history in vignette.histories]
    assert len(shown) * MOST_TOO_HIGH == 8.75
    faults = [*faults, *[None] * (len(shown) - len(faults))]
    outcomes = [
        Outcome(vignette.name, history, vignette.expected, "", fault)
        for (vignette, history), fault in zip(shown, faults, strict=True)
    ]
    found = summary(library, outcomes)
    assert found["passed"] is passes
    assert found["bounded"] == found["shown"] == 35
    assert [failure["fault"] for failure in found["failed"]] == [fault for fault in faults if fault is not None]
