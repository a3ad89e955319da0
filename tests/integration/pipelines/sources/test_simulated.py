"""The simulated ward follows the source contract, and its patients and devices behave as declared."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from tests.support.mistakes import without_mistakes
from vigil.features.batch import build_features
from vigil.features.declarations import OWN_UNITS
from vigil.features.observations import COLUMNS, TIME, CheckedObservations, check
from vigil.features.scores import NEWS2_BANDS
from vigil.features.signals import SIGNALS
from vigil.models.cohort import index_times, label_index_times, patient_of, split_of
from vigil.models.tasks import TASKS
from vigil.pipelines.sources import Batch, Source, open_source
from vigil.pipelines.sources.simulated import SimulatedWard
from vigil.pipelines.sources.simulated.admissions import MONITORING, choose_monitoring
from vigil.pipelines.sources.simulated.arrivals import STATES, simulate_arrivals
from vigil.pipelines.sources.simulated.deterioration import DETERIORATIONS, DISTURBANCES, Deterioration, deteriorate
from vigil.pipelines.sources.simulated.devices import DEVICES, TROLLEY
from vigil.pipelines.sources.simulated.stays import UNITS, Stay
from vigil.pipelines.sources.simulated.ward import name_stays, simulate_patient

PATIENTS, SEED = 360, 7
HOUR = pd.Timedelta("1h")


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    return list(SimulatedWard(patients=PATIENTS, seed=SEED, patients_per_batch=60).batches())


@pytest.fixture(scope="module")
def truth() -> dict[str, Stay]:
    """Return the simulated stays by subject. The tables do not show how a patient arrived."""
    return {stay.subject: stay for number in range(PATIENTS) for stay in simulate_patient(SEED, number)}


@pytest.fixture(scope="module")
def stays(batches: list[Batch], truth: dict[str, Stay]) -> pd.DataFrame:
    """Return one row for each stay: its outcome if any, the way of monitoring, and whether the patient arrived ill."""
    rows = pd.concat([batch.stays for batch in batches])
    rows = rows.merge(pd.concat([batch.outcomes for batch in batches]), on="subject_id", how="left")
    simulated = [truth[subject] for subject in rows["subject_id"]]
    ill = [stay.illness is not None for stay in simulated]
    return rows.assign(monitoring=[stay.monitoring.name for stay in simulated], ill=ill)


@pytest.fixture(scope="module")
def checked(batches: list[Batch]) -> CheckedObservations:
    return check(batches[0].observations, declared=OWN_UNITS)


def test_simulated_ward_is_a_source() -> None:
    source: Source = open_source("simulated", None)
    assert (source.name, source.simulated, source.task.name, len(source)) == ("simulated", True, "deterioration", 6)


def test_simulated_ward_puts_the_remaining_patients_into_the_last_batch() -> None:
    ward = SimulatedWard(patients=5, patients_per_batch=2)
    assert len(ward) == 3
    assert [len(batch.stays) for batch in ward.batches()] == [2, 2, 1]


@pytest.mark.parametrize("wrong", [{"patients": 0}, {"patients_per_batch": 0}, {"seed": -1}])
def test_simulated_ward_refuses_impossible_numbers(wrong: Mapping[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.*expected at least"):
        SimulatedWard(**wrong)


def test_simulated_patient_depends_on_seed_and_number_only() -> None:
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


def test_simulated_tables_have_the_columns_and_types_of_the_source_contract(batches: list[Batch]) -> None:
    quiet = next(SimulatedWard(patients=1, seed=_seed_without_event()).batches())
    for batch in (*batches, quiet):
        assert tuple(batch.observations) == (*COLUMNS, "status", "version")
        assert list(batch.stays) == [
            "subject_id", "start", "end", "unit_admitted_at", "hospital_admitted_at", "age", "sex", "site", "unit",
        ]  # fmt: skip
        assert list(batch.outcomes) == ["subject_id", "onset", "kind", "onset_known"]
        for table in (batch.observations, batch.stays, batch.outcomes):
            assert all(str(table[column].dtype) == TIME for column in table if str(column).endswith("_at"))
        assert {str(batch.stays["start"].dtype), str(batch.stays["end"].dtype), str(batch.outcomes["onset"].dtype)} == {TIME}
        assert batch.outcomes["onset_known"].dtype == bool
        assert batch.outcomes["onset_known"].all()
        retracts = batch.observations["status"] == "retracted"
        assert batch.observations.loc[retracts, "value"].isna().all()
        assert not batch.observations[~retracts].isna().any(axis=None)
    assert quiet.outcomes.empty


def _seed_without_event() -> int:
    wards = (SimulatedWard(patients=1, seed=seed) for seed in range(20))
    return next(ward.seed for ward in wards if next(ward.batches()).outcomes.empty)


def test_simulated_subject_is_in_one_batch_and_has_one_stay(batches: list[Batch], stays: pd.DataFrame) -> None:
    assert stays["subject_id"].is_unique
    assert stays["subject_id"].map(patient_of).nunique() == PATIENTS
    assert len(stays) == PATIENTS + PATIENTS // 12
    for batch in batches:
        assert set(batch.observations["subject_id"].unique()) == set(batch.stays["subject_id"])
        assert set(batch.outcomes["subject_id"]) <= set(batch.stays["subject_id"])


def test_simulated_readings_lie_within_the_stay_and_arrive_in_order(batches: list[Batch]) -> None:
    for batch in batches:
        readings = batch.observations.merge(batch.stays[["subject_id", "start", "end"]], on="subject_id")
        assert (readings["observed_at"] >= readings["start"]).all()
        assert (readings["observed_at"] <= readings["end"]).all()
        assert (readings["recorded_at"] >= readings["observed_at"]).all()
        assert batch.observations["recorded_at"].is_monotonic_increasing


def test_simulated_messages_mostly_arrive_within_seconds_and_some_hours_late(batches: list[Batch]) -> None:
    worn = batches[0].observations.query("signal == 'heart_rate'")
    delay = (worn["recorded_at"] - worn["observed_at"]).dt.total_seconds()
    assert delay.median() < 10
    assert 0.01 < (delay > 120).mean() < 0.10
    assert delay.max() > 3600


def test_check_of_simulated_readings_quarantines_only_repeated_messages_and_lost_sensors(
    batches: list[Batch], checked: CheckedObservations
) -> None:
    quarantined = checked.quarantined
    assert set(quarantined["reason"]) == {"duplicate_message", "implausible", "superseded"}
    received = without_mistakes(batches[0].observations)
    signal = received["signal"].astype(str)
    low, high = (signal.map({s.name: getattr(s, end) for s in SIGNALS.values()}) for end in ("low", "high"))
    implausible = (received["value"] < low) | (received["value"] > high)
    assert 0 <= (quarantined["reason"] == "implausible").sum() - implausible.sum() <= 2  # a slip may be implausible, too
    assert implausible.sum() > 100
    assert (received.loc[implausible, "value"] == 0).mean() > 0.99  # a sensor without contact reads 0

    plausible = received[~implausible]
    repeated = plausible["message_id"].duplicated()  # in order of delivery: the first is the original
    assert (quarantined["reason"] == "duplicate_message").sum() == repeated.sum() > 100
    assert 0.002 < repeated.mean() < 0.01


def test_repeated_message_differs_in_recorded_at_only(batches: list[Batch]) -> None:
    received = without_mistakes(batches[0].observations)
    copies = received[received["message_id"].duplicated(keep=False)]
    assert copies["message_id"].value_counts().eq(2).all()
    assert not copies["recorded_at"].groupby(copies["message_id"]).diff().eq(pd.Timedelta(0)).any()
    assert copies.drop(columns="recorded_at").drop_duplicates()["message_id"].is_unique


def test_simulated_devices_read_at_their_own_intervals(checked: CheckedObservations) -> None:
    readings = checked.accepted  # in order of subject, signal and time
    step = readings.groupby(["device_id", "signal"], observed=True)["observed_at"].diff().dt.total_seconds() / 60
    usual = step.groupby([readings["device_id"].astype(str), readings["signal"].astype(str)]).median().dropna().round()
    by_device = {kind: set(steps) for kind, steps in usual.groupby(usual.index.get_level_values(0).str.split("-").str[0])}
    assert by_device["wearable"] == {1}
    assert by_device["cuff"] == {15, 20, 30}
    assert by_device["cgm"] == {5}
    assert by_device["patch"] == {10}
    assert all(200 < minutes < 280 for minutes in by_device["chart"] | by_device["thermometer"])


def test_simulated_wearable_has_gaps_of_minutes_to_hours(checked: CheckedObservations) -> None:
    worn = checked.accepted.query("signal == 'heart_rate'")
    gaps = worn.groupby("subject_id", observed=True)["observed_at"].diff().dt.total_seconds() / 60
    assert gaps.between(5, 60).sum() > 100
    assert gaps.max() > 120


def test_simulated_events_and_stays_are_as_common_and_long_as_declared(stays: pd.DataFrame) -> None:
    hours = (stays["end"] - stays["start"]).dt.total_seconds() / 3600
    assert hours[~stays["ill"]].between(12, 241).all()
    assert 48 < hours.mean() < 108
    event = stays["onset"].notna()
    assert 0.15 < event.mean() < 0.30
    assert set(stays.loc[event, "kind"]) == {row.kind for row in DETERIORATIONS}
    assert ((stays["onset"] - stays["start"])[event & ~stays["ill"]] > pd.Timedelta("11h")).all()
    assert (stays["end"] - stays["onset"])[event].between(pd.Timedelta("1h"), pd.Timedelta("3h")).all()


def test_length_start_and_age_of_a_simulated_stay_do_not_predict_an_event(stays: pd.DataFrame) -> None:
    """This holds for patients who are well on arrival. The events of the others come within hours or not at all."""
    stays = stays[~stays["ill"]]
    event = stays["onset"].notna()
    for predictor in (stays["end"] - stays["start"], stays["start"] - stays["start"].min(), stays["age"]):
        rank = predictor.rank()
        # The probability that a stay with an event ranks above one without is 0.5, with a standard error of about 0.05.
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
def test_deterioration_changes_the_readings_before_its_onset(
    batches: list[Batch], kind: str, signal: str, least_change: float
) -> None:
    """Compare the median of the four hours before the onset with the patient's own more than 18 hours before it."""
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
def test_deterioration_changes_the_declared_signals_and_only_after_it_began(event: Deterioration) -> None:
    minutes, onset = 3000, 2900
    calm = {signal.name: np.full(minutes, 100.0) for signal in SIGNALS.values()}
    course = {signal: values.copy() for signal, values in calm.items()}
    deteriorate(course, event, onset, {"heart_rate": 0.5}, np.random.default_rng(0))
    changed = {signal for signal in course if not np.array_equal(course[signal], calm[signal])}
    assert changed == {effect.signal for effect in event.effects} | ({event.target[0]} if event.target else set())
    for signal in changed:
        assert np.array_equal(course[signal][: onset - 60 * 18], calm[signal][: onset - 60 * 18])
        changes = [effect.change for effect in event.effects if effect.signal == signal]
        declared = sum(changes) if changes else event.target[1] - 100  # type: ignore[index]
        assert np.sign(course[signal][onset] - 100) == np.sign(declared)
        assert (course[signal][onset:] == course[signal][onset]).all()


