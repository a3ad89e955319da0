"""The rule for identifiers of patients, messages, devices and sources. Every interface applies the same rule.

Two identifiers that look the same must be the same. A leading or trailing space, an invisible character, or a letter in two
encodings (Unicode NFC and NFD) would turn one patient into two.
"""

import re
from typing import Final

# Allowed: letters as single NFC characters of the Latin, Greek, Cyrillic, Hebrew, Arabic, Japanese, Chinese and Korean scripts,
# digits, and signs. A plain space is allowed inside only. Not allowed: combining and invisible characters, direction marks,
# control characters, and other spaces.
_VISIBLE: Final = (
    "!-~\u00a1-\u00ac\u00ae-\u02af\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u0482\u048a-\u052f\u05d0-\u05ea\u0621-\u063a"
    "\u0641-\u064a\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3"
)
IDENTIFIER: Final = f"^[{_VISIBLE}]([ {_VISIBLE}]*[{_VISIBLE}])?$"

_match: Final = re.compile(IDENTIFIER.removesuffix("$")).fullmatch


def is_identifier(text: str) -> bool:
    """Return whether a text is a valid identifier.

    >>> is_identifier("MRN 4711")
    True
    >>> is_identifier("MRN 4711 ")
    False
    """
    return _match(text) is not None
