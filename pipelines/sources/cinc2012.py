"""PhysioNet/Computing in Cardiology Challenge 2012: in-hospital death from the first 48 hours in intensive care.

Silva I, Moody G, Scott DJ, Celi LA, Mark RG. Predicting in-hospital mortality of ICU patients. Comput Cardiol 2012;39:245-248.
Each stay has one file (NNNNNN.txt) in long form: ``Time,Parameter,Value``. Time is HH:MM since admission to the unit. A value
of -1 means unknown and gives no observation. Every other value is passed on unchanged, for
:func:`vigil.features.observations.check` to accept or quarantine.
"""

import io
import math
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv

from vigil.features.observations import TIME
from vigil.models.tasks import TASKS
from vigil.pipelines.sources import Batch, Source, SourceError, refuse_large
from vigil.pipelines.sources._shared.facts import plausible_age
from vigil.pipelines.table_files import read_csv

EPOCH: Final = pd.Timestamp("2012-01-01T00:00:00Z").as_unit(
    "us"
)  # the data have no calendar dates; every admission is at this time
RECORD_LENGTH: Final = pd.Timedelta(hours=48)  # all patients lived to the end of their record
STAYS_PER_BATCH: Final = 2000

# The units of the challenge are those of the signal table, with two exceptions. FiO2 is a fraction in the files. Magnesium is
# documented as mmol/L, but its values are in mg/dL (their median is 2.0).
SIGNALS_BY_PARAMETER: Final = {
    "HR": "heart_rate", "RespRate": "respiratory_rate", "Temp": "body_temperature",
    "SysABP": "systolic_bp", "DiasABP": "diastolic_bp", "MAP": "mean_bp",
    "NISysABP": "systolic_bp", "NIDiasABP": "diastolic_bp", "NIMAP": "mean_bp",
    "GCS": "glasgow_coma_scale", "MechVent": "mechanical_ventilation", "FiO2": "fio2", "Urine": "urine_output",
    "Weight": "body_weight", "Height": "body_height",
    "Glucose": "glucose", "Na": "sodium", "K": "potassium", "Mg": "magnesium", "HCO3": "bicarbonate", "BUN": "bun",
    "Creatinine": "creatinine", "HCT": "hematocrit", "WBC": "wbc", "Platelets": "platelets", "PaO2": "pao2",
    "PaCO2": "paco2", "pH": "ph", "SaO2": "sao2", "Lactate": "lactate", "Albumin": "albumin", "ALT": "alt", "AST": "ast",
    "ALP": "alkaline_phosphatase", "Bilirubin": "bilirubin_total", "Cholesterol": "cholesterol",
    "TroponinI": "troponin_i", "TroponinT": "troponin_t",
}  # fmt: skip
DEVICES_BY_PARAMETER: Final = {
    "SysABP": "arterial_line", "DiasABP": "arterial_line", "MAP": "arterial_line",
    "NISysABP": "cuff", "NIDiasABP": "cuff", "NIMAP": "cuff",
}  # fmt: skip
STATICS: Final = ("RecordID", "Age", "Gender", "ICUType")
UNITS_BY_CODE: Final = {1: "coronary", 2: "cardiac_surgery", 3: "medical", 4: "surgical"}
HEADER: Final = b"Time,Parameter,Value"
OUTCOME_COLUMNS: Final = ("SAPS-I", "SOFA", "Length_of_stay", "Survival", "In-hospital_death")
UNKNOWN: Final = -1

_SET_NAME = re.compile(r"set-(?P<name>.+?)(\.tar\.gz|\.tgz|\.tar)?")
_STAY_FILE = re.compile(r"\d+\.txt")
_CLOCK = r"^(\d{1,3}):([0-5]\d)$"


