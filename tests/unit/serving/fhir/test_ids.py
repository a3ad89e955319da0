"""Ids in URLs: they tell nothing, can be read back, and differ between homes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigil.features.pseudonyms import Pseudonyms
from vigil.serving.fhir.ids import ResourceIds

IDS, OTHER = ResourceIds(b"a" * 32), ResourceIds(b"b" * 32)
ROWS = st.integers(0, 2**63 - 1)


@given(st.text(min_size=1, max_size=40).filter(lambda text: "~" not in text), st.booleans())
def test_patient_comes_back_and_is_not_the_subject_key(name, is_stay):
    subject = Pseudonyms(b"k" * 32).subject_key(f"{name}~stay" if is_stay else name)
    identity = IDS.of_subject(subject)
    assert IDS.subject(identity) == subject
    assert not {*subject.split("~")} & {*identity.split(".")}
    assert len(identity) <= 64
    assert identity.replace(".", "").isalnum()


@given(ROWS)
def test_row_comes_back_and_rows_in_turn_are_unlike(row):
    identity = IDS.of_row(row)
    assert IDS.row(identity) == row
    assert identity[:6] != IDS.of_row(row + 1 if row < 2**63 - 1 else 0)[:6]


@given(ROWS)
def test_an_id_means_nothing_in_another_home_or_for_another_kind(row):
    identity = IDS.of_row(row)
    assert OTHER.row(identity) != row
    assert IDS.subject(identity) is None


@pytest.mark.parametrize("identity", ["", "p", "x" * 26, "a" * 25, "a" * 27, "ä" * 26, "4711", "aaaa.bbbb", "." * 26, "a" * 64])
def test_other_texts_are_no_ids(identity):
    assert IDS.row(identity) is None
    assert IDS.subject(identity) is None


def test_one_name_of_one_sender_gives_one_id():
    assert IDS.of_message("ehr", "urn:x|7") == IDS.of_message("ehr", "urn:x|7")
    assert (
        len(
            {
                IDS.of_message(*pair)
                for pair in [("ehr", "urn:x|7"), ("ehr", "urn:x|8"), ("lab", "urn:x|7"), ("eh", "r urn:x|7")]
            }
        )
        == 4
    )
