"""eICU Collaborative Research Database Demo 2.0.1: hourly records of many US hospitals, with hourly labels of sepsis or AKI.

Pollard TJ, Johnson AEW, Raffa JD, et al. The eICU Collaborative Research Database. Sci Data 2018;5:180178. Hourly tables and
labels by YAIB: van de Water R, Schmidt H, Elbers P, et al. Yet Another ICU Benchmark. ICLR 2024.

An hour h holds what was measured from h to h + 1 hours after admission (a median; urine: the sum) and is stamped h, as YAIB
does; the labels are on the same hours. A label is true from six hours before the onset, and the labelled record ends six hours
after it. Where the first hour is already positive the onset lies at or before six hours later: unknown. A stay is a subject
here, named ``<patient>~<stay>``: some patients have several, and belong to one split (:func:`models.cohort.patient_of`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import pandas as pd

from features.observations import TIME
from pipelines.sources import Batch, SourceError
from pipelines.sources._shared.oxygen import on_oxygen
from pipelines.sources._shared.parquet import read_columns
from pipelines.sources._shared.wide import readings

EPOCH: Final = pd.Timestamp("2014-01-01T00:00:00Z").as_unit("us")  # the data have no calendar; every admission is here
LABEL_LEAD: Final = pd.Timedelta(hours=6)

# Units are those of the signal table: pressures mmHg, temperature Celsius, FiO2 %, urine mL, troponin T ng/mL, cells 10^3/uL.
# Left out, since the table has no signal for them: bnd, lymph, neut (differential count, %), cai (ionised calcium), ck, ckmb,
# crp, inr_pt, mch, mchc, mcv, methb.
SIGNAL_OF: Final = {
    "hr": "heart_rate", "resp": "respiratory_rate", "o2sat": "spo2", "sbp": "systolic_bp", "dbp": "diastolic_bp",
    "map": "mean_bp", "temp": "body_temperature", "glu": "glucose", "fio2": "fio2", "urine": "urine_output",
    "alb": "albumin", "alp": "alkaline_phosphatase", "alt": "alt", "ast": "ast", "be": "base_excess",
    "bicar": "bicarbonate", "bili": "bilirubin_total", "bili_dir": "bilirubin_direct", "bun": "bun", "ca": "calcium",
    "cl": "chloride", "crea": "creatinine", "fgn": "fibrinogen", "hgb": "hemoglobin", "k": "potassium",
    "lact": "lactate", "mg": "magnesium", "na": "sodium", "pco2": "paco2", "ph": "ph", "phos": "phosphate",
    "plt": "platelets", "po2": "pao2", "ptt": "ptt", "tnt": "troponin_t", "wbc": "wbc",
}  # fmt: skip
AT_ADMISSION: Final = {"height": "body_height", "weight": "body_weight"}  # cm, kg
SEX_OF: Final = {"Female": 0.0, "Male": 1.0}


class EicuDemo:
    """The folder of hourly.parquet, static.parquet, patient.parquet and the task's label_*.parquet.

    Raises:
        SourceError: a table is not there, lacks a column, or is not about the stays of the others.
    """

    simulated = False
    deidentified = True

    def __init__(self, data: Path, task: Literal["sepsis", "aki"]) -> None:
        self.name = f"eicu_{task}"
        self.task: str = task
        self.data = data
        if not data.is_dir():
            raise SourceError(f"--data {data}: expected the folder of hourly.parquet and label_{task}.parquet; there is none")
        labels = _labels(data / f"label_{task}.parquet")
        self._patients = _patients(data, pd.Index(labels["stay_id"].unique()))
        self._names = self._patients["uniquepid"].astype("string") + "~" + self._patients.index.astype("string")
        self._labels = _timed(labels, self._names)

    def __len__(self) -> int:
        return 1

    def batches(self) -> Iterator[Batch]:
        stays = _stays(self._labels, self._patients, self._names)
        yield Batch(
            observations=pd.concat([self._hourly(stays), self._at_admission(stays)], ignore_index=True),
            stays=stays,
            outcomes=_outcomes(self._labels, kind=self.task),
        )

    def _hourly(self, stays: pd.DataFrame) -> pd.DataFrame:
        path = self.data / "hourly.parquet"
        rows = _timed(read_columns(path, "stay_id", "hour", *SIGNAL_OF), self._names)
        # Some stays go on after their last label; no index time could see those hours.
        last = rows["subject_id"].map(stays.set_index("subject_id")["end"])
        rows = rows[rows["time"] <= last].reset_index(drop=True)
        columns = {signal: rows[column].astype(float) for column, signal in SIGNAL_OF.items()}
        return readings(rows, {**columns, "on_oxygen": on_oxygen(columns["fio2"])}, path.name)

    def _at_admission(self, stays: pd.DataFrame) -> pd.DataFrame:
        rows = stays[["subject_id"]].assign(time=stays["start"])
        columns = {signal: self._patients[column].reset_index(drop=True) for column, signal in AT_ADMISSION.items()}
        return readings(rows, columns, "static.parquet")


def _labels(path: Path) -> pd.DataFrame:
    labels = read_columns(path, "stay_id", "hour", "label")
    if labels.duplicated(["stay_id", "hour"]).any():
        raise SourceError(f"{path}: an hour of a stay twice; expected one label an hour")
    if labels["label"].dtype != bool:
        raise SourceError(f"{path}: label: type {labels['label'].dtype}; expected true or false in every row")
    if labels.empty:
        raise SourceError(f"{path}: no row; expected one label an hour of every stay")
    return labels.sort_values(["stay_id", "hour"], ignore_index=True)


def _timed(rows: pd.DataFrame, names: "pd.Series[str]") -> pd.DataFrame:
    """With the subject's name, missing where the stay has no labels, and the time."""
    time = (EPOCH + pd.to_timedelta(rows["hour"], unit="h")).astype(TIME)
    return rows.assign(subject_id=rows["stay_id"].map(names), time=time)


def _patients(data: Path, stay_ids: pd.Index) -> pd.DataFrame:
    """Statics of those stays, in their order."""
    tables = (
        (data / "static.parquet", "stay_id", ("age", "sex", *AT_ADMISSION)),
        (data / "patient.parquet", "patientunitstayid", ("uniquepid", "hospitalid", "unittype", "hospitaladmitoffset")),
    )
    found = []
    for path, key, columns in tables:
        table = read_columns(path, key, *columns).set_index(key)
        if not table.index.is_unique:
            raise SourceError(f"{path}: {key}: a stay twice; expected one row a stay")
        if absent := len(stay_ids.difference(table.index)):
            raise SourceError(f"{path}: {key}: no row for {absent} of {len(stay_ids)} labelled stays; expected one each")
        found.append(table.loc[stay_ids])
    return pd.concat(found, axis=1)


def _stays(labels: pd.DataFrame, patients: pd.DataFrame, names: "pd.Series[str]") -> pd.DataFrame:
    time = labels.groupby("stay_id")["time"]
    return pd.DataFrame(
        {
            "subject_id": names.array,
            "start": time.first().array,
            "end": time.last().array,
            "unit_admitted_at": pd.Series(EPOCH, index=range(len(patients)), dtype=TIME),
            # Minutes from the unit's admission. A few lie after it, as charted.
            "hospital_admitted_at": (EPOCH + pd.to_timedelta(patients["hospitaladmitoffset"], unit="min")).astype(TIME).array,
            "age": patients["age"].to_numpy(float),  # 90: older than 89
            "sex": patients["sex"].map(SEX_OF).to_numpy(float),
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