class Cinc2012(Source):
    """A set of the challenge: ``set-x.tar.gz`` or the extracted folder ``set-x``, with ``Outcomes-x.txt`` next to it.

    Raises:
        SourceError: the set or its outcomes are missing or cannot be read, or they hold different stays.
    """

    name = "cinc2012"
    deidentified = True
    task = TASKS["mortality"]

    def __init__(self, data: Path) -> None:
        self.data = data
        set_name = _SET_NAME.fullmatch(data.absolute().name)
        if not set_name or not data.exists():
            raise SourceError(f"{data}: expected the official set-x.tar.gz or the folder set-x; found neither")
        path = data.absolute().parent / f"Outcomes-{set_name['name']}.txt"
        self._results = _read_results(path)
        self._stays = sorted(self._read_texts())
        if not self._stays:
            raise SourceError(f"{data}: holds no stay; expected files such as 132539.txt")
        _check_same_stays(self._stays, self._results, data, path)

    def __len__(self) -> int:
        return math.ceil(len(self._stays) / STAYS_PER_BATCH)

    def batches(self) -> Iterator[Batch]:
        texts = self._read_texts()
        for first in range(0, len(self._stays), STAYS_PER_BATCH):
            stays = self._stays[first : first + STAYS_PER_BATCH]
            rows = _parse({stay: texts[stay] for stay in stays})
            yield Batch(
                observations=_observations(rows, source=self.data.name),
                stays=_stays(rows, stays),
                outcomes=_outcomes(self._results.loc[stays]),
            )

    def read_severity(self) -> pd.DataFrame:
        """Return ``subject_id, saps_i, sofa``: two severity scores of the first day, as baselines. NaN means unknown."""
        scores = self._results.loc[self._stays, ["SAPS-I", "SOFA"]]
        scores = scores.mask(scores == UNKNOWN).set_axis(["saps_i", "sofa"], axis=1)
        return scores.reset_index(names="subject_id").astype({"subject_id": "string"})

    def _read_texts(self) -> dict[str, bytes]:
        """Read every stay's file, by its name without the suffix. One set is 30 MB."""
        texts: dict[str, bytes] = {}
        for file, text in self._files():
            if file.stem in texts:
                raise SourceError(f"{self.data}: holds {file.name} twice; expected one file for each stay")
            texts[file.stem] = text
        return texts

    def _files(self) -> Iterator[tuple[Path, bytes]]:
        if self.data.is_dir():
            yield from ((path, path.read_bytes()) for path in self.data.rglob("*.txt") if _STAY_FILE.fullmatch(path.name))
            return
        try:
            with tarfile.open(self.data) as archive:
                for member in archive:
                    path = Path(member.name)
                    if _STAY_FILE.fullmatch(path.name) and (file := archive.extractfile(member)):
                        refuse_large(path.name, member.size)
                        yield path, file.read()
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise SourceError(
                f"{self.data}: not a complete .tar.gz ({type(error).__name__}); expected it as distributed; download it again"
            ) from error


def _read_results(path: Path) -> pd.DataFrame:
    """Read the outcomes of each stay, with the numbers unchanged."""
    columns = ", ".join(("RecordID", *OUTCOME_COLUMNS))
    if not path.is_file():
        raise SourceError(f"{path}: not there; expected the set's outcomes next to the set, with columns {columns}")
    try:
        table = read_csv(path, dtype="string", skipinitialspace=True)
    except ValueError as error:  # no line at all, lines of unequal length, or not text
        raise SourceError(f"{path}: not a table; expected columns {columns}") from error
    if missing := [column for column in ("RecordID", *OUTCOME_COLUMNS) if column not in table]:
        raise SourceError(f"{path}: no column {', '.join(missing)}; expected {columns}; got {', '.join(table.columns)}")
    if table["RecordID"].duplicated().any():
        raise SourceError(f"{path}: RecordID: a stay twice; expected one row for each stay")
    table = table.set_index("RecordID")
    results: pd.DataFrame = table[list(OUTCOME_COLUMNS)].apply(pd.to_numeric, errors="coerce").astype(float)
    if unreadable := [column for column in OUTCOME_COLUMNS if results[column].isna().any()]:
        raise SourceError(f"{path}: {unreadable[0]}: not a number in every row; expected one, or {UNKNOWN} where it is unknown")
    if not results["In-hospital_death"].isin((0, 1)).all():
        raise SourceError(f"{path}: In-hospital_death: expected 0 or 1 in every row")
    return results