def test_treated_deterioration_stops_and_recedes() -> None:
    calm = {signal: np.full(3000, 100.0) for signal in SIGNALS}
    courses = {name: {signal: values.copy() for signal, values in calm.items()} for name in ("untreated", "treated")}
    for name, treated_from in (("untreated", None), ("treated", 200.0)):
        rng = np.random.default_rng(3)
        deteriorate(courses[name], DETERIORATIONS[0], 400, {}, rng, lead=600, strength=1.0, treated_from=treated_from)
    heart_rate = {name: course["heart_rate"] - 100 for name, course in courses.items()}
    assert heart_rate["untreated"][0] > 0  # the prodrome began before the stay
    assert heart_rate["untreated"].argmax() == 400
    assert heart_rate["treated"].argmax() == 200
    peak = heart_rate["treated"][200]
    assert peak < heart_rate["untreated"][400]
    half_life = np.flatnonzero(heart_rate["treated"][200:] <= peak / 2)[0]
    assert 180 <= half_life <= 601  # minutes: 3 to 10 hours
    np.testing.assert_allclose(heart_rate["treated"][200 + 2 * half_life], peak / 4, rtol=0.02)


def test_many_simulated_patients_without_an_event_look_ill_at_some_time(batches: list[Batch], stays: pd.DataFrame) -> None:
    well = set(stays.loc[stays["onset"].isna(), "subject_id"])
    worn = pd.concat([batch.observations.query("signal in ['heart_rate', 'spo2']") for batch in batches])
    worn = worn[worn["subject_id"].isin(well)].assign(hour=lambda rows: rows["observed_at"].dt.floor("h"))
    hourly = worn.pivot_table("value", ["subject_id", "hour"], "signal", aggfunc="median", observed=True)
    ill = (hourly["heart_rate"] > 100) | (hourly["spo2"] < 92)
    assert 0.2 < ill.groupby("subject_id").max().mean() < 0.7
    assert ill.mean() < 0.2


