"""Sets of continuous glucose monitors in one form: a zip of ``<set>-extracted-glucose-files/<person>.csv``.

A file has the columns ``timestamp`` and ``glucose_value_mg_dl``. Its times have no zone and count as UTC. Values may be the
texts ``Low`` and ``High``, which stand for below 40 and above 400 mg/dL. Archives may hold what a Mac leaves in them.

The Glucose-ML project repackaged open studies in this form. Prioleau T, Lu B, Cui Y. Glucose-ML: a collection of longitudinal
diabetes datasets for development of robust AI solutions. 2025.
"""

import io
import zipfile
from pathlib import Path, PurePosixPath
from typing import Final

import pandas as pd

from vigil.features.declarations import Declarations, SourceDeclaration
from vigil.features.observations import CheckedObservations, check
from vigil.pipelines.sources import SourceError
from vigil.pipelines.table_files import TIME_FORMATS, formats_of

TIME_COLUMN: Final = "timestamp"
VALUE_COLUMN: Final = "glucose_value_mg_dl"
DECLARED: Final = Declarations(SourceDeclaration(units={"glucose": "mg/dL"}, ranges={"glucose": (40.0, 400.0)}))

_FOLDER: Final = "extracted-glucose-files"
_LOOKED_AT: Final = 200  # times, to see how those of a file are written
_ISO: Final = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S")


def read_cgm_set(path: Path) -> CheckedObservations:
    """Read the glucose of every person of a set, and check it as any observation is checked.

    Returns:
        Observations of subjects ``<set>/<person>``; the quarantine holds what cannot be used.

    Raises:
        SourceError: it is no such archive, or a file in it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [PurePosixPath(name) for name in archive.namelist()]
            files = [name for name in members if _is_file_of_person(name)]
            if not files:
                raise SourceError(f"{path}: no <set>-{_FOLDER}/<person>.csv in it; expected a set as Glucose-ML packs it")
            parts = [_read_person(archive, name, path) for name in sorted(files)]
    except (OSError, zipfile.BadZipFile) as error:
        raise SourceError(f"{path}: cannot be read ({type(error).__name__}); expected a zip of one set") from None
    return check(pd.concat(parts, ignore_index=True), declared=DECLARED)


def _is_file_of_person(name: PurePosixPath) -> bool:
    hidden = any(part.startswith(("__MACOSX", ".")) for part in name.parts)
    return name.suffix.lower() == ".csv" and not hidden and name.parent.name.endswith(_FOLDER)


def _read_person(archive: zipfile.ZipFile, name: PurePosixPath, path: Path) -> pd.DataFrame:
    text = archive.read(str(name)).decode("utf-8-sig", errors="replace")
    rows = pd.read_csv(io.StringIO(text), dtype=str, skip_blank_lines=True, skipinitialspace=True)
    if missing := [column for column in (TIME_COLUMN, VALUE_COLUMN) if column not in rows]:
        raise SourceError(f"{path}: {name.name}: no column {', '.join(missing)}; expected {TIME_COLUMN} and {VALUE_COLUMN}")
    rows = rows[rows[TIME_COLUMN].notna()]
    set_name = name.parent.name.removesuffix(f"-{_FOLDER}")
    return pd.DataFrame(
        {
            "subject_id": f"{set_name}/{name.stem.strip()}",
            "observed_at": read_local_times(rows[TIME_COLUMN].str.strip()).array,
            "signal": "glucose",
            "value": rows[VALUE_COLUMN].str.strip().array,
            "unit": "mg/dL",
        }
    )


def read_local_times(texts: "pd.Series[str]") -> "pd.Series[pd.Timestamp]":
    """Return the times of one file as UTC; NaT where one is written otherwise than the others.

    Where day and month can be told apart by no text, the order counts in which more readings follow each other. A date alone is
    its midnight, since programs leave 00:00:00 out.

    >>> read_local_times(pd.Series(["13/02/2024 23:55", "14/02/2024", "14/02/2024 00:05"])).dt.strftime("%d %b %H:%M").tolist()
    ['13 Feb 23:55', '14 Feb 00:00', '14 Feb 00:05']
    """
    some = texts.iloc[:: max(1, len(texts) // _LOOKED_AT)].tolist()
    candidates = [_parse(texts, written) for written in (*_ISO, *formats_of(some, TIME_FORMATS, least=0.5))]
    best = max(candidates, key=_fit)
    for other in candidates[: len(_ISO)]:  # seconds may be left out, and ISO has two forms
        best = best.fillna(other)
    return best.dt.tz_localize("UTC")


def _parse(texts: "pd.Series[str]", written: str) -> "pd.Series[pd.Timestamp]":
    times = pd.to_datetime(texts, format=written, errors="coerce")
    date = written.replace("T", " ").split()[0]
    return times.fillna(pd.to_datetime(texts, format=date, errors="coerce")).astype("datetime64[us]")


def _fit(times: "pd.Series[pd.Timestamp]") -> tuple[int, float]:
    """Return how many times can be read, and how many of them follow the one before within a day."""
    passed = times.dropna().diff().dropna()
    near = (passed >= pd.Timedelta(0)) & (passed < pd.Timedelta(days=1))
    return int(times.notna().sum()), float(near.mean()) if len(near) else 0.0