def _check_same_stays(stays: list[str], results: pd.DataFrame, data: Path, path: Path) -> None:
    """Refuse a set that is incomplete: a figure over part of it would look like one over the whole set."""
    if stray := sorted(set(stays) - set(results.index)):
        raise SourceError(
            f"{path}: no row for {len(stray)} of the {len(stays)} stays in {data}, the first {stray[0]}; "
            "expected one row for each stay; check that this is the outcomes file of this set"
        )
    if absent := sorted(set(results.index) - set(stays)):
        raise SourceError(
            f"{data}: no file for {len(absent)} of the {len(results)} stays in {path}, the first {absent[0]}.txt; "
            "expected one file for each stay, even without a reading; extract or download the set again"
        )


def _parse(texts: dict[str, bytes]) -> pd.DataFrame:
    """Return the rows of several stays: ``subject_id, time, parameter, text, value``.

    All stays are parsed at once, since thousands of small parses are slow.
    """
    bodies = []
    for stay, text in texts.items():
        header, _, body = text.partition(b"\n")
        if header.strip() != HEADER:
            raise SourceError(f"{stay}.txt: not a Challenge 2012 header; expected {HEADER.decode()}")
        body = body.rstrip()
        bodies.append(body + b"\n" if body else b"")
    lengths = [body.count(b"\n") for body in bodies]
    columns = HEADER.decode().split(",")
    try:
        table = pacsv.read_csv(
            io.BytesIO(b"".join([HEADER, b"\n", *bodies])),
            parse_options=pacsv.ParseOptions(quote_char=False),
            convert_options=pacsv.ConvertOptions(column_types=dict.fromkeys(columns, pa.dictionary(pa.int32(), pa.string()))),
        )
    except pa.ArrowInvalid:
        table = None
    if table is None or table.num_rows != sum(lengths):
        raise SourceError(_describe_broken_line(dict(zip(texts, bodies, strict=True))))
    rows: pd.DataFrame = table.to_pandas()
    subject = np.repeat(np.arange(len(bodies)), lengths)
    return pd.DataFrame(
        {
            "subject_id": pd.Categorical.from_codes(subject, categories=pd.Index(list(texts))),
            "time": _parse_times(rows["Time"]),
            "parameter": rows["Parameter"],
            "text": rows["Value"],
            "value": _parse_numbers(rows["Value"]),
        }
    )


def _describe_broken_line(bodies: dict[str, bytes]) -> str:
    """Describe a failed parse by the position of the line. The line itself is not quoted: it holds a patient's value."""
    for stay, body in bodies.items():
        for number, line in enumerate(body.splitlines(), start=2):
            unreadable = "\N{REPLACEMENT CHARACTER}" in line.decode(errors="replace")
            if unreadable or line.count(b",") != HEADER.count(b","):
                return f"{stay}.txt: line {number}: expected {HEADER.decode()}, three fields of UTF-8 text; correct that line"
    return f"{min(bodies)}.txt to {max(bodies)}.txt: expected lines of {HEADER.decode()} in each"


def _parse_times(clock: "pd.Series[str]") -> pd.DatetimeIndex:
    """Convert HH:MM since admission to a time, or NaT where the text is not of that form."""
    parts = clock.cat.categories.to_series().str.extract(_CLOCK).astype(float)
    times = pd.DatetimeIndex(EPOCH + pd.to_timedelta(parts[0] * 60 + parts[1], unit="min")).as_unit("us")
    return times[clock.cat.codes.to_numpy()]


def _parse_numbers(text: "pd.Series[str]") -> np.ndarray:
    """Convert text to numbers, or NaN where it is not a number."""
    numbers = pd.to_numeric(text.cat.categories.to_series(), errors="coerce").to_numpy(float)
    by_row: np.ndarray = numbers[text.cat.codes.to_numpy()]
    return by_row


