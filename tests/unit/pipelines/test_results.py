"""Results for programs: strict JSON."""

import json

import pytest

from vigil.pipelines.results import write_json


def test_write_json_turns_nan_and_infinity_into_null(tmp_path):
    def refuse(constant):
        pytest.fail(f"{constant} is not JSON")

    write_json(tmp_path / "r.json", {"a": float("nan"), "b": [1.5, float("inf")], "c": {"d": tmp_path}})
    result = json.loads((tmp_path / "r.json").read_text(), parse_constant=refuse)
    assert result == {"a": None, "b": [1.5, None], "c": {"d": str(tmp_path)}}
