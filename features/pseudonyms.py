"""Identifiers end at the edge: a pseudonym takes the place of each before anything is kept, computed, trained or reported.

One keyed function for readings that come over the API and for those of files, so that a patient is the same in both. Whoever
lacks the key can neither tell whose a pseudonym is nor make one from an identifier he knows (HMAC-SHA256: Krawczyk H, Bellare
M, Canetti R. RFC 2104, 1997; 45 CFR 164.514(c): a code must not be derived from what identifies, unless by a secret).
"""

import base64
import hmac
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import pandas as pd

from features.errors import VigilError
from features.files import write_new

KEY_FILE: Final = "pseudonym.key"
CHECK_FILE: Final = "pseudonym.check"  # the pseudonym of a fixed text: tells whether the key is still the same
KEY_BYTES: Final = 32
# Of homes whose patients are simulated or were de-identified by those who published them. It keeps no secret, and lets
# everybody see the same pseudonyms, so the same splits and the same figures.
OPEN_KEY: Final = b"vigil: nobody is hidden by this."

_CHECKED: Final = "vigil: is this the key?"
_PSEUDONYM_BYTES: Final = 15  # 120 bits: two patients of a billion share one with a chance of one in 10^18


class PseudonymError(VigilError):
    """The key of this home cannot be used."""


class Pseudonyms:
    """The pseudonyms of one key."""

    def __init__(self, key: bytes) -> None:
        """Begin with a secret of :data:`KEY_BYTES` bytes."""
        if len(key) != KEY_BYTES:
            raise PseudonymError(f"pseudonym key: {len(key)} bytes; expected {KEY_BYTES}")
        self._key = key

    @property
    def is_open(self) -> bool:
        """Whether everybody knows the key: good for simulated and published patients only."""
        return hmac.compare_digest(self._key, OPEN_KEY)

    def of(self, identifier: str) -> str:
        """The pseudonym of an identifier: 24 letters and digits.

        Where a source names a stay ``<patient>~<stay>`` the parts are replaced one by one, so that stays of one patient still
        are seen to be his (:func:`models.cohort.patient_of`).
        """
        patient, tilde, stay = identifier.partition("~")
        return self._code(patient) + (f"~{self._code(identifier)}" if tilde and stay else "")

    def of_each(self, identifiers: "pd.Series[str]") -> "pd.Series[str]":
        """Those of a column, of a dtype that takes little room; what is missing or empty is missing."""
        codes, uniques = pd.factorize(identifiers)
        found = pd.array([self.of(str(name)) if name != "" else pd.NA for name in uniques], dtype="string[pyarrow]")
        return pd.Series(found.take(codes, allow_fill=True), index=identifiers.index, name=identifiers.name)

    def _code(self, part: str) -> str:
        digest = hmac.digest(self._key, part.encode(), "sha256")[:_PSEUDONYM_BYTES]
        return base64.b32encode(digest).decode().lower()


def open_pseudonyms(home: Path, first: bytes | None = None) -> Pseudonyms:
    """Those of a home, by its key file.

    Args:
        home: whose.
        first: the key that a home without one is given; default: a secret of its own.

    Raises:
        PseudonymError: the file holds no key, or another one than before, or is gone.
    """
    path, check = home / KEY_FILE, home / CHECK_FILE
    if not path.exists():
        if (check.exists() or _holds_anybody(home)) and not path.exists():  # still not: another may just have made it
            raise PseudonymError(
                f"{path}: missing, while this home holds patients; with another key each of them would become two; restore it "
                "from a backup"
            )
        write_new(path, (first or secrets.token_bytes(KEY_BYTES)).hex().encode(), 0o600)
    try:
        found = Pseudonyms(bytes.fromhex(path.read_text().strip()))
    except (ValueError, PseudonymError):
        expected = f"expected {2 * KEY_BYTES} hexadecimal digits"
        raise PseudonymError(f"{path}: not a key; {expected}; restore it from a backup") from None
    if not check.exists():  # of a home that is new, or of an earlier version
        write_new(check, found.of(_CHECKED).encode(), 0o600)
    if check.read_text().strip() != found.of(_CHECKED):
        raise PseudonymError(
            f"{path}: not the key that this home was made with, as {CHECK_FILE} says; restore it from a backup"
        )
    return found


def _holds_anybody(home: Path) -> bool:
    """Whether a home of an earlier version, which kept no check value, was made with some key."""
    if (home / "cohort").exists():
        return True
    try:
        with closing(sqlite3.connect(f"{(home / 'identities.db').resolve().as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT 1 FROM identities LIMIT 1").fetchone() is not None
    except sqlite3.Error:  # there is none yet
        return False
