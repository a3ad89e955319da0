"""The cases of the field: each has the outcome that is right."""

import pytest

from vigil.features.cases import CASES
from vigil.features.cases.case import Case
from vigil.features.cases.page import find_outcome
from vigil.features.observations import REASONS

ALL = [case for cases in CASES.values() for case in cases]


@pytest.mark.parametrize("case", ALL, ids=lambda case: f"{case.sent[0]['signal']}: {case.because}")
def test_case_of_the_field_has_its_outcome(case):
    assert find_outcome(case) == case.outcome


def test_every_reason_of_quarantine_has_a_case():
    assert {part for case in ALL for part in case.outcome} >= set(REASONS)


def test_no_case_is_there_twice():
    assert len({(repr(case.sent), repr(case.declared)) for case in ALL}) == len(ALL)


def test_find_outcome_tells_what_became_of_each_row():
    rows = (
        {"signal": "spo2", "value": value, "unit": "%", "observed_at": f"2026-03-01T0{n}:00:00Z"}
        for n, value in enumerate((98, 9))
    )
    assert find_outcome(Case(tuple(rows), (), "")) == ("spo2 98 % at 2026-03-01T00:00:00Z", "implausible")
