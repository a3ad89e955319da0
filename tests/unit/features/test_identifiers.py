"""Identifiers: texts that look the same are the same."""

import re
import unicodedata

import pytest

from vigil.features.identifiers import IDENTIFIER, is_identifier


@pytest.mark.parametrize(
    "text", ["1", "mrn-1", "MRN 1", "sim-000017", "a~1", "Müller-3", "病床12", "пациент 7", "x" * 128, "p<b>[/]", "a'b\"c", "~"]
)
def test_is_identifier_accepts_visible_text(text):
    assert is_identifier(text)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "mrn-1 ", " mrn-1", "a\tb", "a\nb", "mrn-1\n", "a\x00b", "\u00a0", "a\u00a0b", "a\u200bb", "\u202eabc",
        "a\ufeff", "e\u0301", "a\x1b[31m", "a\u2028b", "\u3000", "a\u00adb",
    ],
)  # fmt: skip
def test_is_identifier_rejects_invisible_and_ambiguous_text(text):
    assert not is_identifier(text)


def test_every_allowed_character_is_visible_and_has_one_encoding():
    pattern = re.compile(IDENTIFIER)
    allowed = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000 and pattern.match(chr(code))]
    assert len(allowed) > 30_000
    for character in allowed:
        assert character.isprintable()
        assert unicodedata.is_normalized("NFC", character)
        assert not unicodedata.combining(character)
