"""A hook for schemathesis that generates times of the years that the API accepts. JSON Schema cannot bound a time."""

from datetime import UTC, datetime

import schemathesis
from hypothesis import strategies as st

_YEARS = st.datetimes(datetime(1990, 1, 2), datetime(2099, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis' way

schemathesis.openapi.format("date-time", _YEARS.map(datetime.isoformat))
