"""The fields of a form that a browser, or a client of OAuth, sends."""

from typing import Final
from urllib.parse import parse_qsl

from fastapi import Request

_FORM: Final = "application/x-www-form-urlencoded"
_MOST_BYTES: Final = 32 * 1024
_MOST_FIELDS: Final = 50


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form; empty where the body is none, or says one thing twice."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        return {}
    body = await request.body()
    if len(body) > _MOST_BYTES:
        return {}
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        return {}
    return dict(pairs) if len(dict(pairs)) == len(pairs) else {}
