"""Online features: from one new reading to the patient's updated features, and to the store."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from tests.benchmarks.measure import Section
from vigil.features.batch import encode_observations
from vigil.features.catalogue import SERVICES, STANDARD, list_features
from vigil.features.kernel.plan import SECOND_US
from vigil.features.observations import TIME, check
from vigil.features.online import SubjectFeatures
from vigil.features.store.client import Store
from vigil.models.cohort import index_times
from vigil.pipelines.cohort_store import CohortStore
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.build_features import build
from vigil.pipelines.jobs.ingest import ingest
from vigil.pipelines.sources.simulated import SimulatedWard

PATIENTS = 60
ROUNDS = 300
BATCH = 200  # rows written to the store at a time


def online_section() -> Section:
    """Measure the update of one patient, and the writing of many."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        ingest(SimulatedWard(patients=PATIENTS, patients_per_batch=PATIENTS), Home(home))
        build(Home(home))
        cohort = CohortStore(home)
        observations, index = cohort.read_partition("observations", 0), index_times(cohort.read_partition("stays", 0))
        hours = index.groupby("subject_id").size()
        rows = []
        for name, rank in (
            ("a patient with a stay of median length", PATIENTS // 2),
            ("the patient with the longest stay", -1),
        ):
            rows += _measure_refresh(observations, index, hours.index[np.argsort(hours)[rank]], name)
        rows += [
            _measure_write(Store(home), index, service) for service in ("vital_signs_v1", "deterioration_v1", "everything")
        ]
    return Section(
        "Online",
        f"A patient of the simulated ward with a wearable (one reading a minute of three signals), a cuff, a thermometer and "
        f"nurses' rounds: all {len(list_features(*STANDARD))} features after one new heart rate. "
        f"Writes: {BATCH} patients to Feast's SQLite.",
        ["step", "median", "95th percentile", "per second"],
        rows,
    )


def _measure_refresh(observations: pd.DataFrame, index: pd.DataFrame, subject: str, name: str) -> list[list[str]]:
    stay = index[index["subject_id"] == subject]
    last = int(stay["index_time"].astype(TIME).to_numpy("datetime64[us]").astype(np.int64)[-1])
    patient = SubjectFeatures(*stay.iloc[0][["age", "sex", "unit_admitted_at", "hospital_admitted_at"]])
    own = observations[observations["subject_id"] == subject]
    patient.add(own)
    patient.forget(last)
    heart_rate = encode_observations(own[own["signal"] == "heart_rate"].tail(1))
    times = [np.array([last + (round_ + 1) * SECOND_US]) for round_ in range(2 * ROUNDS)]
    frames = [check(_heart_rate_frame(subject, t[0])).accepted for t in times[ROUNDS:]]
    arrays = [_time_update(lambda t=t: patient.insert(heart_rate[0], t, t, heart_rate[3]), patient, t) for t in times[:ROUNDS]]
    framed = [
        _time_update(lambda frame=frame: patient.add(frame), patient, t)
        for frame, t in zip(frames, times[ROUNDS:], strict=True)
    ]
    what = f"{name} ({len(stay)} h, {len(patient) - 2 * ROUNDS:,} of {len(own):,} readings in memory)"
    return [
        _row(f"update {what}", arrays),
        _row("the same, with the reading as a checked frame of one row", framed),
    ]


def _time_update(add: Callable[[], None], patient: SubjectFeatures, t: np.ndarray) -> float:
    """Return the milliseconds from a new reading to the updated features."""
    started = time.perf_counter()
    add()
    patient.at(t)
    return 1e3 * (time.perf_counter() - started)


def _row(what: str, times: list[float]) -> list[str]:
    median, slow = statistics.median(times), float(np.quantile(times, 0.95))
    return [what, f"{median:.2f} ms", f"{slow:.2f} ms", f"{1e3 / median:,.0f} patients"]


def _heart_rate_frame(subject: str, at: int) -> pd.DataFrame:
    time_ = pd.Series(np.array([at], dtype="datetime64[us]")).dt.tz_localize("UTC")
    return pd.DataFrame({"subject_id": [subject], "observed_at": time_, "signal": ["heart_rate"], "value": [80.0]})


def _measure_write(store: Store, index: pd.DataFrame, service: str) -> list[str]:
    rows = pd.DataFrame({"subject_id": [f"p{n}" for n in range(BATCH)], "index_time": index["index_time"].iloc[0]})
    rows = pd.concat(
        [rows, pd.DataFrame(1.5, index=rows.index, columns=list(list_features(*STANDARD)), dtype=np.float32)], axis=1
    )
    times = []
    for _ in range(7):
        started = time.perf_counter()
        store.write_online(rows, service)
        times.append(time.perf_counter() - started)
    median, slow = statistics.median(times[1:]), max(times[1:])
    what = f"write {BATCH} patients, `{service}` ({len(SERVICES[service])} features)"
    return [what, f"{1e3 * median:.0f} ms", f"{1e3 * slow:.0f} ms", f"{BATCH / median:,.0f} patients"]
