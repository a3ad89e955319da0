"""The simulated ward keeps the source contract, and its patients and devices behave as declared."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from features.observations import COLUMNS, TIME, Checked, check
from features.signals import SIGNALS
from pipelines.sources import Batch, Source, open_source
from pipelines.sources.simulated import SimulatedWard
from pipelines.sources.simulated.deterioration import DETERIORATIONS, DISTURBANCES, Deterioration, deteriorate
from pipelines.sources.simulated.devices import DEVICES

PATIENTS = 200


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    return list(SimulatedWard(patients=PATIENTS, seed=7, patients_per_batch=50).batches())


@pytest.fixture(scope="module")
def stays(batches: list[Batch]) -> pd.DataFrame:
    """One row a patient, with the outcome where there is one."""
    rows = pd.concat([batch.stays for batch in batches])
    return rows.merge(pd.concat([batch.outcomes for batch in batches]), on="subject_id", how="left")


@pytest.fixture(scope="module")
def checked(batches: list[Batch]) -> Checked:
    return check(batches[0].observations)


def test_the_ward_is_a_source() -> None:
    source: Source = open_source("simulated", None)
    assert (source.name, source.simulated, source.task, len(source)) == ("simulated", True, "deterioration", 6)


def test_the_last_batch_holds_the_rest() -> None:
    ward = SimulatedWard(patients=5, patients_per_batch=2)
    assert len(ward) == 3
    assert [len(batch.stays) for batch in ward.batches()] == [2, 2, 1]


@pytest.mark.parametrize("wrong", [{"patients": 0}, {"patients_per_batch": 0}, {"seed": -1}])
def test_an_impossible_ward_is_refused(wrong: Mapping[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.*expected at least"):
        SimulatedWard(**wrong)


def test_a_patient_depends_on_seed_and_number_only() -> None:
    def patient_3(ward: SimulatedWard) -> tuple[pd.DataFrame, ...]:
        batch = next(batch for batch in ward.batches() if "sim-000003" in set(batch.stays["subject_id"]))
        tables = (batch.observations, batch.stays, batch.outcomes)
        own = [table[table["subject_id"] == "sim-000003"].reset_index(drop=True) for table in tables]
        return tuple(table.astype(dict.fromkeys(table.select_dtypes("category"), str)) for table in own)

    one = patient_3(SimulatedWard(patients=4, seed=1))
    same = patient_3(SimulatedWard(patients=9, seed=1, patients_per_batch=2))
    other = patient_3(SimulatedWard(patients=4, seed=2))
    for left, right in zip(one, same, strict=True):
        pd.testing.assert_frame_equal(left, right)
    assert not one[1].equals(other[1])


def test_tables_have_the_columns_and_types_of_the_contract(batches: list[Batch]) -> None:
    quiet = next(SimulatedWard(patients=1, seed=_seed_without_event()).batches())
    for batch in (*batches, quiet):
        assert tuple(batch.observations) == COLUMNS
        assert list(batch.stays) == [
            "subject_id", "start", "end", "unit_admitted_at", "hospital_admitted_at", "age", "sex", "site", "unit",
        ]  # fmt: skip
        assert list(batch.outcomes) == ["subject_id", "onset", "kind", "onset_known"]
        for table in (batch.observations, batch.stays, batch.outcomes):
            assert all(str(table[column].dtype) == TIME for column in table if str(column).endswith("_at"))
        assert {str(batch.stays["start"].dtype), str(batch.stays["end"].dtype), str(batch.outcomes["onset"].dtype)} == {TIME}
        assert batch.outcomes["onset_known"].dtype == bool
        assert batch.outcomes["onset_known"].all()
        assert not batch.observations.isna().any(axis=None)
    assert quiet.outcomes.empty


def _seed_without_event() -> int:
    wards = (SimulatedWard(patients=1, seed=seed) for seed in range(20))
    return next(ward.seed for ward in wards if next(ward.batches()).outcomes.empty)


def test_each_subject_is_in_one_batch_and_has_one_stay(batches: list[Batch], stays: pd.DataFrame) -> None:
    assert stays["subject_id"].is_unique
    assert len(stays) == PATIENTS
    for batch in batches:
        assert set(batch.observations["subject_id"].unique()) == set(batch.stays["subject_id"])
        assert set(batch.outcomes["subject_id"]) <= set(batch.stays["subject_id"])


def test_readings_lie_within_the_stay_and_arrive_in_order(batches: list[Batch]) -> None:
    for batch in batches:
        readings = batch.observations.merge(batch.stays[["subject_id", "start", "end"]], on="subject_id")
        assert (readings["observed_at"] >= readings["start"]).all()
        assert (readings["observed_at"] <= readings["end"]).all()
        assert (readings["recorded_at"] >= readings["observed_at"]).all()
        assert batch.observations["recorded_at"].is_monotonic_increasing


def test_most_messages_arrive_within_seconds_and_some_hours_late(batches: list[Batch]) -> None:
    worn = batches[0].observations.query("signal == 'heart_rate'")
    delay = (worn["recorded_at"] - worn["observed_at"]).dt.total_seconds()
    assert delay.median() < 10
    assert 0.01 < (delay > 120).mean() < 0.10
    assert delay.max() > 3600


def test_the_check_quarantines_repeated_messages_and_lost_sensors_only(batches: list[Batch], checked: Checked) -> None:
    came, bad = batches[0].observations, checked.quarantined
    assert set(bad["reason"]) == {"duplicate_message", "implausible"}
    low, high = (came["signal"].astype(str).map({s.name: getattr(s, end) for s in SIGNALS.values()}) for end in ("low", "high"))
    implausible = (came["value"] < low) | (came["value"] > high)
    assert (bad["reason"] == "implausible").sum() == implausible.sum() > 100
    assert (came.loc[implausible, "value"] == 0).mean() > 0.99  # a lost sensor says 0

    plausible = came[~implausible]
    repeated = plausible["message_id"].duplicated()  # in order of delivery: the first is the original
    assert (bad["reason"] == "duplicate_message").sum() == repeated.sum() > 100
    assert 0.002 < repeated.mean() < 0.01


def test_a_redelivered_message_differs_in_its_time_of_record_only(batches: list[Batch]) -> None:
    came = batches[0].observations
    copies = came[came["message_id"].duplicated(keep=False)]
    assert copies["message_id"].value_counts().eq(2).all()
    assert not copies["recorded_at"].groupby(copies["message_id"]).diff().eq(pd.Timedelta(0)).any()
    assert copies.drop(columns="recorded_at").drop_duplicates()["message_id"].is_unique


def test_devices_read_at_their_own_pace(checked: Checked) -> None:
    readings = checked.accepted  # in order of subject, signal and time
    step = readings.groupby(["device_id", "signal"], observed=True)["observed_at"].diff().dt.total_seconds() / 60
    usual = step.groupby([readings["device_id"].astype(str), readings["signal"].astype(str)]).median().round()
    by_device = {kind: set(steps) for kind, steps in usual.groupby(usual.index.get_level_values(0).str.split("-").str[0])}
    assert by_device["wearable"] == {1}
    assert by_device["cuff"] == {15, 20, 30}
    assert by_device["cgm"] == {5}
    assert by_device["patch"] == {10}
    assert all(200 < minutes < 280 for minutes in by_device["chart"] | by_device["thermometer"])


def test_the_wearable_has_gaps_of_minutes_to_hours(checked: Checked) -> None:
    worn = checked.accepted.query("signal == 'heart_rate'")
    gaps = worn.groupby("subject_id", observed=True)["observed_at"].diff().dt.total_seconds() / 60
    assert gaps.between(5, 60).sum() > 100
    assert gaps.max() > 120


def test_events_and_stays_are_as_common_and_long_as_declared(stays: pd.DataFrame) -> None:
    hours = (stays["end"] - stays["start"]).dt.total_seconds() / 3600
    assert hours.between(12, 241).all()
    assert 48 < hours.mean() < 108
    event = stays["onset"].notna()
    assert 0.15 < event.mean() < 0.30
    assert set(stays.loc[event, "kind"]) == {row.kind for row in DETERIORATIONS}
    assert ((stays["onset"] - stays["start"])[event] > pd.Timedelta("11h")).all()
    assert (stays["end"] - stays["onset"])[event].between(pd.Timedelta("1h"), pd.Timedelta("3h")).all()


def test_neither_length_nor_start_of_a_stay_tells_of_an_event(stays: pd.DataFrame) -> None:
    event = stays["onset"].notna()
    for told in (stays["end"] - stays["start"], stays["start"] - stays["start"].min(), stays["age"]):
        rank = told.rank()
        # Chance that a stay with an event ranks above one without: 0.5, with a standard error of about 0.05 here.
        above = (rank[event].mean() - (event.sum() + 1) / 2) / (~event).sum()
        assert 0.35 < above < 0.65


@pytest.mark.parametrize(
    ("kind", "signal", "least_change"),
    [
        ("sepsis", "heart_rate", 8),
        ("sepsis", "respiratory_rate", 3),
        ("sepsis", "systolic_bp", -8),
        ("sepsis", "body_temperature", 0.2),
        ("respiratory_failure", "respiratory_rate", 4),
        ("respiratory_failure", "spo2", -2),
        ("respiratory_failure", "on_oxygen", 0.2),
        ("bleeding", "heart_rate", 10),
        ("bleeding", "systolic_bp", -12),
        ("hypoglycaemia", "glucose", -50),
    ],
)
def test_a_deterioration_marks_the_readings_before_its_onset(
    batches: list[Batch], kind: str, signal: str, least_change: float
) -> None:
    """Median of the four hours before the onset against the patient's own more than 18 hours before it."""
    changes = []
    for batch in batches:
        ill = batch.observations.query("signal == @signal").merge(batch.outcomes.query("kind == @kind"), on="subject_id")
        lead = (ill["onset"] - ill["observed_at"]).dt.total_seconds() / 3600
        late = ill[(lead > 0) & (lead <= 4)].groupby("subject_id")["value"].median()
        early = ill[lead > 18].groupby("subject_id")["value"].median()
        changes.append((late - early).dropna())
    change = pd.concat(changes)
    assert len(change) >= 4
    assert change.mean() / least_change > 1, f"{kind}: {signal} moved by {change.mean():.2f}"


