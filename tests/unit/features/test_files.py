"""Files that are written once: completely or not at all, by the first writer."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from vigil.features.files import write_new


def write_with_umask(umask, path, content, mode):
    before = os.umask(umask)
    try:
        write_new(path, content, mode)
    finally:
        os.umask(before)


def test_write_new_creates_the_file_and_its_folders(tmp_path):
    path = tmp_path / "new" / "home" / "file"
    write_new(path, b"content", 0o600)
    assert path.read_bytes() == b"content"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode", "expected"), [(0, 0o600, 0o600), (0, 0o644, 0o644), (0o077, 0o644, 0o600)])
def test_write_new_sets_permissions_that_the_umask_narrows(tmp_path, umask, mode, expected):
    write_with_umask(umask, tmp_path / "file", b"content", mode)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == expected


def test_write_new_leaves_an_existing_file_unchanged(tmp_path):
    (tmp_path / "file").write_bytes(b"first")
    write_new(tmp_path / "file", b"second", 0o600)
    assert (tmp_path / "file").read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_write_new_of_concurrent_writers_the_first_wins_and_no_other_file_remains(tmp_path):
    path = tmp_path / "file"
    contents = [bytes([number]) * 100_000 for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda content: (write_new(path, content, 0o600), path.read_bytes())[1], contents))
    assert len(set(seen)) == 1
    assert seen[0] in contents
    assert list(tmp_path.iterdir()) == [path]


def test_write_new_leaves_no_file_on_a_full_disk(tmp_path, monkeypatch):
    def fail(_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        write_new(tmp_path / "file", b"content", 0o600)
    assert list(tmp_path.iterdir()) == []