def test_simulation_tables_name_only_known_and_measured_signals() -> None:
    measured = {channel.signal for device in DEVICES for channel in device.channels}
    assert measured <= set(SIGNALS)
    assert {effect.signal for row in (*DETERIORATIONS, *DISTURBANCES) for effect in row.effects} <= measured


@pytest.fixture(scope="module")
def first_sets(batches: list[Batch], stays: pd.DataFrame) -> pd.DataFrame:
    """Return the NEWS2 of each stay after two hours, when every patient has had the first round."""
    scores = []
    for batch in batches:
        index = batch.stays.assign(index_time=batch.stays["start"] + 2 * HOUR)
        until = batch.observations["subject_id"].map(index.set_index("subject_id")["index_time"])
        early = batch.observations[(batch.observations["observed_at"] <= until).to_numpy()]
        scores.append(
            build_features(check(early, declared=OWN_UNITS).accepted, index)[["subject_id", "news2", "news2_highest"]]
        )
    return stays.merge(pd.concat(scores), on="subject_id")


def test_simulated_patients_ill_on_arrival_are_as_many_and_as_ill_as_declared(first_sets: pd.DataFrame) -> None:
    ill, event = first_sets["ill"], first_sets["onset"].notna()
    assert 0.10 < ill.mean() < 0.20
    assert event[ill].mean() > 0.5 > 2 * event[~ill].mean()
    until_onset = (first_sets["onset"] - first_sets["start"])[ill & event]
    assert until_onset.between(1.5 * HOUR, 11 * HOUR).all()
    assert first_sets.loc[ill, "news2"].quantile(0.75) >= 9
    assert first_sets.loc[ill, "news2"].median() >= 6 > 2 >= first_sets.loc[~ill, "news2"].median()


