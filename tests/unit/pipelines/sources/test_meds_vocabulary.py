"""MEDS: every signal has a code of its own, and float32 holds every value of it to its resolution."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from vigil.features.observations import to_resolution
from vigil.features.resolved import check_resolved
from vigil.features.signals import SIGNALS, STORED
from vigil.pipelines.exports.meds import SCHEMA, events_of
from vigil.pipelines.sources import Batch
from vigil.pipelines.sources.meds.source import batch_of, join_shards
from vigil.pipelines.sources.meds.vocabulary import CODES, SIGNAL_OF, describe
from vigil.pipelines.sources.omop.vocabulary import MEASURED, SIGNAL_CONCEPTS

TIME = pd.Timestamp("2026-01-31T08:00:00.000001Z").as_unit("us")
KEY = "a" * 24
STAYS = pd.DataFrame(
    {
        "subject_id": [KEY],
        "start": TIME.floor("s"),
        "end": TIME,
        "unit_admitted_at": pd.Series([pd.NaT], dtype="datetime64[us, UTC]"),
        "hospital_admitted_at": TIME,
        "age": 71.36,
        "sex": 1.0,
        "site": None,
        "unit": "B4",
    }
)
OUTCOMES = pd.DataFrame({"subject_id": [KEY], "onset": [TIME], "kind": ["sepsis"], "onset_known": [False]})


@st.composite
def values_at_their_resolution(draw):
    """One value of every stored signal, anywhere in its plausible range."""
    values = {}
    for name, signal in STORED.items():
        steps = signal.steps_per_unit
        values[name] = draw(st.integers(int(np.ceil(signal.low * steps)), int(np.floor(signal.high * steps)))) / steps
    return values


@settings(max_examples=15, deadline=None)
@given(values_at_their_resolution())
def test_export_then_import_keeps_every_value_of_every_signal(values):
    observations = pd.DataFrame(
        {
            "subject_id": KEY,
            "observed_at": TIME,
            "signal": list(values),
            "value": list(values.values()),
            "recorded_at": TIME + pd.Timedelta(microseconds=1),
            "device_id": None,
            "source": "s",
            "message_id": "m",
        }
    )
    events = events_of(Batch(observations, STAYS, OUTCOMES)).assign(subject_id=1)
    table = pa.Table.from_pandas(events, SCHEMA, preserve_index=False)
    assert table["numeric_value"].type == pa.float32()
    code = table.schema.get_field_index("code")
    batch = batch_of(join_shards([table.set_column(code, "code", table["code"].dictionary_encode())]))
    checked = check_resolved(batch.observations)
    assert checked.quarantined.empty
    back = checked.accepted.set_index(checked.accepted["signal"].astype(str))["value"]
    assert back.to_dict() == values
    assert batch.stays.loc[0, ["age", "sex", "unit", "start", "end"]].tolist() == [71.36, 1.0, "B4", TIME.floor("s"), TIME]
    assert batch.outcomes.to_dict("records") == [{"subject_id": KEY, "onset": TIME, "kind": "sepsis", "onset_known": False}]


def test_float32_is_finer_than_half_a_step_of_every_signal():
    for name, signal in STORED.items():
        largest = max(abs(signal.low), abs(signal.high))
        assert np.spacing(np.float32(largest)) / 2 < 0.5 / signal.steps_per_unit, name
    stored = np.array([36.85], dtype=np.float32).astype(np.float64)
    assert stored[0] != 36.85
    assert to_resolution(stored, pd.Series(["body_temperature"])).tolist() == [36.85]


def test_what_float32_cannot_hold_stands_in_full_in_the_text(monkeypatch):
    fine = replace(SIGNALS["platelets"], high=90_000_000, steps_per_unit=1000)  # as a signal of another package may be
    monkeypatch.setitem(STORED, "platelets", fine)
    value = 16_777_217.125
    row = {"subject_id": KEY, "observed_at": TIME, "signal": "platelets", "value": value, "recorded_at": TIME}
    others = {"device_id": None, "source": "s", "message_id": None}
    events = events_of(Batch(pd.DataFrame([row | others, row | others | {"value": 250.5}]), STAYS, OUTCOMES))
    assert events.loc[events["code"] == CODES["platelets"], "text_value"].dropna().tolist() == ["16777217.125"]
    events["code"] = events["code"].astype("category")
    table = pa.Table.from_pandas(events.assign(subject_id=1, numeric_value=events["numeric_value"].astype("float32")))
    assert batch_of(join_shards([table])).observations["value"].tolist() == [value, 250.5]


def test_every_signal_has_a_code_of_its_own():
    assert CODES["heart_rate"] == "LOINC//8867-4//min"
    assert CODES["body_temperature"] == "LOINC//8310-5//Cel"
    assert CODES["glucose_below_range"] == "VIGIL//glucose_below_range//mg/dL"
    assert [SIGNAL_OF[CODES[name]] for name in STORED] == list(STORED)
    assert describe(CODES["glucose_below_range"])[1] == ["LOINC/2339-0"]
    assert len(set(MEASURED.values())) == len(STORED)
    assert len({concept.concept_id for concept in SIGNAL_CONCEPTS.values()}) == len(SIGNALS)
    assert SIGNAL_CONCEPTS["heart_rate"][3:] == ("LOINC", "8867-4")
    assert SIGNAL_CONCEPTS["sao2"][3:] == ("Vigil", "sao2")  # 2708-6 alone could be SpO2
