"""What may stand for a patient: what looks the same is the same."""

import re
import unicodedata

import pytest

from features.identifiers import IDENTIFIER, is_identifier


@pytest.mark.parametrize(
    "text", ["1", "mrn-1", "MRN 1", "sim-000017", "a~1", "Müller-3", "病床12", "пациент 7", "x" * 128, "p<b>[/]", "a'b\"c", "~"]
)
def test_what_can_be_seen_is_one(text):
    assert is_identifier(text)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "mrn-1 ", " mrn-1", "a\tb", "a\nb", "mrn-1\n", "a\x00b", "\u00a0", "a\u00a0b", "a\u200bb", "\u202eabc",
        "a\ufeff", "e\u0301", "a\x1b[31m", "a\u2028b", "\u3000", "a\u00adb",
    ],
)  # fmt: skip
def test_what_cannot_be_told_apart_is_none(text):
    assert not is_identifier(text)


def test_every_character_is_seen_and_of_one_spelling():
    one = re.compile(IDENTIFIER)
    taken = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000 and one.match(chr(code))]
    assert len(taken) > 30_000
    for character in taken:
        assert character.isprintable()
        assert unicodedata.is_normalized("NFC", character)
        assert not unicodedata.combining(character)