def test_news2_level_alone_predicts_events(first_sets: pd.DataFrame) -> None:
    """Events are more frequent at higher scores, both without continuous monitoring and in patients ill on arrival."""
    soon = (first_sets["onset"] - first_sets["start"]) < 14 * HOUR  # within 12 hours of the score
    bands = pd.cut(first_sets["news2"], [-1, 4, 8, 25])
    for among in (first_sets["monitoring"] != "continuous", first_sets["ill"]):
        share = soon[among].groupby(bands[among], observed=True).mean()
        assert len(share) == 3
        assert share.is_monotonic_increasing
        assert share.iloc[-1] > 0.6


def test_treated_patients_are_well_again_after_two_days(batches: list[Batch], stays: pd.DataFrame) -> None:
    recovering = stays[stays["ill"] & stays["onset"].isna() & (stays["monitoring"] == "continuous")]
    rows = pd.concat([batch.observations.query("signal == 'respiratory_rate'") for batch in batches])
    rows = rows.merge(recovering[["subject_id", "start"]], on="subject_id")
    hours = (rows["observed_at"] - rows["start"]) / HOUR
    early, late = (rows[part].groupby("subject_id")["value"].median() for part in (hours < 2, hours > 48))
    fall = (early - late).dropna()
    assert len(fall) > 5
    assert fall.median() > 2  # breaths a minute


def test_time_in_the_unit_alone_hardly_predicts_an_event(stays: pd.DataFrame, batches: list[Batch]) -> None:
    """Events of patients ill on arrival come early, all others at any time. A clock must not become a good model."""
    outcomes = pd.concat([batch.outcomes for batch in batches])
    index = label_index_times(index_times(stays[["subject_id", "start", "end"]]), outcomes, TASKS["deterioration"]).dropna(
        subset="label"
    )
    rank, positive = (index["start"] - index["index_time"]).rank(), index["label"] == 1
    above = (rank[positive].mean() - (positive.sum() + 1) / 2) / (~positive).sum()
    assert 0.4 < above < 0.6


