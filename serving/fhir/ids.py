"""Ids of resources in URLs: opaque to everyone but this server, so that a log that holds one names no patient.

An id is one block of AES under a key of the home. It can be read back, so no table of ids is needed.
"""

import base64
import binascii
import hashlib
import hmac
from typing import Final, Literal

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

Kind = Literal["patient", "encounter", "observation", "sent", "ward"]

_BLOCK_BYTES: Final = 16
_KINDS: Final[dict[Kind, int]] = {  # the first byte of the block
    "patient": 0x50,
    "encounter": 0x45,
    "observation": 0x4F,
    "sent": 0x53,
    "ward": 0x57,
}
_CONTENT_BYTES: Final = _BLOCK_BYTES - 1
_PAD: Final = "======"  # of the 26 letters and digits that 16 bytes make in base 32


class ResourceIds:
    """The ids of one home.

    >>> ids = ResourceIds(b"k" * 32)
    >>> ids.of_subject("bfkwjlrkg7dxrhdl2qzwn3i4") == "bfkwjlrkg7dxrhdl2qzwn3i4"
    False
    >>> ids.subject(ids.of_subject("bfkwjlrkg7dxrhdl2qzwn3i4"))
    'bfkwjlrkg7dxrhdl2qzwn3i4'
    """

    def __init__(self, secret: bytes) -> None:
        """Use a secret of the home, of 32 bytes."""
        self._cipher = Cipher(algorithms.AES(secret[:16]), modes.ECB())  # noqa: S305 - each block is one id
        self._names_key = secret[16:]

    def of_subject(self, subject: str, kind: Literal["patient", "encounter"] = "patient") -> str:
        """Return the id of the Patient, or the Encounter, of a subject key: 26 letters and digits, twice for a stay."""
        return ".".join(self._seal(kind, base64.b32decode(part.upper())) for part in subject.split("~"))

    def subject(self, identity: str, kind: Literal["patient", "encounter"] = "patient") -> str | None:
        """Return the subject key of a Patient's or an Encounter's id; None: it is no such id."""
        parts = [self._unseal(kind, part) for part in identity.split(".", 1)]
        if any(part is None for part in parts):
            return None
        return "~".join(base64.b32encode(part or b"").decode().lower() for part in parts)

    def of_row(self, row: int) -> str:
        """Return the id of the Observation that a row of the journal is."""
        return self._seal("observation", row.to_bytes(_CONTENT_BYTES, "big"))

    def row(self, identity: str) -> int | None:
        """Return the row of the journal of an Observation's id; None: it is no such id."""
        content = self._unseal("observation", identity)
        row = None if content is None else int.from_bytes(content, "big")
        return row if row is not None and row < 2**63 else None

    def of_message(self, sender: str, name: str) -> str:
        """Return the id of an Observation that a sender names: the same, however often it is sent."""
        digest = hmac.digest(self._names_key, f"{len(sender)} {sender} {name}".encode("utf-8", "surrogatepass"), hashlib.sha256)
        return self._seal("sent", digest[:_CONTENT_BYTES])

    def of_ward(self, ward: str) -> str:
        """Return the id of the Group of a ward. It cannot be read back: wards are few, and their names may be long."""
        return self._seal("ward", hmac.digest(self._names_key, f"ward {ward}".encode(), hashlib.sha256)[:_CONTENT_BYTES])

    def _seal(self, kind: Kind, content: bytes) -> str:
        encryptor = self._cipher.encryptor()
        block = encryptor.update(bytes([_KINDS[kind]]) + content) + encryptor.finalize()
        return base64.b32encode(block).decode().rstrip("=").lower()

    def _unseal(self, kind: Kind, identity: str) -> bytes | None:
        try:
            block = base64.b32decode(identity.upper() + _PAD)
        except (binascii.Error, ValueError):
            return None
        if len(block) != _BLOCK_BYTES:
            return None
        decryptor = self._cipher.decryptor()
        content = decryptor.update(block) + decryptor.finalize()
        return content[1:] if content[0] == _KINDS[kind] else None
