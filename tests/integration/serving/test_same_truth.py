"""The same raw readings give the same features, bit for bit, whether they come in a cohort file or over the API."""

import asyncio
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from vigil.features.batch import build_features
from vigil.features.catalogue import VIEWS
from vigil.features.codes import LOINC, accepted_codes
from vigil.features.observations import TIME, check
from vigil.features.signals import BOUNDS, SIGNALS, bounded_signals
from vigil.features.units import CONVERSIONS
from vigil.pipelines.sources.simulated.tables import to_batch
from vigil.pipelines.sources.simulated.ward import simulate_patient
from vigil.serving.auth.tokens import Caller
from vigil.serving.composition import open_api
from vigil.serving.observability.metrics import Metrics
from vigil.serving.records.source_settings import SourceSettingsFile
from vigil.serving.records.timestamps import instant, microsecond
from vigil.serving.scoring.subject_state import features_as_of
from vigil.serving.settings import Settings
from vigil.serving.stream.ingestion import SentObservation

PATIENT = "patient-1"
STAY_WITH_MISTAKES = 415  # of the simulated ward: spot checks, one round of the neighbour, three slips
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


def simulated_readings(number):
    """Return the readings of a stay of the simulated ward in order of arrival, as its gateway would send them."""
    observations = to_batch(simulate_patient(7, number)).observations.drop(columns=["subject_id", "recorded_at"])
    rows = observations.astype(dict.fromkeys(observations.select_dtypes("category"), object))
    times = [time.isoformat() for time in rows["observed_at"]]
    rows = rows.assign(observed_at=times, value=rows["value"].astype(object).where(rows["value"].notna(), None))
    return rows.assign(unit=[SIGNALS[name].unit for name in rows["signal"]]).to_dict("records")


def send(components, readings, requests):
    """Send readings of the patient in some requests; return the receipt and the time of recording of each."""
    receipts = []
    for group in np.array_split(np.arange(len(readings)), requests):  # one request after the other
        sent = [SentObservation(patient_id=PATIENT, **readings[place]) for place in group]
        caller = Caller("tests", frozenset(), None, math.inf)
        got = asyncio.run(components.ingestion.accept(sent, caller))
        recorded_at = instant(components.journal.latest())
        receipts += [(receipt, recorded_at) for receipt in got]
    components.close()
    return receipts


def as_file(readings, receipts, subject):
    """Return the same readings as a file holds them."""
    recorded_at = pd.Series([recorded_at for _, recorded_at in receipts], dtype=TIME)
    return pd.DataFrame(readings).assign(subject_id=subject, recorded_at=recorded_at)


def different_features(components, accepted, subject, times):
    """Return the features that differ at some times between the journal and a file's accepted observations."""
    views = tuple(VIEWS)
    with components.journal.snapshot() as snapshot:
        online = pd.concat([features_as_of(snapshot, views, [subject], microsecond(time)) for time in times])
    index = pd.DataFrame({"subject_id": subject, "index_time": pd.Series(times, dtype=TIME), "age": np.nan, "sex": np.nan})
    for name in ("unit_admitted_at", "hospital_admitted_at"):
        index[name] = pd.Series(pd.NaT, index.index, dtype=TIME)
    batch = build_features(accepted, index, views)
    assert len(batch) == len(online) == len(times)
    return [name for name in batch.columns[2:] if not np.array_equal(batch[name], online[name], equal_nan=True)]


@pytest.mark.parametrize("seed", range(6))
def test_a_file_and_the_api_give_the_same_features(tmp_path, seed):
    (tmp_path / "sources.toml").write_text(
        '[sources.g1]\nunits = { glucose = "mmol/L", potassium = "mmol/L" }\nranges = { glucose = [2.2, 22.2] }\n'
    )
    readings = raw_readings(seed)
    components = open_api(Settings(home=tmp_path), Metrics())
    receipts = send(components, readings, requests=9)
    subject = str(components.pseudonyms.subject_key(PATIENT))
    checked = check(as_file(readings, receipts, subject), declared=SourceSettingsFile(tmp_path).declarations())
    by_api = sorted(receipt.reason for receipt, _ in receipts if receipt.status == "quarantined")
    by_file = sorted(reason for reason in checked.quarantined["reason"] if not reason.startswith("duplicate"))
    assert by_api == by_file
    assert len(by_api) >= 5
    assert len(checked.accepted) > 60
    assert checked.accepted["signal"].isin(BOUNDS).sum() >= 5
    assert different_features(components, checked.accepted, subject, [instant(components.journal.latest())]) == []


def test_mistakes_of_the_simulated_ward_over_the_api_give_the_features_of_its_file_at_every_time(tmp_path):
    """A stay with corrections and retractions: each request knows what the ones before it said."""
    readings = simulated_readings(STAY_WITH_MISTAKES)
    components = open_api(Settings(home=tmp_path), Metrics())
    receipts = send(components, readings, requests=len(readings) // 4)
    subject = str(components.pseudonyms.subject_key(PATIENT))
    checked = check(as_file(readings, receipts, subject))
    assert {reading["status"] for reading in readings} == {"final", "corrected", "retracted"}
    assert checked.accepted["superseded_at"].notna().sum() > 5
    times = sorted({recorded_at for _, recorded_at in receipts})
    assert different_features(components, checked.accepted, subject, times) == []
    ignoring = checked.accepted.drop(columns="superseded_at")
    assert different_features(components, ignoring, subject, times) != []
