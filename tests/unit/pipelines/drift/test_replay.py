"""Replay: a cohort without devices, gateways or a calendar gets them by a fixed rule."""

import pandas as pd

from vigil.pipelines.drift.drill.replay import BEDS, assign_beds

START = pd.Timestamp("2019-01-01T00:00Z").as_unit("us")


def cohort(patients, hours=30, sites=("a",)):
    names = [f"p{number:03}" for number in range(patients)]
    stays = pd.DataFrame(
        {
            "subject_id": names, "start": START, "end": START + pd.Timedelta(hours=hours),
            "site": [sites[number % len(sites)] for number in range(patients)],
        }
    )  # fmt: skip
    times = START + pd.to_timedelta(range(hours), unit="h")
    readings = pd.concat(
        [pd.DataFrame({"subject_id": name, "observed_at": times, "signal": "heart_rate", "value": 80.0}) for name in names],
        ignore_index=True,
    )
    outcomes = pd.DataFrame({"subject_id": names[:2], "onset": START + pd.Timedelta(hours=9)})
    return readings, stays, outcomes


def test_assign_beds_puts_one_patient_at_a_time_into_a_bed():
    readings, stays, _ = assign_beds(*cohort(2 * BEDS + 5))
    bed = readings.groupby("subject_id")["device_id"].agg(["nunique", "first"])
    assert (bed["nunique"] == 1).all()
    spent = stays.set_index("subject_id").join(bed["first"]).sort_values(["first", "start"])
    follows = spent["first"].eq(spent["first"].shift())
    assert (spent["start"] > spent["end"].shift())[follows].all()


def test_assign_beds_keeps_times_within_a_stay():
    before, after = cohort(BEDS + 3), assign_beds(*cohort(BEDS + 3))

    def since_start(readings, stays):
        start = readings["subject_id"].map(stays.set_index("subject_id")["start"])
        return (readings["observed_at"] - start).tolist()

    assert since_start(before[0], before[1]) == since_start(after[0], after[1])
    assert (after[2]["onset"] - after[1]["start"].iloc[:2]).eq(pd.Timedelta(hours=9)).all()


def test_assign_beds_makes_four_gateways_or_one_for_each_hospital():
    assert set(assign_beds(*cohort(BEDS))[0]["source"]) == {f"gateway-{number}" for number in range(1, 5)}
    assert set(assign_beds(*cohort(BEDS, sites=("a", "b")))[0]["source"]) == {"hospital-a", "hospital-b"}


def test_assign_beds_is_deterministic():
    pd.testing.assert_frame_equal(assign_beds(*cohort(70))[0], assign_beds(*cohort(70))[0])
