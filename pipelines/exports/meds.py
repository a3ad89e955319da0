"""Writing a cohort as MEDS 0.4: events in shards by split, their codes, the splits of subjects, and labels of the task.

Arnrich B, Choi E, Fries JA, et al. Medical Event Data Standard (MEDS): facilitating machine learning for health. ICLR 2024
workshop. Schemas: https://github.com/Medical-Event-Data-Standard/meds. docs/cohorts.md lists the codes.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vigil.features.observations import to_resolution
from vigil.features.signals import STORED
from vigil.models.cohort import index_times, label_index_times, split_of
from vigil.models.tasks import RiskTask
from vigil.pipelines.cohort_store import CohortStore
from vigil.pipelines.sources import Batch
from vigil.pipelines.sources._shared.origin import OUTCOME, attributes_of
from vigil.pipelines.sources.meds.vocabulary import (
    AGE,
    ATTRIBUTE,
    CODES,
    EXTENSIONS,
    MEDS_VERSION,
    SEXES,
    SIGNAL_OF,
    START,
    STAY,
    SUPERSEDED,
    TIMES,
    describe,
    number_subjects,
)

_TIME: Final = pa.timestamp("us")  # UTC, which MEDS leaves out
_OF_TIME: Final = ("recorded_at", "superseded_at")
SCHEMA: Final = pa.schema(
    [
        pa.field("subject_id", pa.int64(), nullable=False),
        pa.field("time", _TIME),
        pa.field("code", pa.string(), nullable=False),
        ("numeric_value", pa.float32()),
        ("text_value", pa.large_string()),
        *((name, _TIME if name in _OF_TIME else pa.string()) for names in EXTENSIONS.values() for name in names),
    ]
)
_LABELS: Final = pa.schema(
    [
        pa.field("subject_id", pa.int64(), nullable=False),
        pa.field("prediction_time", _TIME, nullable=False),
        pa.field("boolean_value", pa.bool_(), nullable=False),
    ]
)
_SPLITS: Final = pa.schema([pa.field("subject_id", pa.int64(), nullable=False), pa.field("split", pa.string(), nullable=False)])
_CODES: Final = pa.schema(
    [
        pa.field("code", pa.string(), nullable=False),
        ("description", pa.string()),
        ("parent_codes", pa.list_(pa.string())),
        ("signal", pa.string()),
        ("unit", pa.string()),
        ("resolution", pa.float64()),
    ]
)


def write_meds(batches: Iterator[Batch], cohort: CohortStore, out: Path) -> int:
    """Write a cohort as a MEDS data set; return the number of observations.

    Args:
        batches: the cohort in parts of whole patients; each becomes one shard of each split.
        cohort: the same, for what belongs to all of them.
        out: folder of the data set.
    """
    numbers = number_subjects(cohort.read("stays")["subject_id"])
    metadata, task = out / "metadata", cohort.task
    for folder in (metadata, out / "labels"):
        folder.mkdir(parents=True, exist_ok=True)
    codes: set[str] = set()
    observations = 0
    with pq.ParquetWriter(out / "labels" / f"{task.name}.parquet", _LABELS) as labels:
        for shard, batch in enumerate(batches):
            events = events_of(batch).assign(subject_id=lambda events: events[STAY].map(numbers))
            codes |= set(events["code"])
            split = events[STAY].map({subject: split_of(subject) for subject in batch.stays["subject_id"]})
            for name, rows in events.groupby(split):
                path = out / "data" / str(name) / f"{shard}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                ordered = rows.sort_values(["subject_id", "time"], kind="stable", na_position="first")
                pq.write_table(pa.Table.from_pandas(ordered, SCHEMA, preserve_index=False), path)
            observations += len(batch.observations)
            labels.write_table(_labels(batch, task, numbers))
    pq.write_table(_codes(codes), metadata / "codes.parquet")
    splits = {number: split_of(subject) for subject, number in numbers.items()}
    columns = {"subject_id": list(splits), "split": list(splits.values())}
    pq.write_table(pa.table(columns, _SPLITS), metadata / "subject_splits.parquet")
    description = {
        "dataset_name": cohort.facts.source,
        "etl_name": "vigil",
        "etl_version": installed("vigil"),
        "meds_version": MEDS_VERSION,
        "created_at": datetime.now(UTC).isoformat(),
        **{kind: list(names) for kind, names in EXTENSIONS.items()},
    }
    (metadata / "dataset.json").write_text(json.dumps(description, indent=1) + "\n")
    return observations


def events_of(batch: Batch) -> pd.DataFrame:
    """Return the events of a batch without their MEDS subjects; of one time, the start of a stay is first and its end last."""
    stays = batch.stays.rename(columns={"subject_id": STAY, "unit": "ward"})
    facts = stays[[STAY]]
    at = {code: facts.assign(code=code, time=stays[column]).dropna(subset="time") for code, column in TIMES.items()}
    at[START] = at[START].assign(site=stays["site"], ward=stays["ward"])
    ages = facts.assign(code=AGE, time=stays["start"], numeric_value=stays["age"]).dropna(subset="numeric_value")
    ages["text_value"] = [repr(age) for age in ages["numeric_value"]]
    sexes = [facts[(stays["sex"] == sex).to_numpy()].assign(code=code) for code, sex in SEXES.items()]
    end = at.pop("STAY_END")
    of_stays = [*sexes, *_attributes(batch.stays), *at.values(), ages]
    parts = [*of_stays, _observed(batch.observations), _outcomes(batch.outcomes), end]
    events = pd.concat([part for part in parts if len(part)], ignore_index=True).reindex(columns=SCHEMA.names)
    for name in ("time", *_OF_TIME):
        events[name] = pd.to_datetime(events[name], utc=True).dt.tz_localize(None).astype("datetime64[us]")
    return events


def _attributes(stays: pd.DataFrame) -> Iterator[pd.DataFrame]:
    for name, values in attributes_of(stays).items():
        own = pd.DataFrame({STAY: stays.loc[values.index, "subject_id"], "code": ATTRIBUTE + name})
        if values.dtype == "float64":
            yield own.assign(numeric_value=values, text_value=[repr(value) for value in values.tolist()])
        else:
            yield own.assign(text_value=values.astype(object))


def _observed(observations: pd.DataFrame) -> pd.DataFrame:
    code = observations["signal"].astype(object).map(CODES)
    if "superseded_at" in observations:
        code = code.where(observations["superseded_at"].isna(), SUPERSEDED + code)
    named = observations.rename(columns={"subject_id": STAY, "observed_at": "time", "value": "numeric_value"})
    value = observations["value"].to_numpy()
    is_exact = to_resolution(value.astype(np.float32).astype(np.float64), observations["signal"]) == value
    text = pd.Series(None, observations.index, dtype=object)
    text[~is_exact] = [repr(full) for full in value[~is_exact].tolist()]  # signals of other packages may be finer than float32
    return named.drop(columns="signal").assign(code=code, text_value=text, source=observations["source"].astype(object))


def _outcomes(outcomes: pd.DataFrame) -> pd.DataFrame:
    prefix = outcomes["onset_known"].astype(bool).map(OUTCOME)
    return pd.DataFrame({STAY: outcomes["subject_id"], "time": outcomes["onset"], "code": prefix + outcomes["kind"]})


def _labels(batch: Batch, task: RiskTask, numbers: dict[str, int]) -> pa.Table:
    index = label_index_times(index_times(batch.stays, task.index), batch.outcomes, task).dropna(subset="label")
    rows = pd.DataFrame(
        {
            "subject_id": index["subject_id"].map(numbers),
            "prediction_time": index["index_time"].dt.tz_localize(None),
            "boolean_value": index["label"] == 1,
        }
    )
    return pa.Table.from_pandas(rows.sort_values(["subject_id", "prediction_time"]), _LABELS, preserve_index=False)


def _codes(codes: set[str]) -> pa.Table:
    rows = []
    for code in sorted(codes):
        description, parents = describe(code)
        signal = SIGNAL_OF.get(code.removeprefix(SUPERSEDED))
        row: dict[str, Any] = {"code": code, "description": description, "parent_codes": parents, "signal": signal}
        if signal is not None:
            row |= {"unit": STORED[signal].unit, "resolution": STORED[signal].resolution}
        rows.append(row)
    return pa.Table.from_pylist(rows, _CODES)