def _observations(rows: pd.DataFrame, source: str) -> pd.DataFrame:
    series = rows[~rows["parameter"].isin(STATICS) & (rows["value"] != UNKNOWN)]
    fraction = (series["parameter"] == "FiO2").to_numpy()
    value = series["value"].to_numpy() * np.where(fraction, 100, 1)
    if np.isnan(value).any():  # the check quarantines the original text
        value = np.where(np.isnan(value), series["text"].astype(object), value)

    measured = series["parameter"].cat.remove_unused_categories().cat
    parameter, known = measured.codes.to_numpy(), measured.categories
    # An unknown parameter keeps its own name, so that the check quarantines it with a reason.
    signal, signals = pd.factorize(np.array([SIGNALS_BY_PARAMETER.get(name, name) for name in known], dtype=object))
    device, devices = pd.factorize(np.array([DEVICES_BY_PARAMETER.get(name) for name in known], dtype=object))
    observed_at = series["time"].array
    return pd.DataFrame(
        {
            "subject_id": series["subject_id"].array,
            "observed_at": observed_at,
            "signal": pd.Categorical.from_codes(signal[parameter], categories=pd.Index(signals)),
            "value": value,
            "recorded_at": observed_at,  # retrospective data: each value counts as known when it was measured
            "device_id": pd.Categorical.from_codes(device[parameter], categories=pd.Index(devices, dtype=object)),
            "source": pd.Categorical.from_codes(np.zeros(len(series), dtype=np.int8), categories=pd.Index([source])),
        }
    )


def _stays(rows: pd.DataFrame, stays: list[str]) -> pd.DataFrame:
    statics = rows[rows["parameter"].isin(STATICS)]
    unreadable = statics[statics["value"].isna()]
    if not unreadable.empty:
        stay, parameter = unreadable.iloc[0][["subject_id", "parameter"]]
        raise SourceError(f"{stay}.txt: {parameter}: not a number; expected one, or {UNKNOWN} where it is unknown")
    table = statics.pivot_table(index="subject_id", columns="parameter", values="value", aggfunc="first", observed=True)
    table = table.reindex(index=pd.Index(stays), columns=pd.Index(STATICS))
    mismatched = table["RecordID"].notna() & (table["RecordID"] != np.array(stays, dtype=float))
    if mismatched.any():
        raise SourceError(f"{mismatched.idxmax()}.txt: RecordID: of another stay; expected that of the file's name")
    return pd.DataFrame(
        {
            "subject_id": pd.array(stays, dtype="string"),
            "start": EPOCH,
            "end": EPOCH + RECORD_LENGTH,
            "unit_admitted_at": EPOCH,
            "hospital_admitted_at": pd.Series(pd.NaT, index=range(len(stays)), dtype=TIME),
            "age": plausible_age(table["Age"]).to_numpy(),
            "sex": table["Gender"].where(table["Gender"].isin((0, 1))).to_numpy(),
            "site": "cinc2012",
            "unit": table["ICUType"].map(UNITS_BY_CODE).astype("string").array,
        }
    ).astype(dict.fromkeys(("start", "end", "unit_admitted_at"), TIME))


def _outcomes(results: pd.DataFrame) -> pd.DataFrame:
    died = results[results["In-hospital_death"] == 1]
    known = died.where(died >= 0)
    days = known["Survival"].fillna(known["Length_of_stay"]).fillna(RECORD_LENGTH / pd.Timedelta(days=1))
    # Deaths are given in whole days. Every patient lived through the 48 hours, so a death "after two days" came later.
    onset, earliest = EPOCH + pd.to_timedelta(days, unit="D"), EPOCH + RECORD_LENGTH + pd.Timedelta(microseconds=1)
    return pd.DataFrame(
        {
            "subject_id": died.index.astype("string"),
            "onset": onset.where(onset > earliest, earliest).astype(TIME).array,
            "kind": "death",
            "onset_known": True,
        }
    )
