"""A cohort that Vigil exported as OMOP, read back: subjects, stays, outcomes, splits, and the observations that count."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vigil.features.observations import TIME
from vigil.features.pseudonyms import is_subject_key
from vigil.pipelines.sources import Batch, SourceError
from vigil.pipelines.sources._shared.origin import OUTCOME, ExportedCohort
from vigil.pipelines.sources._shared.parquet import read_columns
from vigil.pipelines.sources.omop.vocabulary import PROVENANCE, SEXES, STAY_FACTS

_STAYS_PER_BATCH: Final = 500
_VISIT: Final = "visit_occurrence_id"


class OmopExport(ExportedCohort):
    """Tables that ``vigil cohort export --format omop`` wrote.

    Raises:
        SourceError: the folder does not hold them.
    """

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self._stays, self._outcomes = self._read_stays(), self._read_outcomes()

    def __len__(self) -> int:
        return max(1, -(-len(self._stays) // _STAYS_PER_BATCH))

    def batches(self) -> Iterator[Batch]:
        for part in range(len(self)):
            stays = self._stays.iloc[part * _STAYS_PER_BATCH : (part + 1) * _STAYS_PER_BATCH]
            names = stays.set_index(_VISIT)["subject_id"]
            outcomes = self._outcomes[self._outcomes[_VISIT].isin(names.index)]
            outcomes = outcomes.assign(subject_id=outcomes[_VISIT].map(names))
            yield Batch(
                self._read_observations(names),
                stays.drop(columns=_VISIT).reset_index(drop=True),
                outcomes.drop(columns=_VISIT).reset_index(drop=True),
            )

    def _read_stays(self) -> pd.DataFrame:
        visits = self._table(
            "visit_occurrence", _VISIT, "person_id", "visit_start_datetime", "visit_end_datetime", "visit_source_value"
        )
        persons = self._table("person", "person_id", "gender_concept_id")
        facts = self._table(STAY_FACTS, _VISIT, "age", "site", "ward", "unit_admitted_at", "hospital_admitted_at", "attributes")
        unclear = sum(not is_subject_key(str(key)) for key in visits["visit_source_value"])
        if unclear:
            raise SourceError(f"visit_source_value: {unclear} are no pseudonyms; expected those that an export writes")
        for name, table, key in (
            ("person", persons, "person_id"),
            (STAY_FACTS, facts, _VISIT),
            ("visit_occurrence", visits, _VISIT),
        ):
            if table[key].duplicated().any() or not visits[key].isin(table[key]).all():
                raise SourceError(f"{name}: expected one row for each {key} of the visits; export the cohort again")
        rows = visits.merge(facts, on=_VISIT).merge(persons, on="person_id").sort_values(_VISIT, ignore_index=True)
        sexes = {concept: sex for sex, concept in SEXES.items()}
        stays = pd.DataFrame({_VISIT: rows[_VISIT], "subject_id": rows["visit_source_value"].astype("string")})
        times = {"start": "visit_start_datetime", "end": "visit_end_datetime"}
        for name in ("start", "end", "unit_admitted_at", "hospital_admitted_at"):
            stays[name] = _times(rows[times.get(name, name)])
        stays["age"], stays["sex"] = rows["age"], rows["gender_concept_id"].map(sexes).astype("float64")
        stays["site"], stays["unit"] = rows["site"].astype("string"), rows["ward"].astype("string")
        attributes = pd.DataFrame([json.loads(text) for text in rows["attributes"]], index=rows.index)
        for name in map(str, attributes):
            is_number = pd.api.types.is_numeric_dtype(attributes[name])
            stays[name] = attributes[name].astype("float64" if is_number else "string")
        return stays

    def _read_outcomes(self) -> pd.DataFrame:
        rows = self._table("condition_occurrence", _VISIT, "condition_start_datetime", "condition_source_value")
        code = rows["condition_source_value"].astype("string")
        known = code.str.startswith(OUTCOME[True])
        rows = rows.assign(onset=_times(rows["condition_start_datetime"]), onset_known=known)
        rows["kind"] = code.str.removeprefix(OUTCOME[True]).str.removeprefix(OUTCOME[False])
        is_outcome = known | code.str.startswith(OUTCOME[False])
        return rows.loc[is_outcome.fillna(False), [_VISIT, "onset", "kind", "onset_known"]].astype({"onset_known": bool})

    def _read_observations(self, names: "pd.Series[str]") -> pd.DataFrame:
        columns = ["measurement_id", _VISIT, "measurement_datetime", "measurement_source_value", "value_as_number"]
        rows = self._part("measurement", columns, names)
        given = self._part(PROVENANCE, ["measurement_id", "recorded_at", "device_id", "source", "message_id"], names)
        rows = rows.merge(given, on="measurement_id", how="left", validate="1:1")
        return pd.DataFrame(
            {
                "subject_id": rows[_VISIT].map(names).astype("string"),
                "observed_at": _times(rows["measurement_datetime"]),
                "signal": rows["measurement_source_value"].astype("category"),  # unknown ones go into the quarantine
                "value": rows["value_as_number"],
                "recorded_at": _times(rows["recorded_at"]),
                "device_id": rows["device_id"],
                "source": rows["source"].astype("category"),
                "message_id": rows["message_id"].astype("string"),
            }
        )

    def _table(self, name: str, *columns: str) -> pd.DataFrame:
        return read_columns(self.data / f"{name}.parquet", *columns)

    def _part(self, name: str, columns: list[str], names: "pd.Series[str]") -> pd.DataFrame:
        """Read the rows of some visits, which are neighbours in an export."""
        if names.empty:
            return self._table(name, *columns)
        path = self.data / f"{name}.parquet"
        try:
            within = [(_VISIT, ">=", int(names.index.min())), (_VISIT, "<=", int(names.index.max()))]
            rows: pd.DataFrame = pq.read_table(path, columns=columns, filters=within).to_pandas()
        except (OSError, pa.ArrowException) as error:
            raise SourceError(f"{path}: cannot be read ({type(error).__name__}); export the cohort again") from None
        return rows


def _times(naive: "pd.Series[pd.Timestamp]") -> "pd.Series[pd.Timestamp]":
    """Return times of an export, which are UTC."""
    return naive.astype("datetime64[us]").dt.tz_localize("UTC").astype(TIME)
