"""Facts of a patient as the API takes them: what is unknown may be said, and what cannot be true is refused."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from vigil.serving.api.schemas.request import PatientFacts


@pytest.mark.parametrize(("sex", "code"), [("female", 0.0), ("male", 1.0), ("other", None), ("unknown", None), (None, None)])
def test_sex_is_a_code_of_hl7_and_a_feature_where_it_is_one(sex, code):
    assert PatientFacts(sex=sex).registration().sex == code


@pytest.mark.parametrize("name", ["unit_admitted_at", "hospital_admitted_at"])
def test_admission_in_the_future_is_refused(name):
    now = datetime.now(UTC)
    with pytest.raises(ValidationError, match="at or before the present of the server") as refused:
        PatientFacts(**{name: "2099-11-01T00:00:00Z"})
    assert "2099" not in str(refused.value)
    assert getattr(PatientFacts(**{name: now + timedelta(seconds=2)}), name) > now  # clocks differ by seconds
    assert getattr(PatientFacts(**{name: now - timedelta(days=2)}), name) < now


@pytest.mark.parametrize("age", [-1, 131, 600, float("nan")])
def test_impossible_age_is_refused(age):
    with pytest.raises(ValidationError):
        PatientFacts(age=age)
