"""Results for programs are JSON to the letter."""

import json

import pytest

from pipelines.results import write_json


def test_what_is_undefined_becomes_null(tmp_path):
    def refuse(constant):
        pytest.fail(f"{constant} is not JSON")

    write_json(tmp_path / "r.json", {"a": float("nan"), "b": [1.5, float("inf")], "c": {"d": tmp_path}})
    found = json.loads((tmp_path / "r.json").read_text(), parse_constant=refuse)
    assert found == {"a": None, "b": [1.5, None], "c": {"d": str(tmp_path)}}
