"""Which code predicted: a digest that any change of a file changes, and nothing else."""

import re

from vigil.models.provenance import describe_code, digest_files


def test_code_is_described_by_version_and_digest():
    assert re.fullmatch(r"\S+ sha256:[0-9a-f]{64}", describe_code())
    assert describe_code() == describe_code()


def test_digest_changes_with_every_byte_name_and_file(tmp_path):
    folder = tmp_path / "models"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.py").write_text("one")
    (folder / "inner" / "b.txt").write_text("two")
    digests = [digest_files(tmp_path, ["models"])]
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "a.pyc").write_text("cached")
    (tmp_path / "other.py").write_text("not predicting")
    assert digest_files(tmp_path, ["models"]) == digests[0]
    (folder / "inner" / "b.txt").write_text("twp")
    digests.append(digest_files(tmp_path, ["models"]))
    (folder / "inner" / "b.txt").rename(folder / "inner" / "c.txt")
    digests.append(digest_files(tmp_path, ["models"]))
    (folder / "empty.py").touch()
    digests.append(digest_files(tmp_path, ["models"]))
    assert len(set(digests)) == 4