def test_monitoring_shares_hold_in_small_wards_too() -> None:
    for stays_of_ward in (range(0, 60, 2), range(0, 1200, 2)):
        names = [choose_monitoring(serial).name for serial in stays_of_ward]
        for way in MONITORING:
            assert abs(names.count(way.name) / len(names) - way.share) < 0.04, way.name
    assert sum(way.share for way in MONITORING) == pytest.approx(1)


def _observations_by(monitoring: str, batches: list[Batch], stays: pd.DataFrame) -> pd.DataFrame:
    """Return the observations of patients monitored in one way, without repeats, with start and end of the stay."""
    chosen = stays.loc[stays["monitoring"] == monitoring, ["subject_id", "start", "end"]]
    rows = pd.concat([without_mistakes(batch.observations).merge(chosen, on="subject_id") for batch in batches])
    rows = rows.reset_index(drop=True)
    kind = rows["device_id"].astype(str).str.partition("-")[0]
    return rows.assign(kind=kind).drop_duplicates("message_id")


def test_spot_checks_are_full_sets_every_four_to_twelve_hours(batches: list[Batch], stays: pd.DataFrame) -> None:
    rows = _observations_by("spot checks", batches, stays)
    assert set(rows["kind"]) == {"trolley"}
    rounds = rows.groupby(["subject_id", "observed_at"], observed=True)["signal"].agg(lambda signals: set(map(str, signals)))
    assert (rounds.map(set(NEWS2_BANDS).issubset)).all()
    step = rounds.reset_index().groupby("subject_id", observed=True)["observed_at"].diff().dropna() / HOUR
    assert step.between(4 - 41 / 60, 12 + 41 / 60).all()
    usual = step.groupby(rounds.reset_index()["subject_id"]).median()
    assert {4, 6, 8, 12} == {min((4, 6, 8, 12), key=lambda hours, median=median: abs(hours - median)) for median in usual}


def test_monitoring_by_one_set_gives_a_single_round(batches: list[Batch], stays: pd.DataFrame) -> None:
    rows = _observations_by("one set", batches, stays)
    sets = rows.groupby("subject_id", observed=True)
    assert (sets["observed_at"].min() == sets["observed_at"].max()).all()
    assert (sets.size() == len(TROLLEY.channels)).all()
    assert (rows["observed_at"] - rows["start"] <= 41 * HOUR / 60).all()
    assert (rows["end"] - rows["start"] <= 24 * HOUR).all()
    assert sets.ngroups > 0.06 * len(stays)


def test_devices_put_on_late_follow_spot_checks(batches: list[Batch], stays: pd.DataFrame) -> None:
    rows = _observations_by("devices put on late", batches, stays)
    after = (rows["observed_at"] - rows["start"]) / HOUR
    by_trolley = rows["kind"] == "trolley"
    assert (after[~by_trolley] >= 2).all()
    assert (after[by_trolley] <= 12).all()
    first_worn = after[rows["kind"] == "wearable"].groupby(rows["subject_id"]).min()
    last_set = after[by_trolley].groupby(rows["subject_id"]).max()
    assert (first_worn > last_set.reindex(first_worn.index)).all()
    assert first_worn.quantile(0.25) < 6 < first_worn.quantile(0.75)


def test_gateway_changes_when_a_patient_moves_to_another_unit(
    batches: list[Batch], truth: dict[str, Stay], stays: pd.DataFrame
) -> None:
    moved = {subject: stay.moved for subject, stay in truth.items() if stay.moved is not None}
    assert 0.03 < len(moved) / len(truth) < 0.10
    rows = pd.concat([batch.observations for batch in batches])
    gateways = rows.groupby("subject_id", observed=True)["source"].unique()
    for subject, stay in truth.items():
        first = f"gateway-{stay.unit + 1}"
        assert stays.set_index("subject_id").loc[subject, "unit"] == UNITS[stay.unit]
        if stay.moved is None:
            assert list(gateways[subject]) == [first]
            continue
        at, unit = pd.Timestamp(stay.moved[0], unit="us", tz="UTC"), stay.moved[1]
        of_subject = rows[rows["subject_id"] == subject]
        assert unit != stay.unit
        expected = np.where(of_subject["observed_at"] < at, first, f"gateway-{unit + 1}")
        assert (of_subject["source"].astype(str) == expected).all()


