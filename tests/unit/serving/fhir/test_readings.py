"""What goes out as an Observation comes in as the same reading."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigil.features.measures import name_signal
from vigil.features.signals import BOUNDS, STORED, measured_signal
from vigil.serving.fhir.observations import ObservationMapper
from vigil.serving.fhir.readings import to_observation
from vigil.serving.records.journal_readings import StoredReading

DAY = 86_400_000_000


@st.composite
def readings(draw, name):
    signal = STORED[name]
    steps = draw(st.integers(round(signal.low * signal.steps_per_unit), round(signal.high * signal.steps_per_unit)))
    at = draw(st.integers(0, 30_000 * DAY))
    return StoredReading(1, "s", name, at, steps / signal.steps_per_unit, at + DAY, "monitor-1", "gateway-7", b"", None, None)


@pytest.mark.parametrize("name", STORED)
@given(data=st.data())
def test_an_observation_is_the_inverse_of_reading_it(name, data):
    reading = data.draw(readings(name))
    resource = to_observation("o1", [reading], "Patient/12", version=1, updated_at=reading.recorded_at, status="final")
    mapped = ObservationMapper({"Patient/12": "12"}.get, {}, "id").map(resource)
    assert (mapped.refusals, mapped.observed_at, mapped.device_id) == ([], reading.observed_at, "monitor-1")
    (read,) = mapped.readings
    assert name_signal(read.signal) == measured_signal(name)
    assert (read.value, read.comparator) == (reading.value, SIDES.get(name))


SIDES = {name: "<=" if name.endswith("_below_range") else ">=" for name in BOUNDS}
