"""For schemathesis: JSON Schema cannot bound an instant, so those it makes are of the years that the API takes."""

from datetime import UTC, datetime

import schemathesis
from hypothesis import strategies as st

_YEARS = st.datetimes(datetime(1990, 1, 2), datetime(2099, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis' way

schemathesis.openapi.format("date-time", _YEARS.map(datetime.isoformat))
