"""The one form of an error."""

from typing import Any

from pydantic import BaseModel


class Problem(BaseModel):
    """An error (RFC 9457). It names the field, the rule, what was expected and what to do; never the value."""

    title: str
    status: int
    code: str
    detail: str
    errors: list[dict[str, Any]] = []