def test_patients_from_another_unit_have_been_in_hospital_for_days(stays: pd.DataFrame) -> None:
    before_unit = stays["unit_admitted_at"] - stays["hospital_admitted_at"]
    transferred = before_unit > 30 * HOUR
    assert 0.02 < transferred.mean() < 0.10
    assert (stays["unit_admitted_at"] <= stays["start"]).all()
    assert (stays["start"] - stays["unit_admitted_at"] <= 24 * HOUR).all()
    assert (stays["start"] == stays["unit_admitted_at"])[~transferred].mean() > 0.98
    assert before_unit[transferred].between(30 * HOUR, 6 * 24 * HOUR).all()


def test_readmitted_patient_is_the_same_patient(truth: dict[str, Stay], batches: list[Batch]) -> None:
    pairs = [(stay, truth[f"{patient_of(name)}~2"]) for name, stay in truth.items() if name.endswith("~1")]
    assert len(pairs) == PATIENTS // 12
    for first, second in pairs:
        assert first.patient == second.patient
        away = (second.start - first.end) / 86_400e6
        assert 2 < away < 11
        assert split_of(first.subject) == split_of(second.subject)
    levels = pd.concat([batch.observations.query("signal == 'systolic_bp' and value > 0") for batch in batches])
    level = levels.groupby("subject_id", observed=True)["value"].median()
    both = np.array([(level[first.subject], level[second.subject]) for first, second in pairs])
    others = np.abs(both[:, 0] - np.roll(both[:, 1], 1)).mean()
    assert np.abs(both[:, 0] - both[:, 1]).mean() < 0.7 * others
    tables = pd.concat([batch.observations[["message_id", "subject_id"]] for batch in batches]).drop_duplicates()
    assert tables["message_id"].is_unique


def test_names_of_stays_follow_from_the_patient_number_alone() -> None:
    assert name_stays(11) == ("sim-000011~1", "sim-000011~2")
    assert name_stays(12) == ("sim-000012",)
    for number in (3, 8, 17, 18):  # patients in the examples of the API
        assert name_stays(number) == (f"sim-{number:06d}",)
        assert choose_monitoring(2 * number).name == "continuous"
    for seed in (1, 2):
        assert [stay.subject for stay in simulate_patient(seed, 23)] == ["sim-000023~1", "sim-000023~2"]


def test_both_stays_of_a_simulated_patient_are_in_one_batch() -> None:
    for batch in SimulatedWard(patients=24, patients_per_batch=12).batches():
        patients = batch.stays["subject_id"].map(patient_of)
        assert (len(patients), patients.nunique()) == (13, 12)


def test_arrival_has_one_set_of_vital_signs() -> None:
    observations, index = simulate_arrivals(300, SEED)
    assert list(observations) == ["subject_id", "observed_at", "signal", "value", "recorded_at"]
    checked = check(observations, declared=OWN_UNITS)
    assert checked.quarantined.empty
    sets = checked.accepted.groupby("subject_id")
    assert (sets["signal"].agg(lambda signals: set(map(str, signals))) == set(NEWS2_BANDS)).all()
    assert (sets.size() == len(NEWS2_BANDS)).all()
    assert (sets["observed_at"].min() == sets["observed_at"].max()).all()
    assert (sets["recorded_at"].max() == index.set_index("subject_id")["index_time"]).all()
    features = build_features(checked.accepted, index)
    assert (features["news2"] == features["news2_highest"]).all()  # no component is missing
    score = features["news2"].groupby(index["state"]).median()
    assert score["well"] <= 2
    assert 4 <= score["moderately ill"] <= 7
    assert score["severely ill"] >= 10
    share = index["state"].value_counts(normalize=True)
    assert all(abs(share[state.name] - state.share) < 0.1 for state in STATES)


def test_arrival_depends_on_seed_and_number_only() -> None:
    few, more, other = simulate_arrivals(5, 1), simulate_arrivals(9, 1), simulate_arrivals(5, 2)
    for left, right in zip(few, more, strict=True):
        pd.testing.assert_frame_equal(left, right[right["subject_id"].isin(few[1]["subject_id"])])
    assert not few[0].equals(other[0])
