"""Subject keys: pseudonyms that replace patient identifiers before data are stored, computed on, trained on or reported.

One keyed function serves the API and files, so that a patient has the same subject key in both. Without the key one can neither
find the patient of a subject key nor compute the subject key of a known identifier. The function is HMAC-SHA256 (Krawczyk H,
Bellare M, Canetti R. RFC 2104, 1997). 45 CFR 164.514(c) requires that a code is not derived from identifying information;
the secret key ensures this.
"""

import base64
import hmac
import re
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final, NewType

import pandas as pd

from vigil.features.errors import VigilError
from vigil.features.files import write_new

SubjectKey = NewType("SubjectKey", str)
"""Pseudonym of a subject, as stored in columns named ``subject_id``. A patient identifier is a plain ``str``."""

KEY_FILE: Final = "pseudonym.key"
CHECK_FILE: Final = "pseudonym.check"  # pseudonym of a fixed text; it shows whether the key has changed
KEY_BYTES: Final = 32
# Key of homes with simulated patients, or with patients that their publishers have de-identified. It is public on purpose:
# everyone gets the same pseudonyms, and so the same splits and the same figures. Its bytes must never change.
OPEN_KEY: Final = b"vigil: nobody is hidden by this."

_CHECK_TEXT: Final = "vigil: is this the key?"
_SUBJECT_KEY: Final = re.compile(r"[a-z2-7]{24}(~[a-z2-7]{24})?")  # of 15 bytes in base32, and those of the stay
_PSEUDONYM_BYTES: Final = 15  # 120 bits: among 10^9 patients, two share a pseudonym with a probability of 10^-18


class PseudonymError(VigilError):
    """The pseudonym key of a home cannot be used."""


class Pseudonyms:
    """The mapping from patient identifiers to subject keys under one key.

    >>> pseudonyms = Pseudonyms(OPEN_KEY)
    >>> pseudonyms.subject_key("sim-000017")
    'bfkwjlrkg7dxrhdl2qzwn3i4'
    >>> Pseudonyms(b"too short")
    Traceback (most recent call last):
    vigil.features.pseudonyms.PseudonymError: pseudonym key: 9 bytes; expected 32
    """

    def __init__(self, key: bytes) -> None:
        """Use a key of :data:`KEY_BYTES` bytes.

        Raises:
            PseudonymError: The key has another length.
        """
        if len(key) != KEY_BYTES:
            raise PseudonymError(f"pseudonym key: {len(key)} bytes; expected {KEY_BYTES}")
        self._key = key

    @property
    def is_open(self) -> bool:
        """Whether the key is the public :data:`OPEN_KEY`, which suits only simulated and published patients."""
        return hmac.compare_digest(self._key, OPEN_KEY)

    def derive(self, purpose: str) -> bytes:
        """Return a secret of 32 bytes for another purpose, from which the key cannot be found."""
        return hmac.digest(self._key, f"vigil: {purpose}".encode(), "sha256")

    def subject_key(self, identifier: str) -> SubjectKey:
        """Return the subject key of a patient identifier: 24 letters and digits.

        Some sources name a stay ``<patient>~<stay>``. Both parts are then replaced separately, so that stays of one patient
        can still be grouped (:func:`vigil.models.cohort.patient_of`).
        """
        patient, tilde, stay = identifier.partition("~")
        return SubjectKey(self._encode(patient) + (f"~{self._encode(identifier)}" if tilde and stay else ""))

    def subject_keys(self, identifiers: "pd.Series[str]") -> "pd.Series[str]":
        """Return the subject keys of a column of identifiers.

        The dtype is ``string[pyarrow]``, which needs little memory. A missing or empty identifier gives a missing value.
        """
        codes, uniques = pd.factorize(identifiers)
        keys = pd.array([self.subject_key(str(name)) if name != "" else pd.NA for name in uniques], dtype="string[pyarrow]")
        return pd.Series(keys.take(codes, allow_fill=True), index=identifiers.index, name=identifiers.name)

    def _encode(self, part: str) -> str:
        digest = hmac.digest(self._key, part.encode(), "sha256")[:_PSEUDONYM_BYTES]
        return base64.b32encode(digest).decode().lower()


def is_subject_key(text: str) -> bool:
    """Return whether a text has the form of a subject key.

    >>> is_subject_key("bfkwjlrkg7dxrhdl2qzwn3i4"), is_subject_key("MRN 4711")
    (True, False)
    """
    return _SUBJECT_KEY.fullmatch(text) is not None


def open_pseudonyms(home: Path, first: bytes | None = None) -> Pseudonyms:
    """Open the pseudonyms of a home, and create its key file if the home is new.

    Args:
        home: Home directory.
        first: Key for a home that has none yet. The default is a new random secret.

    Raises:
        PseudonymError: The key file is malformed, holds a different key than before, or is lost.
    """
    path, check = home / KEY_FILE, home / CHECK_FILE
    if not path.exists():
        # The second look at the path is needed: another process may have just created the key.
        if (check.exists() or _has_patients(home)) and not path.exists():
            raise PseudonymError(
                f"{path}: missing, while this home holds patients; a new key would turn each of them into two patients; "
                "restore the file from a backup"
            )
        write_new(path, (first or secrets.token_bytes(KEY_BYTES)).hex().encode(), 0o600)
    try:
        pseudonyms = Pseudonyms(bytes.fromhex(path.read_text().strip()))
    except (ValueError, PseudonymError):
        expected = f"expected {2 * KEY_BYTES} hexadecimal digits"
        raise PseudonymError(f"{path}: not a key; {expected}; restore the file from a backup") from None
    check_value = pseudonyms.subject_key(_CHECK_TEXT)
    if not check.exists():  # the home is new, or an earlier version created it
        write_new(check, check_value.encode(), 0o600)
    if check.read_text().strip() != check_value:
        raise PseudonymError(
            f"{path}: not the key that this home was made with; expected the one that {CHECK_FILE} belongs to; "
            "restore the file from a backup"
        )
    return pseudonyms


def _has_patients(home: Path) -> bool:
    """Return whether a home without a check value already holds patients. Earlier versions wrote no check value."""
    if (home / "cohort").exists():
        return True
    try:
        with closing(sqlite3.connect(f"{(home / 'identities.db').resolve().as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT 1 FROM identities LIMIT 1").fetchone() is not None
    except sqlite3.Error:  # there is no such database yet
        return False
