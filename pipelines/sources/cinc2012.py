"""PhysioNet/Computing in Cardiology Challenge 2012: in-hospital death from the first 48 hours in intensive care.

Silva I, Moody G, Scott DJ, Celi LA, Mark RG. Predicting in-hospital mortality of ICU patients. Comput Cardiol 2012;39:245-248.
One file a stay (NNNNNN.txt), long: ``Time,Parameter,Value``, the time HH:MM since admission to the unit. A value of -1 means
that it is unknown: no reading. Whatever else is written is handed on as it came; judging it is the business of the check.
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

from features.observations import TIME
from pipelines.sources import Batch, SourceError, refuse_large
from pipelines.sources._shared.oxygen import on_oxygen

EPOCH: Final = pd.Timestamp("2012-01-01T00:00:00Z").as_unit("us")  # the data have no calendar; every admission is here
LENGTH: Final = pd.Timedelta(hours=48)  # of every record; all patients lived to its end
STAYS_PER_BATCH: Final = 2000

# Units as the challenge gives them are those of the signal table, but for FiO2 (a fraction in the files) and magnesium (said
# to be mmol/L, but the values are those of mg/dL: a median of 2.0).
SIGNAL_OF: Final = {
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
DEVICE_OF: Final = {
    "SysABP": "arterial_line", "DiasABP": "arterial_line", "MAP": "arterial_line",
    "NISysABP": "cuff", "NIDiasABP": "cuff", "NIMAP": "cuff",
}  # fmt: skip
STATICS: Final = ("RecordID", "Age", "Gender", "ICUType")
UNIT_OF: Final = {1: "coronary", 2: "cardiac_surgery", 3: "medical", 4: "surgical"}
HEADER: Final = b"Time,Parameter,Value"
OUTCOME_COLUMNS: Final = ("SAPS-I", "SOFA", "Length_of_stay", "Survival", "In-hospital_death")
UNKNOWN: Final = -1

_SET = re.compile(r"set-(?P<name>.+?)(\.tar\.gz|\.tgz|\.tar)?")
_STAY = re.compile(r"\d+\.txt")
_CLOCK = r"^(\d{1,3}):([0-5]\d)$"


class Cinc2012:
    """A set of the challenge, ``set-x.tar.gz`` or the extracted folder ``set-x``, its ``Outcomes-x.txt`` beside it.

    Raises:
        SourceError: the set or its outcomes are not there or cannot be read, or they are not of the same stays.
    """

    name = "cinc2012"
    simulated = False
    deidentified = True
    task = "mortality"

    def __init__(self, data: Path) -> None:
        self.data = data
        of_set = _SET.fullmatch(data.absolute().name)
        if not of_set or not data.exists():
            raise SourceError(f"{data}: expected the official set-x.tar.gz or the folder set-x; there is neither")
        path = data.absolute().parent / f"Outcomes-{of_set['name']}.txt"
        self._results = _read_results(path)
        self._stays = sorted(self._texts())
        if not self._stays:
            raise SourceError(f"{data}: no stay in it; expected files such as 132539.txt")
        _same_stays(self._stays, self._results, data, path)

    def __len__(self) -> int:
        return math.ceil(len(self._stays) / STAYS_PER_BATCH)

    def batches(self) -> Iterator[Batch]:
        texts = self._texts()
        for first in range(0, len(self._stays), STAYS_PER_BATCH):
            stays = self._stays[first : first + STAYS_PER_BATCH]
            rows = _parse({stay: texts[stay] for stay in stays})
            yield Batch(
                observations=_observations(rows, source=self.data.name),
                stays=_stays(rows, stays),
                outcomes=_outcomes(self._results.loc[stays]),
            )

    def severity(self) -> pd.DataFrame:
        """``subject_id, saps_i, sofa``: two severity scores over the first day, to stand beside; NaN where unknown."""
        scores = self._results.loc[self._stays, ["SAPS-I", "SOFA"]]
        scores = scores.mask(scores == UNKNOWN).set_axis(["saps_i", "sofa"], axis=1)
        return scores.reset_index(names="subject_id").astype({"subject_id": "string"})

    def _texts(self) -> dict[str, bytes]:
        """Every stay's file, by its name without the ending (one set is 30 MB)."""
        texts: dict[str, bytes] = {}
        for file, text in self._files():
            if file.stem in texts:
                raise SourceError(f"{self.data}: {file.name} twice in it; expected one file a stay")
            texts[file.stem] = text
        return texts

    def _files(self) -> Iterator[tuple[Path, bytes]]:
        if self.data.is_dir():
            yield from ((path, path.read_bytes()) for path in self.data.rglob("*.txt") if _STAY.fullmatch(path.name))
            return
        try:
            with tarfile.open(self.data) as archive:
                for member in archive:
                    path = Path(member.name)
                    if _STAY.fullmatch(path.name) and (file := archive.extractfile(member)):
                        refuse_large(path.name, member.size)
                        yield path, file.read()
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise SourceError(
                f"{self.data}: not a whole .tar.gz ({type(error).__name__}); expected it as distributed; download it again"
            ) from error


