"""Pseudonyms: equal under the same key, different under different keys, and stays of one patient stay together."""

import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pandas as pd
import pytest

from vigil.features.pseudonyms import CHECK_FILE, KEY_BYTES, KEY_FILE, OPEN_KEY, PseudonymError, Pseudonyms, open_pseudonyms
from vigil.models.cohort import patient_of

SECRET = bytes(range(KEY_BYTES))


def test_subject_key_is_the_published_hmac_function():
    """Expected values were computed with ``openssl dgst -sha256 -hmac "$KEY" -binary | head -c 15 | base32 | tr A-Z a-z``."""
    assert Pseudonyms(OPEN_KEY).subject_key("sim-000017") == "bfkwjlrkg7dxrhdl2qzwn3i4"
    assert Pseudonyms(OPEN_KEY).subject_key("12~34") == "n3znjiapso6ugq6a5nlejx6i~7gfsdjdsqviwdgtvwmc2xl2b"


def test_subject_keys_of_different_keys_share_nothing():
    identifiers = [f"patient-{number}" for number in range(500)]
    secret, public = ([Pseudonyms(key).subject_key(name) for name in identifiers] for key in (SECRET, OPEN_KEY))
    assert len({*secret, *public}) == 1000


def test_subject_keys_of_stays_can_be_grouped_by_patient():
    pseudonyms = Pseudonyms(SECRET)
    stays = [pseudonyms.subject_key(name) for name in ("12~1", "12~2", "13~1")]
    assert [patient_of(stay) for stay in stays] == [pseudonyms.subject_key(name) for name in ("12", "12", "13")]
    assert (
        len({stay.partition("~")[2] for stay in stays}) == 3
    )  # the stay's part does not reveal equal stay numbers of patients


@pytest.mark.parametrize("dtype", ["object", "string", "string[pyarrow]", "category"])
def test_subject_keys_of_a_column_equal_those_of_its_values(dtype):
    pseudonyms = Pseudonyms(SECRET)
    names = pd.Series(["b", None, "a~1", "", "b"], index=[5, 3, 8, 1, 2], dtype=dtype, name="subject_id")
    keys = pseudonyms.subject_keys(names)
    expected = [pseudonyms.subject_key("b"), None, pseudonyms.subject_key("a~1"), None, pseudonyms.subject_key("b")]
    pd.testing.assert_series_equal(keys, pd.Series(expected, names.index, dtype="string[pyarrow]", name="subject_id"))
    assert pseudonyms.subject_keys(names.iloc[:0]).empty


def test_open_pseudonyms_keeps_the_first_key_of_a_home(tmp_path):
    home = tmp_path / "home"
    pseudonym = open_pseudonyms(home).subject_key("12")
    assert stat.S_IMODE((home / KEY_FILE).stat().st_mode) == 0o600
    assert not open_pseudonyms(home).is_open
    assert (
        pseudonym == open_pseudonyms(home, OPEN_KEY).subject_key("12") != open_pseudonyms(tmp_path / "other").subject_key("12")
    )


def test_is_open_recognises_the_open_key(tmp_path):
    assert open_pseudonyms(tmp_path, OPEN_KEY).is_open
    assert open_pseudonyms(tmp_path).is_open


def test_open_pseudonyms_concurrently_gives_one_key(tmp_path):
    with ThreadPoolExecutor(8) as threads:
        keys = {pseudonyms.subject_key("12") for pseudonyms in threads.map(open_pseudonyms, [tmp_path] * 64)}
    assert len(keys) == 1
    assert {path.name for path in tmp_path.iterdir()} == {KEY_FILE, CHECK_FILE}


@pytest.mark.parametrize("content", ["", "no key", SECRET.hex()[:-2]])
def test_malformed_key_is_reported_and_not_replaced(tmp_path, content):
    (tmp_path / KEY_FILE).write_text(content)
    with pytest.raises(PseudonymError, match=f"{KEY_FILE}: not a key; expected {2 * KEY_BYTES} hex"):
        open_pseudonyms(tmp_path)
    assert (tmp_path / KEY_FILE).read_text() == content


def test_lost_key_is_reported_and_not_replaced(tmp_path):
    pseudonym = open_pseudonyms(tmp_path).subject_key("12")
    key = (tmp_path / KEY_FILE).read_bytes()
    (tmp_path / KEY_FILE).unlink()
    with pytest.raises(PseudonymError, match=r"pseudonym\.key: missing, while this home holds patients"):
        open_pseudonyms(tmp_path)
    (tmp_path / KEY_FILE).write_text(SECRET.hex())
    with pytest.raises(PseudonymError, match="not the key that this home was made with"):
        open_pseudonyms(tmp_path)
    (tmp_path / KEY_FILE).write_bytes(key)
    assert open_pseudonyms(tmp_path).subject_key("12") == pseudonym


@pytest.mark.parametrize("content", ["cohort", "identities"])
def test_lost_key_is_reported_in_a_home_of_an_earlier_version_without_check_value(tmp_path, content):
    if content == "cohort":
        (tmp_path / "cohort").mkdir()
    else:
        with closing(sqlite3.connect(tmp_path / "identities.db")) as connection, connection:
            connection.execute("CREATE TABLE identities (pseudonym, identifier)")
            connection.execute("INSERT INTO identities VALUES ('a', 'b')")
    with pytest.raises(PseudonymError, match="missing, while this home holds patients"):
        open_pseudonyms(tmp_path)
    assert not (tmp_path / KEY_FILE).exists()


def test_open_pseudonyms_adds_the_check_value_to_a_home_of_an_earlier_version(tmp_path):
    (tmp_path / KEY_FILE).write_text(SECRET.hex())
    assert open_pseudonyms(tmp_path).subject_key("12") == Pseudonyms(SECRET).subject_key("12")
    assert stat.S_IMODE((tmp_path / CHECK_FILE).stat().st_mode) == 0o600
    (tmp_path / KEY_FILE).unlink()
    with pytest.raises(PseudonymError, match="missing"):
        open_pseudonyms(tmp_path)
