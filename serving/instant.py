"""Times from outside: the one type that every door accepts."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator, Field


def _refuse_numbers(value: Any) -> Any:
    """Refuse a bare number, which pydantic would read as seconds or milliseconds since 1970, whichever seems likelier."""
    if isinstance(value, int | float) or (isinstance(value, str) and not re.match(r"\d{4}-\d{2}-\d{2}", value)):
        raise ValueError("expected an instant such as 2026-01-31T08:00:00Z")
    return value


# Instants outside of these years are slips of a clock, and would leave the range of pandas' times.
Instant = Annotated[
    AwareDatetime,
    BeforeValidator(_refuse_numbers),
    Field(ge=datetime(1990, 1, 1, tzinfo=UTC), lt=datetime(2100, 1, 1, tzinfo=UTC)),
]