@pytest.mark.parametrize("event", DETERIORATIONS, ids=lambda row: f"{row.kind}-{row.effects[0].signal}")
def test_a_deterioration_moves_what_it_declares_and_only_after_it_began(event: Deterioration) -> None:
    minutes, onset = 3000, 2900
    calm = {signal.name: np.full(minutes, 100.0) for signal in SIGNALS.values()}
    course = {signal: values.copy() for signal, values in calm.items()}
    deteriorate(course, event, onset, {"heart_rate": 0.5}, np.random.default_rng(0))
    moved = {signal for signal in course if not np.array_equal(course[signal], calm[signal])}
    assert moved == {effect.signal for effect in event.effects} | ({event.target[0]} if event.target else set())
    for signal in moved:
        assert np.array_equal(course[signal][: onset - 60 * 18], calm[signal][: onset - 60 * 18])
        changes = [effect.change for effect in event.effects if effect.signal == signal]
        declared = sum(changes) if changes else event.target[1] - 100  # type: ignore[index]
        assert np.sign(course[signal][onset] - 100) == np.sign(declared)
        assert (course[signal][onset:] == course[signal][onset]).all()


def test_many_patients_without_an_event_look_ill_at_some_time(batches: list[Batch], stays: pd.DataFrame) -> None:
    well = set(stays.loc[stays["onset"].isna(), "subject_id"])
    worn = pd.concat([batch.observations.query("signal in ['heart_rate', 'spo2']") for batch in batches])
    worn = worn[worn["subject_id"].isin(well)].assign(hour=lambda rows: rows["observed_at"].dt.floor("h"))
    hourly = worn.pivot_table("value", ["subject_id", "hour"], "signal", aggfunc="median", observed=True)
    ill = (hourly["heart_rate"] > 100) | (hourly["spo2"] < 92)
    assert 0.2 < ill.groupby("subject_id").max().mean() < 0.7
    assert ill.mean() < 0.2


def test_tables_name_known_signals_and_measured_ones_only() -> None:
    measured = {channel.signal for device in DEVICES for channel in device.channels}
    assert measured <= set(SIGNALS)
    assert {effect.signal for row in (*DETERIORATIONS, *DISTURBANCES) for effect in row.effects} <= measured
