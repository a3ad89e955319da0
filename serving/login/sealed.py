"""Short-lived texts that this server hands out and takes back. Others can neither read nor change them.

They need no table, and any process of the server understands them. Fernet encrypts, authenticates and dates them.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from cryptography.fernet import Fernet, InvalidToken

_MOST_CHARACTERS: Final = 4_096


class Sealer:
    """Seals contents for one purpose; what was sealed for another does not open.

    >>> links = Sealer(b"a secret of the home", "links", seconds=60)
    >>> links.open(links.seal({"a": 1}))
    {'a': 1}
    >>> Sealer(b"a secret of the home", "codes", seconds=60).open(links.seal({"a": 1})) is None
    True
    """

    def __init__(
        self, secret: bytes, purpose: str, seconds: int, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Seal with a key of a secret and a purpose; what is older than some seconds does not open."""
        key = hmac.digest(secret, f"vigil {purpose}".encode(), hashlib.sha256)
        self._fernet = Fernet(base64.urlsafe_b64encode(key))
        self._clock = clock
        self.seconds = seconds

    def seal(self, content: dict[str, Any]) -> str:
        """Return a content as a text of letters, digits, ``-`` and ``_``."""
        sealed = self._fernet.encrypt_at_time(json.dumps(content).encode(), int(self._clock().timestamp()))
        return sealed.decode().rstrip("=")  # which a cookie would have to quote

    def open(self, text: str) -> dict[str, Any] | None:
        """Return the content of a text; None: it was not sealed here for this purpose, or is too old."""
        if len(text) > _MOST_CHARACTERS or not text.isascii():
            return None
        try:
            padded = f"{text}{'=' * (-len(text) % 4)}".encode()
            content: dict[str, Any] = json.loads(
                self._fernet.decrypt_at_time(padded, self.seconds, int(self._clock().timestamp()))
            )
        except InvalidToken:
            return None
        return content