def _read_results(path: Path) -> pd.DataFrame:
    """The outcomes file by stay; its numbers as they are written."""
    columns = ", ".join(("RecordID", *OUTCOME_COLUMNS))
    if not path.is_file():
        raise SourceError(f"{path}: not there; expected the set's outcomes beside it, with columns {columns}")
    try:
        table = pd.read_csv(path, dtype="string", skipinitialspace=True)
    except ValueError as error:  # no line at all, lines of unequal length, or not text
        raise SourceError(f"{path}: not a table; expected columns {columns}") from error
    if missing := [column for column in ("RecordID", *OUTCOME_COLUMNS) if column not in table]:
        raise SourceError(f"{path}: no column {', '.join(missing)}; expected {columns}; got {', '.join(table.columns)}")
    if table["RecordID"].duplicated().any():
        raise SourceError(f"{path}: RecordID: a stay twice; expected one row a stay")
    table = table.set_index("RecordID")
    results: pd.DataFrame = table[list(OUTCOME_COLUMNS)].apply(pd.to_numeric, errors="coerce").astype(float)
    if unreadable := [column for column in OUTCOME_COLUMNS if results[column].isna().any()]:
        raise SourceError(f"{path}: {unreadable[0]}: not a number in every row; expected one, or {UNKNOWN} where it is unknown")
    if not results["In-hospital_death"].isin((0, 1)).all():
        raise SourceError(f"{path}: In-hospital_death: expected 0 or 1 in every row")
    return results


def _same_stays(stays: list[str], results: pd.DataFrame, data: Path, path: Path) -> None:
    """A figure over part of a set would look like one over the whole, so a part of it is refused."""
    if stray := sorted(set(stays) - set(results.index)):
        raise SourceError(
            f"{path}: no row for {len(stray)} of the {len(stays)} stays in {data}, the first {stray[0]}; "
            "expected one row a stay; is it the outcomes file of this set?"
        )
    if absent := sorted(set(results.index) - set(stays)):
        raise SourceError(
            f"{data}: no file for {len(absent)} of the {len(results)} stays in {path}, the first {absent[0]}.txt; "
            "expected one file a stay, be it without a reading; extract or download the set again"
        )


def _parse(texts: dict[str, bytes]) -> pd.DataFrame:
    """Rows of several stays: ``subject_id, time, parameter, text, value``. One parse for all; small ones are slow."""
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
        raise SourceError(_broken_line(dict(zip(texts, bodies, strict=True))))
    rows: pd.DataFrame = table.to_pandas()
    subject = np.repeat(np.arange(len(bodies)), lengths)
    return pd.DataFrame(
        {
            "subject_id": pd.Categorical.from_codes(subject, categories=pd.Index(list(texts))),
            "time": _instants(rows["Time"]),
            "parameter": rows["Parameter"],
            "text": rows["Value"],
            "value": _numbers(rows["Value"]),
        }
    )


def _broken_line(bodies: dict[str, bytes]) -> str:
    """What to say of a parse that failed: where, not what; the line holds a patient's value."""
    for stay, body in bodies.items():
        for number, line in enumerate(body.splitlines(), start=2):
            unreadable = "\N{REPLACEMENT CHARACTER}" in line.decode(errors="replace")
            if unreadable or line.count(b",") != HEADER.count(b","):
                return f"{stay}.txt: line {number}: expected {HEADER.decode()}, three fields of UTF-8 text; mend that line"
    return f"{min(bodies)}.txt to {max(bodies)}.txt: expected lines of {HEADER.decode()} in each"


