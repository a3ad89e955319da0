"""What an identifier may look like: of a patient, a message, a device or a source; alike at every door.

Two identifiers that look the same must be the same: a blank at an end, a character that nobody sees, or a letter in two
spellings (Unicode NFC and NFD) would make two patients of one.
"""

import re
from typing import Final

# Letters as single characters, in the spelling of NFC, of Latin, Greek, Cyrillic, Hebrew, Arabic, Japanese, Chinese and Korean;
# digits and signs. No combining, invisible or direction marks, no control characters, no blank but the plain one within.
_VISIBLE: Final = (
    "!-~\u00a1-\u00ac\u00ae-\u02af\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u0482\u048a-\u052f\u05d0-\u05ea\u0621-\u063a"
    "\u0641-\u064a\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3"
)
IDENTIFIER: Final = f"^[{_VISIBLE}]([ {_VISIBLE}]*[{_VISIBLE}])?$"

_is_one: Final = re.compile(IDENTIFIER.removesuffix("$")).fullmatch


def is_identifier(text: str) -> bool:
    """Whether a text can stand for one thing only."""
    return _is_one(text) is not None
