"""The same raw readings give the same features, bit for bit, whether they come in a cohort file or over the API."""

import asyncio
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from features.batch import build_features
from features.catalogue import VIEWS
from features.codes import LOINC, accepted_codes
from features.observations import TIME, check
from features.signals import BOUNDS, SIGNALS, bounded_signals
from features.units import CONVERSIONS
from serving.auth.tokens import Caller
from serving.composition import open_api
from serving.observability.metrics import Metrics
from serving.records.source_settings import SourceSettingsFile
from serving.records.timestamps import instant
from serving.scoring.subject_state import features_as_of
from serving.settings import Settings
from serving.stream.ingestion import SentObservation

PATIENT = "patient-1"
NOW = datetime.now(UTC) - timedelta(minutes=1)


def raw_readings(seed):
    """Return readings as devices send them: other units, codes, none, ties, bounds, versions, and some that cannot be used."""
    generator = np.random.default_rng(seed)
    readings = []
    for number in range(160):
        name = str(generator.choice(list(SIGNALS)))
        signal = SIGNALS[name]
        value = round(float(generator.uniform(signal.low, min(signal.high, 3 * signal.usual + 10))), 2)
        value = float(round(value)) if signal.coded else value
        units = list(CONVERSIONS.get(name, {}))
        unit = [signal.unit, None, *units][int(generator.integers(2 + len(units)))]
        if unit in units:  # about the same value, as that unit writes it
            conversion = CONVERSIONS[name][unit]
            value = round(value / float(conversion.factor) - float(conversion.offset), 3)
        codes = [name, *accepted_codes(LOINC, name)[:1]]
        observed_at = NOW - timedelta(hours=int(generator.integers(0, 90)), minutes=int(generator.choice([0, 0, 17])))
        readings.append(
            {
                "message_id": f"m{number}",
                "signal": codes[int(generator.integers(len(codes)))],
                "value": value,
                "unit": unit,
                "observed_at": observed_at.isoformat(),
                "device_id": f"d{number % 3}",
                "source": f"g{number % 2}",
            }
        )
    for number, former in enumerate([one for one in readings if one["signal"] in bounded_signals()]):
        bound = [{"comparator": ">="}, {"value": f"<{former['value']}"}, {"value": "Low"}, {}][(number + seed) % 4]
        readings.append(former | {"message_id": f"b{number}", **bound})
    for former in [readings[int(place)] for place in generator.choice(len(readings), 12, replace=False)]:
        status = str(generator.choice(["corrected", "retracted"]))
        value = None if status == "retracted" else former["value"]
        if isinstance(value, float) and value % 1:
            value *= 1.01
        readings.append(former | {"status": status, "value": value})
    return readings


@pytest.mark.parametrize("seed", range(6))
def test_a_file_and_the_api_give_the_same_features(tmp_path, seed):
    (tmp_path / "sources.toml").write_text(
        '[sources.g1]\nunits = { glucose = "mmol/L", potassium = "mmol/L" }\nranges = { glucose = [2.2, 22.2] }\n'
    )
    readings = raw_readings(seed)
    components = open_api(Settings(home=tmp_path), Metrics())
    receipts = []
    for group in np.array_split(np.arange(len(readings)), 9):  # one request after the other
        sent = [SentObservation(patient_id=PATIENT, **readings[place]) for place in group]
        caller = Caller("tests", frozenset(), None, math.inf)
        got = asyncio.run(components.ingestion.accept(sent, caller))
        recorded_at = instant(components.journal.latest())
        receipts += [(receipt, recorded_at) for receipt in got]
    components.close()
    subject = components.pseudonyms.subject_key(PATIENT)

    file = pd.DataFrame(readings).assign(subject_id=str(subject))
    file["recorded_at"] = pd.Series([recorded_at for _, recorded_at in receipts], dtype=TIME)
    checked = check(file, declared=SourceSettingsFile(tmp_path).declarations())
    by_api = sorted(receipt.reason for receipt, _ in receipts if receipt.status == "quarantined")
    by_file = sorted(reason for reason in checked.quarantined["reason"] if not reason.startswith("duplicate"))
    assert by_api == by_file
    assert len(by_api) >= 5
    assert len(checked.accepted) > 60
    assert checked.accepted["signal"].isin(BOUNDS).sum() >= 5

    now = components.journal.latest()
    views = tuple(VIEWS)
    with components.journal.snapshot() as snapshot:
        online = features_as_of(snapshot, views, [str(subject)], now)
    index = pd.DataFrame({"subject_id": [str(subject)], "index_time": pd.Series([instant(now)], dtype=TIME)})
    index = index.assign(age=np.nan, sex=np.nan)
    for name in ("unit_admitted_at", "hospital_admitted_at"):
        index[name] = pd.Series([pd.NaT], dtype=TIME)
    batch = build_features(checked.accepted, index, views)
    different = [name for name in batch.columns[2:] if not np.array_equal(batch[name], online[name], equal_nan=True)]
    assert different == []