def _instants(clock: "pd.Series[str]") -> pd.DatetimeIndex:
    """HH:MM since admission as a time; NaT where it is not one."""
    parts = clock.cat.categories.to_series().str.extract(_CLOCK).astype(float)
    instants = pd.DatetimeIndex(EPOCH + pd.to_timedelta(parts[0] * 60 + parts[1], unit="min")).as_unit("us")
    return instants[clock.cat.codes.to_numpy()]


def _numbers(text: "pd.Series[str]") -> np.ndarray:
    numbers = pd.to_numeric(text.cat.categories.to_series(), errors="coerce").to_numpy(float)
    by_row: np.ndarray = numbers[text.cat.codes.to_numpy()]
    return by_row


def _observations(rows: pd.DataFrame, source: str) -> pd.DataFrame:
    series = rows[~rows["parameter"].isin(STATICS) & (rows["value"] != UNKNOWN)]
    fraction = (series["parameter"] == "FiO2").to_numpy()
    value = series["value"].to_numpy() * np.where(fraction, 100, 1)
    oxygen = on_oxygen(pd.Series(value).where(fraction)).to_numpy()
    if np.isnan(value).any():  # handed on as it came
        value = np.where(np.isnan(value), series["text"].astype(object), value)

    measured = series["parameter"].cat.remove_unused_categories().cat
    parameter, known = measured.codes.to_numpy(), measured.categories
    # A parameter we do not know keeps its own name, so that the check puts it aside and says why.
    signal, signals = pd.factorize(np.array([*(SIGNAL_OF.get(name, name) for name in known), "on_oxygen"], dtype=object))
    device, devices = pd.factorize(np.array([DEVICE_OF.get(name) for name in known], dtype=object))
    given = np.flatnonzero(~np.isnan(oxygen))  # rows that say a second thing
    row = np.concatenate([np.arange(len(series)), given])
    observed_at = series["time"].array[row]
    return pd.DataFrame(
        {
            "subject_id": series["subject_id"].array[row],
            "observed_at": observed_at,
            "signal": pd.Categorical.from_codes(
                np.concatenate([signal[parameter], np.full(len(given), signal[-1])]), categories=pd.Index(signals)
            ),
            "value": np.concatenate([value, oxygen[given]]),
            "recorded_at": observed_at,  # retrospective: known when it was measured
            "device_id": pd.Categorical.from_codes(device[parameter][row], categories=pd.Index(devices, dtype=object)),
            "source": pd.Categorical.from_codes(np.zeros(len(row), dtype=np.int8), categories=pd.Index([source])),
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
    stranger = table["RecordID"].notna() & (table["RecordID"] != np.array(stays, dtype=float))
    if stranger.any():
        raise SourceError(f"{stranger.idxmax()}.txt: RecordID: of another stay; expected that of the file's name")
    return pd.DataFrame(
        {
            "subject_id": pd.array(stays, dtype="string"),
            "start": EPOCH,
            "end": EPOCH + LENGTH,
            "unit_admitted_at": EPOCH,
            "hospital_admitted_at": pd.Series(pd.NaT, index=range(len(stays)), dtype=TIME),
            "age": table["Age"].where(table["Age"] != UNKNOWN).to_numpy(),
            "sex": table["Gender"].where(table["Gender"].isin((0, 1))).to_numpy(),
            "site": "cinc2012",
            "unit": table["ICUType"].map(UNIT_OF).astype("string").array,
        }
    ).astype(dict.fromkeys(("start", "end", "unit_admitted_at"), TIME))


def _outcomes(results: pd.DataFrame) -> pd.DataFrame:
    died = results[results["In-hospital_death"] == 1]
    known = died.where(died >= 0)
    days = known["Survival"].fillna(known["Length_of_stay"]).fillna(LENGTH / pd.Timedelta(days=1))
    # Whole days cannot say when: a death "after two days" came after the 48 hours that every patient here lived.
    onset, earliest = EPOCH + pd.to_timedelta(days, unit="D"), EPOCH + LENGTH + pd.Timedelta(microseconds=1)
    return pd.DataFrame(
        {
            "subject_id": died.index.astype("string"),
            "onset": onset.where(onset > earliest, earliest).astype(TIME).array,
            "kind": "death",
            "onset_known": True,
        }
    )
