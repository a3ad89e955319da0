"""PhysioNet/Computing in Cardiology Challenge 2019: early prediction of sepsis from hourly ICU records.

Reyna MA, Josef CS, Jeter R, et al. Early prediction of sepsis from clinical data. Crit Care Med 2020;48(2):210-217.
doi 10.13026/v64v-d857. Each stay has one file (pNNNNNN.psv) with one row an hour. SepsisLabel is 1 from six hours before
the onset to the end of the record. Where the first row is already positive the onset is unknown: it lies at most six hours
later.
"""

import io
import math
import zipfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv

from vigil.features.observations import TIME
from vigil.models.tasks import TASKS
from vigil.pipelines.sources import Batch, Source, SourceError, refuse_large
from vigil.pipelines.sources._shared.facts import plausible_age, plausible_sex, time_after
from vigil.pipelines.sources._shared.wide import to_observations

EPOCH: Final = pd.Timestamp("2019-01-01T00:00:00Z").as_unit(
    "us"
)  # the data have no calendar dates; hour 0 of every stay is at this time
LABEL_LEAD: Final = pd.Timedelta(hours=6)
STAYS_PER_BATCH: Final = 2000

SIGNALS_BY_COLUMN: Final = {
    "HR": "heart_rate", "O2Sat": "spo2", "Temp": "body_temperature", "SBP": "systolic_bp", "MAP": "mean_bp",
    "DBP": "diastolic_bp", "Resp": "respiratory_rate", "EtCO2": "etco2", "BaseExcess": "base_excess",
    "HCO3": "bicarbonate", "FiO2": "fio2", "pH": "ph", "PaCO2": "paco2", "SaO2": "sao2", "AST": "ast", "BUN": "bun",
    "Alkalinephos": "alkaline_phosphatase", "Calcium": "calcium", "Chloride": "chloride", "Creatinine": "creatinine",
    "Bilirubin_direct": "bilirubin_direct", "Glucose": "glucose", "Lactate": "lactate", "Magnesium": "magnesium",
    "Phosphate": "phosphate", "Potassium": "potassium", "Bilirubin_total": "bilirubin_total",
    "TroponinI": "troponin_i", "Hct": "hematocrit", "Hgb": "hemoglobin", "PTT": "ptt", "WBC": "wbc",
    "Fibrinogen": "fibrinogen", "Platelets": "platelets",
}  # fmt: skip
HEADER: Final = (*SIGNALS_BY_COLUMN, "Age", "Gender", "Unit1", "Unit2", "HospAdmTime", "ICULOS", "SepsisLabel")
_HEADER_LINE: Final = "|".join(HEADER).encode()


class Cinc2019(Source):
    """The official zip archive of the challenge, or a folder of .psv files.

    Raises:
        SourceError: the path does not exist, holds no .psv file, or is neither a zip nor a folder.
    """

    name = "cinc2019"
    deidentified = True
    task = TASKS["sepsis"]

    def __init__(self, data: Path) -> None:
        self.data = data
        if data.is_dir():
            self._files = sorted(str(path) for path in data.rglob("*.psv"))
        elif data.is_file() and zipfile.is_zipfile(data):
            with zipfile.ZipFile(data) as archive:
                self._files = sorted(name for name in archive.namelist() if name.endswith(".psv"))
        else:
            raise SourceError(f"--data {data}: expected the official .zip or a folder of .psv files; found neither")
        if not self._files:
            raise SourceError(f"--data {data}: no .psv file in it; expected files such as p000001.psv")
        if len({Path(file).stem for file in self._files}) < len(self._files):
            raise SourceError(
                f"--data {data}: two files of the same name in different folders; expected one file for each stay"
            )

    def __len__(self) -> int:
        return math.ceil(len(self._files) / STAYS_PER_BATCH)

    def batches(self) -> Iterator[Batch]:
        # The archive is opened once for all batches, because its directory alone takes a third of a second to read.
        with nullcontext() if self.data.is_dir() else zipfile.ZipFile(self.data) as archive:
            for first in range(0, len(self._files), STAYS_PER_BATCH):
                yield _batch(self._read(self._files[first : first + STAYS_PER_BATCH], archive), source=self.data.name)

    def _read(self, files: list[str], archive: zipfile.ZipFile | None) -> pd.DataFrame:
        """Read the rows of several stays in one parse, since twenty thousand small parses take minutes."""
        bodies, lengths = [], []
        for file in files:
            refuse_large(Path(file).name, archive.getinfo(file).file_size if archive else Path(file).stat().st_size)
            text = archive.read(file) if archive else Path(file).read_bytes()
            header, _, body = text.rstrip().partition(b"\n")  # editors add empty lines at the end
            if header.strip() != _HEADER_LINE:
                raise SourceError(f"{Path(file).name}: not a Challenge 2019 header; expected {'|'.join(HEADER)}")
            bodies.append(body if body.endswith(b"\n") or not body else body + b"\n")
            lengths.append(bodies[-1].count(b"\n"))
            if not lengths[-1]:
                raise SourceError(f"{Path(file).name}: a header but no row; expected one row for each hour of the stay")
        rows = _parse(b"".join(bodies), sum(lengths))
        if rows is None:
            names = (Path(file).name for file in files)
            broken = [name for name, body, length in zip(names, bodies, lengths, strict=True) if _parse(body, length) is None]
            raise SourceError(
                f"{broken[0] if broken else self.data}: expected rows of {len(HEADER)} numbers, with NaN or nothing "
                "where one is unknown; correct that file"
            )
        stays = [Path(file).stem for file in files]
        rows["subject_id"] = pd.Categorical.from_codes(np.repeat(np.arange(len(files)), lengths), categories=pd.Index(stays))
        _check_rows(rows)
        rows["time"] = (EPOCH + pd.to_timedelta(rows["ICULOS"], unit="h")).astype(TIME)
        return rows.sort_values(["subject_id", "ICULOS"], ignore_index=True)  # rows count by their hour, not by their place


