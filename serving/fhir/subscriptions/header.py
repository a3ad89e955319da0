"""The header that an endpoint wants, such as its password: checked, encrypted where it is stored, and never shown again."""

import json
import os
import re
from collections.abc import Sequence
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vigil.serving.fhir.outcomes import FhirError

PURPOSE: Final = "headers of subscriptions"  # of the secret that encrypts them
_LINE: Final = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}): ?([!-~](?:[ -~]{0,4000}[!-~])?)", flags=re.ASCII)
_MOST: Final = 20
_NONCE_BYTES: Final = 12
# What describes the message itself, or the connection, is the client's business that sends it.
_OURS: Final = frozenset(
    [
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    ]
)
_PATH: Final = "Subscription.channel.header"


def check_header(lines: Any) -> list[str]:
    """Return the lines of a header as a client sent them.

    Raises:
        FhirError: one of them is none (422). The text does not repeat it.
    """
    if not isinstance(lines, list) or len(lines) > _MOST or not all(isinstance(line, str) for line in lines):
        raise FhirError(422, f"header: expected at most {_MOST} lines of text", [_PATH])
    for position, line in enumerate(lines):
        match = _LINE.fullmatch(line)
        if match is None or match[1].lower() in _OURS:
            expected = "NAME: VALUE of printable ASCII; not one that describes the message, such as Content-Type or Host"
            raise FhirError(422, f"header: expected {expected}", [f"{_PATH}[{position}]"])
    return lines


def seal_header(secret: bytes, lines: Sequence[str]) -> bytes:
    """Return the lines of a header, encrypted under a secret of the home."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(secret).encrypt(nonce, json.dumps(list(lines)).encode(), None)


def open_header(secret: bytes, sealed: bytes | None) -> list[tuple[str, str]] | None:
    """Return name and value of each line; None: they were encrypted under another secret.

    >>> open_header(b"k" * 32, seal_header(b"k" * 32, ["Authorization: Bearer abc"]))
    [('Authorization', 'Bearer abc')]
    """
    if sealed is None:
        return []
    try:
        lines = json.loads(AESGCM(secret).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None))
    except InvalidTag:
        return None
    pairs = [line.partition(":") for line in lines]
    return [(name, value.strip()) for name, _, value in pairs]
