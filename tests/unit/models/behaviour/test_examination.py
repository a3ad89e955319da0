"""Examination: it runs every test, passes a sensible model with the safety net, and fails each kind of absurd model."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.support.synthetic_behaviour import VIEWS, level, logistic, ward
from vigil.models.assessment import assess
from vigil.models.behaviour.examination import MOST_TOO_HIGH, examine_behaviour, summarise_outcomes
from vigil.models.behaviour.vignettes import Outcome, load_vignettes

SECTIONS = ["vignettes", "worsening", "history", "removal", "removal_of_vignettes"]


@pytest.fixture(scope="module")
def cohort():
    return ward(patients=20)


class Model:
    """The part of a risk model that an assessment uses."""

    def __init__(self, risk):
        self.risk = risk

    def band(self, probability):
        return "high" if probability >= 0.3 else "medium" if probability >= 0.1 else "low"


def examined(risk, cohort, net=assess):
    return examine_behaviour(lambda rows: net(Model(risk), rows), risk, VIEWS, *cohort, at_most=120)


def passed(figures):
    return [section for section in figures if figures[section]["passed"]]


def test_examination_passes_a_sensible_model(cohort):
    figures = examined(level, cohort)
    assert list(figures) == SECTIONS
    assert passed(figures) == SECTIONS
    assert figures["removal_of_vignettes"]["high"] == 39  # seven acute emergencies with five histories, a steady one with four
    assert json.loads(json.dumps(figures)) == figures


def test_examination_fails_a_reversed_model(cohort):
    figures = examined(lambda rows: 1 - level(rows), cohort)
    assert not figures["worsening"]["passed"]
    assert not figures["vignettes"]["passed"]  # the well are called ill
    assert {failure["fault"] for failure in figures["vignettes"]["failed"]} == {"band_too_high"}


def test_examination_fails_a_model_of_change_alone(cohort):
    def of_change(rows):
        return logistic(-5 + rows["heart_rate_change_6h"].abs().fillna(0).to_numpy(float) / 8)

    figures = examined(of_change, cohort)
    assert not figures["history"]["passed"]
    assert figures["vignettes"]["passed"]  # the safety net holds with any model


def test_examination_fails_an_answer_without_the_safety_net(cohort):
    def model_alone(model, rows):
        bands = [model.band(p) for p in model.risk(rows)]
        return [replace(risk, band=band, net_score=None) for risk, band in zip(assess(model, rows), bands, strict=True)]

    figures = examined(lambda rows: np.full(len(rows), 0.01), cohort, model_alone)
    assert passed(figures) == [section for section in SECTIONS if section != "vignettes"]
    assert {failure["fault"] for failure in figures["vignettes"]["failed"]} == {"band_too_low"}


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
def test_summarise_outcomes_accepts_some_unnecessary_reviews_and_no_answer_that_is_too_low(faults, passes):
    library = load_vignettes()
    bounded = [v for v in library if v.at_most is not None]
    answers = [(vignette, history) for vignette in bounded for history in vignette.histories]
    assert len(answers) * MOST_TOO_HIGH == 8.75
    faults = [*faults, *[None] * (len(answers) - len(faults))]
    outcomes = [
        Outcome(vignette.name, history, vignette.expected, "", fault)
        for (vignette, history), fault in zip(answers, faults, strict=True)
    ]
    figures = summarise_outcomes(library, outcomes)
    assert figures["passed"] is passes
    assert figures["bounded"] == figures["shown"] == 35
    assert [failure["fault"] for failure in figures["failed"]] == [fault for fault in faults if fault is not None]