def _check_rows(rows: pd.DataFrame) -> None:
    """Refuse a file whose hours or labels could be misread.

    Raises:
        SourceError: with the file and the rule.
    """
    rules = {
        "ICULOS: an hour is missing, not whole, or not from 1 on": ~((rows["ICULOS"] >= 1) & (rows["ICULOS"] % 1 == 0)),
        "ICULOS: an hour twice": rows.duplicated(["subject_id", "ICULOS"]),
        "SepsisLabel: expected 0 or 1": ~rows["SepsisLabel"].isin([0, 1]),
    }
    for rule, broken in rules.items():
        if broken.any():
            stay = rows["subject_id"].iloc[int(broken.to_numpy().argmax())]
            raise SourceError(f"{stay}.psv: {rule}; correct or remove that file")


def _parse(text: bytes, length: int) -> pd.DataFrame | None:
    """Parse rows of numbers, or return None if the text is not that many rows of numbers.

    The error that pyarrow raises is dropped, since it quotes a patient's value.
    """
    try:
        table = pacsv.read_csv(
            io.BytesIO(text),
            read_options=pacsv.ReadOptions(column_names=list(HEADER)),
            parse_options=pacsv.ParseOptions(delimiter="|"),
            convert_options=pacsv.ConvertOptions(column_types=dict.fromkeys(HEADER, pa.float64()), null_values=["NaN", ""]),
        )
    except pa.ArrowInvalid:
        return None
    rows: pd.DataFrame = table.to_pandas()
    return rows if len(rows) == length else None


def _batch(rows: pd.DataFrame, source: str) -> Batch:
    return Batch(observations=_observations(rows, source), stays=_stays(rows), outcomes=_outcomes(rows))


def _observations(rows: pd.DataFrame, source: str) -> pd.DataFrame:
    rows = rows.assign(FiO2=rows["FiO2"] * 100)  # a fraction in the files
    columns = {signal: rows[column] for column, signal in SIGNALS_BY_COLUMN.items()}
    return to_observations(rows, columns, source)


def _stays(rows: pd.DataFrame) -> pd.DataFrame:
    stay = rows.groupby("subject_id", observed=True, sort=False)
    first = stay.first()
    unit = pd.Series(pd.NA, index=first.index, dtype="string")
    unit = unit.mask(first["Unit1"] == 1, "Unit1").mask(first["Unit2"] == 1, "Unit2")  # medical and surgical ICU
    return pd.DataFrame(
        {
            "subject_id": first.index.astype("string"),
            "start": first["time"].astype(TIME).array,
            "end": stay["time"].last().astype(TIME).array,
            "unit_admitted_at": EPOCH,
            "hospital_admitted_at": time_after(EPOCH, first["HospAdmTime"], "h").array,
            "age": plausible_age(first["Age"]).to_numpy(),
            "sex": plausible_sex(first["Gender"]).to_numpy(),
            "site": "cinc2019",
            "unit": unit.to_numpy(),
        }
    )


def _outcomes(rows: pd.DataFrame) -> pd.DataFrame:
    septic = rows[rows["SepsisLabel"] == 1].groupby("subject_id", observed=True, sort=False)["time"].first()
    start = rows.groupby("subject_id", observed=True, sort=False)["time"].first()
    return pd.DataFrame(
        {
            "subject_id": septic.index.astype("string"),
            "onset": (septic + LABEL_LEAD).astype(TIME).array,
            "kind": "sepsis",
            "onset_known": (septic > start.loc[septic.index]).to_numpy(),
        }
    )
