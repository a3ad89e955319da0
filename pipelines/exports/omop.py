"""Writing a cohort as tables of the OMOP common data model 5.4, one Parquet file a table.

OHDSI: https://ohdsi.github.io/CommonDataModel/cdm54.html. A visit is a stay. What OMOP has no place for is in two files
beside its tables. Observations that were corrected or retracted later are left out: OMOP knows one version of a measurement.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vigil.features.signals import STORED
from vigil.models.cohort import patient_of
from vigil.pipelines.cohort_store import CohortStore
from vigil.pipelines.sources import Batch
from vigil.pipelines.sources._shared.origin import OUTCOME, attributes_of
from vigil.pipelines.sources.omop.vocabulary import (
    CDM_VERSION,
    EHR,
    INPATIENT,
    MEASURED,
    NO_CONCEPT,
    PROVENANCE,
    SEXES,
    SIGNAL_CONCEPTS,
    STAY_FACTS,
    UNIT_CONCEPTS,
)

_INTEGER, _TEXT, _TIME = pa.int64(), pa.string(), pa.timestamp("us")
_COLUMNS: Final = {
    "person": {
        "person_id": _INTEGER, "gender_concept_id": _INTEGER, "year_of_birth": _INTEGER, "race_concept_id": _INTEGER,
        "ethnicity_concept_id": _INTEGER, "person_source_value": _TEXT,
    },
    "care_site": {"care_site_id": _INTEGER, "care_site_name": _TEXT, "care_site_source_value": _TEXT},
    "visit_occurrence": {
        "visit_occurrence_id": _INTEGER, "person_id": _INTEGER, "visit_concept_id": _INTEGER, "visit_start_date": pa.date32(),
        "visit_start_datetime": _TIME, "visit_end_date": pa.date32(), "visit_end_datetime": _TIME,
        "visit_type_concept_id": _INTEGER, "care_site_id": _INTEGER, "visit_source_value": _TEXT,
    },
    "measurement": {
        "measurement_id": _INTEGER, "person_id": _INTEGER, "measurement_concept_id": _INTEGER, "measurement_date": pa.date32(),
        "measurement_datetime": _TIME, "measurement_type_concept_id": _INTEGER, "operator_concept_id": _INTEGER,
        "value_as_number": pa.float64(), "unit_concept_id": _INTEGER, "visit_occurrence_id": _INTEGER,
        "measurement_source_value": _TEXT, "unit_source_value": _TEXT,
    },
    "condition_occurrence": {
        "condition_occurrence_id": _INTEGER, "person_id": _INTEGER, "condition_concept_id": _INTEGER,
        "condition_start_date": pa.date32(), "condition_start_datetime": _TIME, "condition_type_concept_id": _INTEGER,
        "visit_occurrence_id": _INTEGER, "condition_source_value": _TEXT,
    },
    "death": {"person_id": _INTEGER, "death_date": pa.date32(), "death_datetime": _TIME, "death_type_concept_id": _INTEGER},
    STAY_FACTS: {
        "visit_occurrence_id": _INTEGER, "age": pa.float64(), "site": _TEXT, "ward": _TEXT, "unit_admitted_at": _TIME,
        "hospital_admitted_at": _TIME, "attributes": _TEXT,
    },
    PROVENANCE: {
        "measurement_id": _INTEGER, "visit_occurrence_id": _INTEGER, "recorded_at": _TIME, "device_id": _TEXT, "source": _TEXT,
        "message_id": _TEXT,
    },
}  # fmt: skip
_SCHEMAS: Final = {table: pa.schema(list(columns.items())).with_metadata(None) for table, columns in _COLUMNS.items()}


def write_omop(batches: Iterator[Batch], cohort: CohortStore, out: Path) -> int:
    """Write a cohort as OMOP tables; return the number of observations.

    Args:
        batches: the cohort in parts of whole patients. Identifiers of OMOP are numbered in their order.
        cohort: the same, for what belongs to all of them.
        out: folder of the tables.
    """
    out.mkdir(parents=True, exist_ok=True)
    tables = _Tables(out, is_death=cohort.task.outcome.startswith("death"))
    try:
        for batch in batches:
            tables.write(batch)
    finally:
        tables.close()
    now = datetime.now(UTC).date()
    concepts = [
        {
            **concept._asdict(),
            "concept_class_id": concept.domain_id,
            "valid_start_date": now,
            "valid_end_date": now.replace(2099),
        }
        for concept in (*SIGNAL_CONCEPTS.values(), *UNIT_CONCEPTS.values())
    ]
    pq.write_table(pa.Table.from_pylist(concepts), out / "concept.parquet")
    origin = {
        "cdm_source_name": cohort.facts.source,
        "cdm_source_abbreviation": cohort.facts.source,
        "cdm_holder": "",
        "source_release_date": now,
        "cdm_release_date": now,
        "cdm_version": CDM_VERSION,
        "cdm_version_concept_id": NO_CONCEPT,
        "vocabulary_version": f"vigil {installed('vigil')}",
    }
    pq.write_table(pa.Table.from_pylist([origin]), out / "cdm_source.parquet")
    return tables.written["measurement"]


class _Tables:
    """The tables of an export, which grow batch by batch.

    Attributes:
        written: number of rows, by table.
    """

    def __init__(self, out: Path, *, is_death: bool) -> None:
        self._writers = {table: pq.ParquetWriter(out / f"{table}.parquet", schema) for table, schema in _SCHEMAS.items()}
        self._is_death = is_death
        self.written = dict.fromkeys(_SCHEMAS, 0)
        self._care_sites: dict[tuple[str | None, ...], int] = {}

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def write(self, batch: Batch) -> None:
        """Write a batch of whole patients."""
        stays = batch.stays.sort_values(["subject_id"], ignore_index=True)
        patient, names = pd.factorize(stays["subject_id"].map(patient_of))
        person = self.written["person"] + 1 + patient
        visit = self.written["visit_occurrence"] + 1 + np.arange(len(stays))
        visits = pd.DataFrame({"person_id": person, "visit_occurrence_id": visit}, index=stays["subject_id"])
        self._write_persons(stays.assign(person_id=person), names)
        self._write_visits(stays.assign(person_id=person, visit_occurrence_id=visit))
        self._write_measurements(batch.observations, visits)
        self._write_outcomes(batch.outcomes, visits)

    def _write_persons(self, stays: pd.DataFrame, names: "pd.Index[str]") -> None:
        first = stays.sort_values("start", kind="stable").groupby("person_id").first()  # the first value that is known
        born = first["start"].dt.year - np.floor(first["age"])
        self._append(
            "person",
            pd.DataFrame(
                {
                    "person_id": first.index,
                    "gender_concept_id": first["sex"].map(SEXES).fillna(NO_CONCEPT).astype("int64"),
                    "year_of_birth": born.astype("Int64"),
                    "race_concept_id": NO_CONCEPT,
                    "ethnicity_concept_id": NO_CONCEPT,
                    "person_source_value": names,
                }
            ),
        )

    def _write_visits(self, stays: pd.DataFrame) -> None:
        pairs = [
            tuple(None if pd.isna(part) else str(part) for part in pair)
            for pair in zip(stays["site"], stays["unit"], strict=True)
        ]
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._care_sites]
        self._care_sites |= {pair: len(self._care_sites) + 1 + number for number, pair in enumerate(new)}
        rows = [
            {"care_site_id": self._care_sites[pair], "care_site_name": pair[1], "care_site_source_value": pair[0]}
            for pair in new
        ]
        self._append("care_site", pd.DataFrame(rows, columns=list(_COLUMNS["care_site"])))
        start, end = _utc(stays["start"]), _utc(stays["end"])
        self._append(
            "visit_occurrence",
            stays[["visit_occurrence_id", "person_id"]].assign(
                visit_concept_id=INPATIENT,
                visit_start_date=start.dt.date,
                visit_start_datetime=start,
                visit_end_date=end.dt.date,
                visit_end_datetime=end,
                visit_type_concept_id=EHR,
                care_site_id=[self._care_sites[pair] for pair in pairs],
                visit_source_value=stays["subject_id"],
            ),
        )
        facts = stays[["visit_occurrence_id", "age", "site"]].assign(ward=stays["unit"])
        times = {name: _utc(stays[name]) for name in ("unit_admitted_at", "hospital_admitted_at")}
        own = attributes_of(stays.drop(columns=["person_id", "visit_occurrence_id"]))
        attributes = [{name: values[row] for name, values in own.items() if row in values.index} for row in stays.index]
        self._append(STAY_FACTS, facts.assign(**times, attributes=[json.dumps(one) for one in attributes]))

    def _write_measurements(self, observations: pd.DataFrame, visits: pd.DataFrame) -> None:
        if "superseded_at" in observations:
            observations = observations[observations["superseded_at"].isna()]
        rows = visits.loc[observations["subject_id"]].reset_index(drop=True)
        rows["measurement_id"] = self.written["measurement"] + 1 + np.arange(len(rows))
        signal, at = observations["signal"].astype(object).reset_index(drop=True), _utc(observations["observed_at"])
        unit = signal.map({name: stored.unit for name, stored in STORED.items()})
        self._append(
            "measurement",
            rows.assign(
                measurement_concept_id=signal.map({name: concept for name, (concept, _) in MEASURED.items()}),
                measurement_date=at.dt.date,
                measurement_datetime=at,
                measurement_type_concept_id=EHR,
                operator_concept_id=signal.map({name: operator for name, (_, operator) in MEASURED.items()}).astype("Int64"),
                value_as_number=observations["value"].to_numpy(),
                unit_concept_id=unit.map({code: concept.concept_id for code, concept in UNIT_CONCEPTS.items()}),
                measurement_source_value=signal,
                unit_source_value=unit,
            ),
        )
        of_rows = {name: observations[name].astype(object).to_numpy() for name in ("device_id", "source", "message_id")}
        provenance = rows[["measurement_id", "visit_occurrence_id"]].assign(
            recorded_at=_utc(observations["recorded_at"]), **of_rows
        )
        self._append(PROVENANCE, provenance)

    def _write_outcomes(self, outcomes: pd.DataFrame, visits: pd.DataFrame) -> None:
        rows = visits.loc[outcomes["subject_id"]].reset_index(drop=True)
        onset, known = _utc(outcomes["onset"]), outcomes["onset_known"].astype(bool).reset_index(drop=True)
        self._append(
            "condition_occurrence",
            rows.assign(
                condition_occurrence_id=self.written["condition_occurrence"] + 1 + np.arange(len(rows)),
                condition_concept_id=NO_CONCEPT,
                condition_start_date=onset.dt.date,
                condition_start_datetime=onset,
                condition_type_concept_id=EHR,
                condition_source_value=known.map(OUTCOME) + outcomes["kind"].astype(object).reset_index(drop=True),
            ),
        )
        died = rows[["person_id"]].assign(death_date=onset.dt.date, death_datetime=onset, death_type_concept_id=EHR)
        died = died[known & self._is_death].drop_duplicates("person_id")
        self._append("death", died)

    def _append(self, table: str, rows: pd.DataFrame) -> None:
        self._writers[table].write_table(pa.Table.from_pandas(rows, _SCHEMAS[table], preserve_index=False))
        self.written[table] += len(rows)


def _utc(times: "pd.Series[pd.Timestamp]") -> "pd.Series[pd.Timestamp]":
    """Return times without their zone, which OMOP has no place for, numbered from 0 on."""
    return pd.to_datetime(times, utc=True).dt.tz_localize(None).reset_index(drop=True)
