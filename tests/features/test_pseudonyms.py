"""Pseudonyms: the same for whoever has the key, another with each key, and a patient's stays remain his."""

import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pandas as pd
import pytest

from features.pseudonyms import CHECK_FILE, KEY_BYTES, KEY_FILE, OPEN_KEY, PseudonymError, Pseudonyms, open_pseudonyms
from models.cohort import patient_of

SECRET = bytes(range(KEY_BYTES))


def test_it_is_the_published_function():
    """Made with ``openssl dgst -sha256 -hmac "$KEY" -binary | head -c 15 | base32 | tr A-Z a-z``."""
    assert Pseudonyms(OPEN_KEY).of("sim-000017") == "bfkwjlrkg7dxrhdl2qzwn3i4"
    assert Pseudonyms(OPEN_KEY).of("12~34") == "n3znjiapso6ugq6a5nlejx6i~7gfsdjdsqviwdgtvwmc2xl2b"


def test_without_the_key_it_says_nothing():
    identifiers = [f"patient-{number}" for number in range(500)]
    ours, theirs = ([Pseudonyms(key).of(name) for name in identifiers] for key in (SECRET, OPEN_KEY))
    assert len({*ours, *theirs}) == 1000


def test_the_stays_of_a_patient_are_seen_to_be_his():
    pseudonyms = Pseudonyms(SECRET)
    stays = [pseudonyms.of(name) for name in ("12~1", "12~2", "13~1")]
    assert [patient_of(stay) for stay in stays] == [pseudonyms.of(name) for name in ("12", "12", "13")]
    assert len({stay.partition("~")[2] for stay in stays}) == 3  # a stay's part tells nothing of another patient's


@pytest.mark.parametrize("dtype", ["object", "string", "string[pyarrow]", "category"])
def test_a_column_is_its_values_one_by_one(dtype):
    pseudonyms = Pseudonyms(SECRET)
    names = pd.Series(["b", None, "a~1", "", "b"], index=[5, 3, 8, 1, 2], dtype=dtype, name="subject_id")
    found = pseudonyms.of_each(names)
    expected = [pseudonyms.of("b"), None, pseudonyms.of("a~1"), None, pseudonyms.of("b")]
    pd.testing.assert_series_equal(found, pd.Series(expected, names.index, dtype="string[pyarrow]", name="subject_id"))
    assert pseudonyms.of_each(names.iloc[:0]).empty


def test_a_home_keeps_the_secret_it_was_given_first(tmp_path):
    home = tmp_path / "home"
    pseudonym = open_pseudonyms(home).of("12")
    assert stat.S_IMODE((home / KEY_FILE).stat().st_mode) == 0o600
    assert not open_pseudonyms(home).is_open
    assert pseudonym == open_pseudonyms(home, OPEN_KEY).of("12") != open_pseudonyms(tmp_path / "other").of("12")


def test_the_open_key_is_known_as_such(tmp_path):
    assert open_pseudonyms(tmp_path, OPEN_KEY).is_open
    assert open_pseudonyms(tmp_path).is_open


def test_of_several_who_open_a_new_home_at_once_all_have_one_key(tmp_path):
    with ThreadPoolExecutor(8) as threads:
        found = {pseudonyms.of("12") for pseudonyms in threads.map(open_pseudonyms, [tmp_path] * 64)}
    assert len(found) == 1
    assert {path.name for path in tmp_path.iterdir()} == {KEY_FILE, CHECK_FILE}


@pytest.mark.parametrize("content", ["", "no key", SECRET.hex()[:-2]])
def test_a_broken_key_is_named_and_not_replaced(tmp_path, content):
    (tmp_path / KEY_FILE).write_text(content)
    with pytest.raises(PseudonymError, match=f"{KEY_FILE}: not a key; expected {2 * KEY_BYTES} hex"):
        open_pseudonyms(tmp_path)
    assert (tmp_path / KEY_FILE).read_text() == content


def test_a_key_that_is_lost_is_not_replaced(tmp_path):
    pseudonym = open_pseudonyms(tmp_path).of("12")
    kept = (tmp_path / KEY_FILE).read_bytes()
    (tmp_path / KEY_FILE).unlink()
    with pytest.raises(PseudonymError, match=r"pseudonym\.key: missing, while this home holds patients"):
        open_pseudonyms(tmp_path)
    (tmp_path / KEY_FILE).write_text(SECRET.hex())
    with pytest.raises(PseudonymError, match="not the key that this home was made with"):
        open_pseudonyms(tmp_path)
    (tmp_path / KEY_FILE).write_bytes(kept)
    assert open_pseudonyms(tmp_path).of("12") == pseudonym


@pytest.mark.parametrize("there", ["cohort", "identities"])
def test_so_it_is_in_a_home_of_an_earlier_version_which_kept_no_check(tmp_path, there):
    if there == "cohort":
        (tmp_path / "cohort").mkdir()
    else:
        with closing(sqlite3.connect(tmp_path / "identities.db")) as connection, connection:
            connection.execute("CREATE TABLE identities (pseudonym, identifier)")
            connection.execute("INSERT INTO identities VALUES ('a', 'b')")
    with pytest.raises(PseudonymError, match="missing, while this home holds patients"):
        open_pseudonyms(tmp_path)
    assert not (tmp_path / KEY_FILE).exists()


def test_a_home_of_an_earlier_version_is_opened_and_gets_its_check(tmp_path):
    (tmp_path / KEY_FILE).write_text(SECRET.hex())
    assert open_pseudonyms(tmp_path).of("12") == Pseudonyms(SECRET).of("12")
    assert stat.S_IMODE((tmp_path / CHECK_FILE).stat().st_mode) == 0o600
    (tmp_path / KEY_FILE).unlink()
    with pytest.raises(PseudonymError, match="missing"):
        open_pseudonyms(tmp_path)
