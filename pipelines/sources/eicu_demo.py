"""eICU Collaborative Research Database Demo 2.0.1: hourly records of many US hospitals, with hourly labels of sepsis or AKI.

Pollard TJ, Johnson AEW, Raffa JD, et al. The eICU Collaborative Research Database. Sci Data 2018;5:180178. Hourly tables and
labels by YAIB: van de Water R, Schmidt H, Elbers P, et al. Yet Another ICU Benchmark. ICLR 2024.

The row of hour h holds the values measured from h to h + 1 hours after admission (the median; for urine the sum). Its time is
h, as in YAIB, and the labels refer to the same hours. A label is true from six hours before the onset. The labelled record ends
six hours after the onset. Where the first hour is already positive the onset is unknown: it lies at most six hours later.

A stay is a subject, named ``<patient>~<stay>``. Some patients have several stays, which all belong to one split
(:func:`vigil.models.cohort.patient_of`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import pandas as pd

from vigil.features.observations import TIME
from vigil.models.tasks import TASKS
from vigil.pipelines.sources import Batch, Source, SourceError
from vigil.pipelines.sources._shared.facts import plausible_age, time_after
from vigil.pipelines.sources._shared.parquet import read_columns
from vigil.pipelines.sources._shared.wide import to_observations

EPOCH: Final = pd.Timestamp("2014-01-01T00:00:00Z").as_unit(
    "us"
)  # the data have no calendar dates; every admission is at this time
LABEL_LEAD: Final = pd.Timedelta(hours=6)

# Units are those of the signal table: pressures mmHg, temperature Celsius, FiO2 %, urine mL, troponin T ng/mL, cells 10^3/uL.
# Columns without a signal in that table are left out: bnd, lymph, neut (differential count, %), cai (ionised calcium), ck,
# ckmb, crp, inr_pt, mch, mchc, mcv, methb.
SIGNALS_BY_COLUMN: Final = {
    "hr": "heart_rate", "resp": "respiratory_rate", "o2sat": "spo2", "sbp": "systolic_bp", "dbp": "diastolic_bp",
    "map": "mean_bp", "temp": "body_temperature", "glu": "glucose", "fio2": "fio2", "urine": "urine_output",
    "alb": "albumin", "alp": "alkaline_phosphatase", "alt": "alt", "ast": "ast", "be": "base_excess",
    "bicar": "bicarbonate", "bili": "bilirubin_total", "bili_dir": "bilirubin_direct", "bun": "bun", "ca": "calcium",
    "cl": "chloride", "crea": "creatinine", "fgn": "fibrinogen", "hgb": "hemoglobin", "k": "potassium",
    "lact": "lactate", "mg": "magnesium", "na": "sodium", "pco2": "paco2", "ph": "ph", "phos": "phosphate",
    "plt": "platelets", "po2": "pao2", "ptt": "ptt", "tnt": "troponin_t", "wbc": "wbc",
}  # fmt: skip
ADMISSION_SIGNALS: Final = {"height": "body_height", "weight": "body_weight"}  # cm, kg
SEX_CODES: Final = {"Female": 0.0, "Male": 1.0}


class EicuDemo(Source):
    """A folder of hourly.parquet, static.parquet, patient.parquet and the task's label_*.parquet.

    Raises:
        SourceError: a table is missing, lacks a column, or does not hold the labelled stays.
    """

    deidentified = True

    def __init__(self, data: Path, task: Literal["sepsis", "aki"]) -> None:
        self.name = f"eicu_{task}"
        self.task = TASKS[task]
        self.data = data
        if not data.is_dir():
            raise SourceError(f"--data {data}: expected the folder of hourly.parquet and label_{task}.parquet; there is none")
        labels = _read_labels(data / f"label_{task}.parquet")
        self._patients = _read_patients(data, pd.Index(labels["stay_id"].unique()))
        self._subjects = self._patients["uniquepid"].astype("string") + "~" + self._patients.index.astype("string")
        self._labels = _add_subject_and_time(labels, self._subjects)

    def __len__(self) -> int:
        return 1

    def batches(self) -> Iterator[Batch]:
        stays = _stays(self._labels, self._patients, self._subjects)
        yield Batch(
            observations=pd.concat([self._read_hourly(stays), self._read_admission(stays)], ignore_index=True),
            stays=stays,
            outcomes=_outcomes(self._labels, kind=self.task.name),
        )

    def _read_hourly(self, stays: pd.DataFrame) -> pd.DataFrame:
        path = self.data / "hourly.parquet"
        rows = _add_subject_and_time(read_columns(path, "stay_id", "hour", *SIGNALS_BY_COLUMN), self._subjects)
        # Some stays continue after their last label. No index time reads those hours.
        end = rows["subject_id"].map(stays.set_index("subject_id")["end"])
        rows = rows[rows["time"] <= end].reset_index(drop=True)
        columns = {signal: rows[column].astype(float) for column, signal in SIGNALS_BY_COLUMN.items()}
        return to_observations(rows, columns, path.name)

    def _read_admission(self, stays: pd.DataFrame) -> pd.DataFrame:
        rows = stays[["subject_id"]].assign(time=stays["start"])
        columns = {signal: self._patients[column].reset_index(drop=True) for column, signal in ADMISSION_SIGNALS.items()}
        return to_observations(rows, columns, "static.parquet")


def _read_labels(path: Path) -> pd.DataFrame:
    labels = read_columns(path, "stay_id", "hour", "label")
    if labels.duplicated(["stay_id", "hour"]).any():
        raise SourceError(f"{path}: an hour of a stay twice; expected one label for each hour")
    if labels["label"].dtype != bool:
        raise SourceError(f"{path}: label: type {labels['label'].dtype}; expected true or false in every row")
    if labels.empty:
        raise SourceError(f"{path}: no row; expected one label for each hour of every stay")
    return labels.sort_values(["stay_id", "hour"], ignore_index=True)


def _add_subject_and_time(rows: pd.DataFrame, subjects: "pd.Series[str]") -> pd.DataFrame:
    """Add ``subject_id``, which is missing where the stay has no labels, and ``time``."""
    time = (EPOCH + pd.to_timedelta(rows["hour"], unit="h")).astype(TIME)
    return rows.assign(subject_id=rows["stay_id"].map(subjects), time=time)


def _read_patients(data: Path, stay_ids: pd.Index) -> pd.DataFrame:
    """Read the static data of these stays, in their order."""
    tables = (
        (data / "static.parquet", "stay_id", ("age", "sex", *ADMISSION_SIGNALS)),
        (data / "patient.parquet", "patientunitstayid", ("uniquepid", "hospitalid", "unittype", "hospitaladmitoffset")),
    )
    statics = []
    for path, key, columns in tables:
        table = read_columns(path, key, *columns).set_index(key)
        if not table.index.is_unique:
            raise SourceError(f"{path}: {key}: a stay twice; expected one row for each stay")
        if absent := len(stay_ids.difference(table.index)):
            raise SourceError(f"{path}: {key}: no row for {absent} of {len(stay_ids)} labelled stays; expected one for each")
        statics.append(table.loc[stay_ids])
    return pd.concat(statics, axis=1)


def _stays(labels: pd.DataFrame, patients: pd.DataFrame, subjects: "pd.Series[str]") -> pd.DataFrame:
    time = labels.groupby("stay_id")["time"]
    return pd.DataFrame(
        {
            "subject_id": subjects.array,
            "start": time.first().array,
            "end": time.last().array,
            "unit_admitted_at": pd.Series(EPOCH, index=range(len(patients)), dtype=TIME),
            # In minutes from the admission to the unit. A few were charted after it.
            "hospital_admitted_at": time_after(EPOCH, patients["hospitaladmitoffset"], "min").array,
            "age": plausible_age(patients["age"]).to_numpy(),  # 90 stands for any age above 89
            "sex": patients["sex"].map(SEX_CODES).to_numpy(float),
            "site": ("eicu-" + patients["hospitalid"].astype("string")).array,
            "unit": patients["unittype"].astype("string").array,
        }
    )


def _outcomes(labels: pd.DataFrame, kind: str) -> pd.DataFrame:
    first_hour = labels.groupby("subject_id")["time"].first()
    positive = labels[labels["label"]].groupby("subject_id")["time"].first()
    return pd.DataFrame(
        {
            "subject_id": positive.index.astype("string"),
            "onset": (positive + LABEL_LEAD).astype(TIME).array,
            "kind": kind,
            "onset_known": (positive > first_hour.loc[positive.index]).to_numpy(),
        }
    )
