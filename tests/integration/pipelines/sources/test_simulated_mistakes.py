"""Mistakes of staff in the simulated ward: each kind is made and put right, and what counts in the end stays the same."""

import numpy as np
import pandas as pd
import pytest

from tests.support.mistakes import without_mistakes
from vigil.features.declarations import OWN_UNITS
from vigil.features.observations import COLUMNS, check
from vigil.pipelines.sources.simulated import SimulatedWard
from vigil.pipelines.sources.simulated.devices import CHART, DEVICES, SIGNAL_NAMES, THERMOMETER, TROLLEY, Device, Readings
from vigil.pipelines.sources.simulated.mistakes import _slip
from vigil.pipelines.sources.simulated.tables import to_batch
from vigil.pipelines.sources.simulated.ward import _simulate_stays

PATIENTS, SEED = 120, 7


@pytest.fixture(scope="module")
def ward() -> pd.DataFrame:
    """Return the readings of a ward, in order of arrival."""
    (batch,) = SimulatedWard(patients=PATIENTS, seed=SEED, patients_per_batch=PATIENTS).batches()
    return batch.observations


def test_mistakes_leave_what_counts_in_the_end_as_it_was(ward: pd.DataFrame) -> None:
    """Ward and generator without mistakes: the same readings, values and times, in the same order."""
    stays = [stay for number in range(PATIENTS) for stay in _simulate_stays(SEED, number)]
    careful = to_batch(stays).observations
    received = without_mistakes(ward).reset_index(drop=True)
    columns = list(COLUMNS)
    pd.testing.assert_frame_equal(received[columns], careful[columns], check_categorical=False)
    assert (careful["status"] == "final").all()
    counts = check(ward, declared=OWN_UNITS).accepted
    counts = counts[counts["superseded_at"].isna()].drop(columns="superseded_at").reset_index(drop=True)
    expected = check(careful[columns], declared=OWN_UNITS).accepted
    pd.testing.assert_frame_equal(counts, expected, check_categorical=False)


def test_mistakes_of_each_kind_are_made_and_put_right(ward: pd.DataFrame) -> None:
    rows = ward
    devices = rows["device_id"].astype(str).str.partition("-")[0]
    typed = devices.isin(["chart", "thermometer", "trolley"])
    assert (rows.loc[~typed, "version"] == 1).all()  # devices that send by themselves make no such mistakes
    once = rows[typed].drop_duplicates(["message_id", "version"])
    first, second = (once[once["version"] == version].set_index("message_id") for version in (1, 2))
    assert set(second["status"]) == {"corrected", "retracted"}
    corrected, retracted = (second[second["status"] == status] for status in ("corrected", "retracted"))
    assert 0.005 < len(corrected) / typed.sum() < 0.02
    assert len(retracted) > 30
    mistyped, strange = first.loc[corrected.index], first.loc[retracted.index]
    assert (mistyped["value"] != corrected["value"]).all()
    assert (mistyped["observed_at"] == corrected["observed_at"]).all()
    assert (mistyped["recorded_at"] >= mistyped["observed_at"]).all()
    overtaken = mistyped["recorded_at"] > corrected["recorded_at"]
    assert 0.1 < overtaken.mean() < 0.5
    until_noticed = (retracted["recorded_at"] - strange["recorded_at"]) / pd.Timedelta("1min")
    assert until_noticed.between(10, 180).all()


def test_slip_swaps_digits_or_takes_the_next_code() -> None:
    def slip(signal: str, value: float, device: Device) -> float:
        numbers = [np.array([number]) for number in (SIGNAL_NAMES.index(signal), DEVICES.index(device))]
        one = np.ones(1, dtype=np.int64)
        readings = Readings(one, one, numbers[0], np.array([value]), numbers[1], one, one, one)
        return _slip(readings, 0, np.random.default_rng(1))

    assert slip("body_temperature", 36.8, THERMOMETER) == 38.6
    assert slip("systolic_bp", 128.0, TROLLEY) == 182.0
    assert slip("heart_rate", 88.0, TROLLEY) == 87.0
    assert slip("on_oxygen", 0.0, CHART) == 1.0
    assert slip("consciousness", 4.0, CHART) == 3.0
