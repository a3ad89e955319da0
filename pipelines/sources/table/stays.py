"""The stays of a mapping, with what is known of their patients."""

import numpy as np
import pandas as pd

from vigil.features.declarations import SourceDeclaration
from vigil.features.observations import TIME
from vigil.pipelines.sources import SourceError
from vigil.pipelines.sources._shared.facts import plausible_age
from vigil.pipelines.sources.table.columns import expected_time, is_among, read_names, read_times, where
from vigil.pipelines.sources.table.files import LINE
from vigil.pipelines.sources.table.mapping import EventTable, OutcomeTable, StayTable

KEY = "stay"  # the column that names the stay, as the tables do
PATIENT = "patient_name"  # the column that names the patient, as the tables do
TIMES = ("start", "end", "unit_admitted_at", "hospital_admitted_at", "born")
FACTS = (*TIMES, "patient", "age", "sex", "site", "ward")

_YEAR = pd.Timedelta(days=365.25)


def facts_of(rows: pd.DataFrame, table: StayTable) -> pd.DataFrame:
    """Return one row a stay, by its name.

    Args:
        rows: of the table: :data:`KEY`, those of :data:`FACTS` that are mapped, and their lines.
        table: the mapping of them.

    Raises:
        SourceError: a row has no stay, or rows of one stay differ.
    """
    unnamed = rows[KEY].isna()
    if unnamed.any():
        raise SourceError(f"{table.title}: {table.stay}: missing in {where(rows, unnamed)}; expected one in each row")
    groups = rows.groupby(KEY, sort=True)
    columns = {name: getattr(table, name) for name in FACTS} | table.attributes
    for name in (name for name in columns if name in rows):
        number = groups[name].nunique()
        differing = number.index[number > 1]
        if len(differing):
            raise SourceError(
                f"{table.title}: {columns[name]}: {len(differing)} stays have several, first in "
                f"{where(rows, rows[KEY].isin(differing))}; expected the same in all rows of a stay; correct them, or leave "
                "the column out of the mapping"
            )
    return groups.first()


def read_declared_times(
    rows: pd.DataFrame, name: str, table: StayTable | OutcomeTable | EventTable, declaration: SourceDeclaration
) -> "pd.Series[pd.Timestamp]":
    """Return the times of a column, which have to be as declared.

    Raises:
        SourceError: one is not, or a start is missing.
    """
    times = read_times(rows[name], table, declaration, dates=name == "born")
    unread = times.isna() & (rows[name].notna() | (name == "start"))
    if unread.any():
        raise SourceError(
            f"{table.title}: {getattr(table, name)}: not understood in {where(rows, unread)}; expected "
            f"{expected_time(table, declaration)}"
        )
    return times


def make_stays(
    facts: pd.DataFrame, table: StayTable, declaration: SourceDeclaration, seen: pd.DataFrame, site: str
) -> pd.DataFrame:
    """Return the stays as a source gives them (:data:`vigil.pipelines.sources.STAYS`), with attributes and two keys.

    The keys are :data:`KEY` and :data:`PATIENT`.

    Args:
        facts: one row a stay, by its name.
        table: the mapping of them.
        declaration: of their file.
        seen: ``first, last``: the times of the first and the last observation of stays.
        site: of stays without one.

    Raises:
        SourceError: a time is not as declared, a stay has no start, or ends before it.
    """
    none = pd.Series(pd.NaT, facts.index, TIME)
    times = {name: read_declared_times(facts, name, table, declaration) if name in facts else none for name in TIMES}
    seen = seen.reindex(facts.index)
    start = (times["start"] if "start" in facts else seen["first"]).dt.floor("s")
    end = times["end"].fillna(seen["last"]).fillna(start)
    unknown, wrong = start.isna(), end < start
    if unknown.any():
        raise SourceError(
            f"stays: {unknown.sum()} have no observation with a time, by which they would start, {where(facts, unknown)}; "
            "name the column of their start, or remove them"
        )
    if wrong.any():
        raise SourceError(f"stays: {wrong.sum()} end before they start, {where(facts, wrong)}; correct them")
    names = read_names(facts.index.to_series())
    age = pd.to_numeric(facts["age"], errors="coerce") if "age" in facts else (start - times["born"]) / _YEAR
    return pd.DataFrame(
        {
            KEY: names,
            PATIENT: read_names(facts["patient"]) if "patient" in facts else names,
            "subject_id": read_names(facts["patient"]) + "~" + names if "patient" in facts else names,
            "start": start.astype(TIME),
            "end": end.astype(TIME),
            "unit_admitted_at": times["unit_admitted_at"],
            "hospital_admitted_at": times["hospital_admitted_at"],
            "age": plausible_age(age),
            "sex": _sexes(facts, table),
            "site": read_names(facts["site"]) if "site" in facts else pd.Series(site, facts.index, dtype="string"),
            "unit": read_names(facts["ward"]) if "ward" in facts else pd.Series(pd.NA, facts.index, dtype="string"),
            **{name: read_names(facts[name]) for name in table.attributes},
        }
    ).sort_values("subject_id", ignore_index=True)


def stays_of_observations(seen: pd.DataFrame) -> pd.DataFrame:
    """Return the facts of stays of which nothing but observations is known."""
    return pd.DataFrame({LINE: 1}, index=seen.index[seen["first"].notna()])


def _sexes(facts: pd.DataFrame, table: StayTable) -> "pd.Series[float]":
    if "sex" not in facts:
        return pd.Series(np.nan, facts.index)
    is_female, is_male = (is_among(facts["sex"], texts) for texts in (table.sex_codes.female, table.sex_codes.male))
    return pd.Series(np.select([is_female, is_male], [0.0, 1.0], np.nan), facts.index)
