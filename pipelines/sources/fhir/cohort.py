"""The cohort of a FHIR export: its Observations as readings of stays, batch by batch."""

import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from vigil.features.observations import TIME
from vigil.pipelines.sources import OUTCOMES, STAYS, Batch, Source, SourceError
from vigil.pipelines.sources._shared.facts import plausible_age
from vigil.pipelines.sources.fhir.files import Entry, Export
from vigil.pipelines.sources.fhir.registers import Registers, read_registers
from vigil.pipelines.sources.fhir.settings import read_settings
from vigil.pipelines.sources.fhir.spill import Row, Spill, divide
from vigil.pipelines.sources.fhir.stays import SECOND, Stay, Stays, age_at
from vigil.serving.fhir.concepts import read_codings
from vigil.serving.fhir.observations import MappedObservation, ObservationMapper
from vigil.serving.fhir.refusals import RefusedError
from vigil.serving.records.timestamps import SKEW

_STAYS_PER_BATCH: Final = 500
_BYTES_PER_BATCH: Final = 150_000_000  # of its files: some 300,000 readings
_OBSERVATION_COLUMNS: Final = (
    "subject_id", "observed_at", "signal", "value", "unit", "comparator", "recorded_at", "device_id", "source", "message_id",
    "status", "version", "refused", "path", "file", "line",
)  # fmt: skip


class FhirCohort(Source):
    """A cohort of a folder with the files of a FHIR ``$export``, or with Bundles.

    Raises:
        SourceError: the settings or a file cannot be used.
    """

    def __init__(self, data: Path, settings: Path | None = None) -> None:
        """Read the settings. No file is read before :meth:`batches`.

        Args:
            data: the folder, or one file.
            settings: TOML; default: ``fhir.toml`` in the folder, if it is there.
        """
        self.data = data
        # By the digest a run that was interrupted knows whether the settings are still the same.
        self.settings, self.digest = read_settings(data if data.is_dir() else data.parent, settings)
        self.name, self.deidentified = self.settings.name, self.settings.deidentified
        self.task, self.own_task = self.settings.question()
        self.declared, self.shifted_dates = self.settings.declarations(), self.settings.shifted_dates
        if not data.exists():
            raise SourceError(f"--data {data}: not there; expected the folder of a FHIR $export")

    def __len__(self) -> int:
        stays = self._stays.stays
        wanted = max(-(-len(stays) // _STAYS_PER_BATCH), -(-self._export.size // _BYTES_PER_BATCH))
        return max(1, min(wanted, len({stay.patient for stay in stays})))

    @cached_property
    def _export(self) -> Export:
        return Export(self.data)

    @cached_property
    def _registers(self) -> Registers:
        registers = read_registers(self._export, self.settings)
        if not registers.facts:
            raise SourceError(
                f"--data {self.data}: no Patient that can be used; expected an $export of Patient, Encounter and Observation; "
                "if patient_system is set, it has to be the system of an identifier that they have"
            )
        return registers

    @cached_property
    def _stays(self) -> Stays:
        return Stays(self._registers, self.settings)

    def batches(self) -> Iterator[Batch]:
        """Yield the cohort in batches of whole patients."""
        parts = divide([stay.patient for stay in self._stays.stays], len(self))
        stays: list[list[Stay]] = [[] for _ in range(len(self))]
        for stay in self._stays.stays:
            stays[parts[stay.patient]].append(stay)
        with tempfile.TemporaryDirectory(prefix="vigil-fhir-") as folder:
            spill = Spill(Path(folder), parts, len(self))
            self._map(spill)
            found = self._registers.left_out
            self.left_out = {kind: dict(reasons.most_common()) for kind, reasons in found.items()}
            for part, own in enumerate(stays):
                yield self._make(own, spill.read(part))

    def _map(self, spill: Spill) -> None:
        """Map all Observations."""
        registers = self._registers
        registers.left_out.pop("Observation", None)  # of a reading before
        mapper = ObservationMapper(registers.patients.find, self.settings.own_codes, named_by="id")
        for entry in self._export.observations():
            if registers.is_deleted(entry.resource or {}):
                registers.leave_out("Observation", "deleted")
                continue
            mapped = mapper.map(entry.resource)
            if any(refusal.reason == "unknown_signal" for refusal in mapped.refusals) and len(mapped.readings) == 1:
                registers.leave_out("Observation", _code_of(entry))
                continue
            encounter = None if mapped.encounter is None else self._stays.encounter_of(mapped.encounter)
            device = registers.device_name(mapped.device_id)
            for row in _rows(entry, mapped, encounter, device):
                spill.add(row)
        spill.flush()

    def _make(self, stays: list[Stay], rows: pd.DataFrame) -> Batch:
        rows = rows.assign(subject_id=_assign(rows, stays), source=self.name)
        recorded = rows["recorded_at"].fillna(rows["observed_at"])
        ahead = rows["observed_at"] - recorded  # ``issued`` is often cut to whole seconds
        rows["recorded_at"] = recorded.where(~((ahead > pd.Timedelta(0)) & (ahead <= SKEW)), rows["observed_at"])
        seen = (
            rows[rows["refused"].isna() & rows["observed_at"].notna()].groupby("subject_id")["observed_at"].agg(["min", "max"])
        )
        table = _stay_table(stays, seen, self._registers)
        return Batch(
            observations=rows[list(_OBSERVATION_COLUMNS)],
            stays=table[list(STAYS)],
            outcomes=_outcome_table(stays, table, self.task.name),
        )


def _rows(entry: Entry, mapped: MappedObservation, encounter: str | None, device: str | None) -> Iterator[Row]:
    """Yield the readings of an Observation."""
    for reading in mapped.readings:
        is_text = isinstance(reading.value, str)
        yield Row(
            patient=mapped.patient_id,
            encounter=encounter,
            observed_at=mapped.observed_at,
            recorded_at=mapped.issued,
            signal=reading.signal,
            value=None if is_text else reading.value,  # type: ignore[arg-type]
            text=reading.value if is_text else None,  # type: ignore[arg-type]
            unit=reading.unit,
            comparator=reading.comparator,
            device_id=device,
            message_id=reading.message_id,
            status=reading.status,
            version=mapped.version,
            refused=None if reading.refusal is None else reading.refusal.reason,
            path=None if reading.refusal is None else reading.refusal.path,
            file=entry.file,
            line=entry.line,
        )


def _code_of(entry: Entry) -> str:
    try:
        codings = read_codings((entry.resource or {}).get("code"), "")
    except RefusedError:
        codings = ()
    return "|".join(codings[0]) if codings else "no code"


def _assign(rows: pd.DataFrame, stays: list[Stay]) -> "pd.Series[Any]":
    """Return the subject of each reading: by its encounter, or else by its time; of no stay the patient."""
    by_encounter = {(stay.patient, stay.encounter): stay.subject for stay in stays}
    pairs = zip(rows["patient"], rows["encounter"].where(rows["encounter"].notna(), None), strict=True)
    subject = pd.Series([by_encounter.get(pair) for pair in pairs], rows.index, dtype=object)
    open_ = subject.isna() & rows["encounter"].isna() & rows["patient"].notna()
    if open_.any():
        subject = subject.where(~open_, _assign_by_time(rows[open_], stays).reindex(rows.index))
    # A retraction may have neither encounter nor time; its message is of a stay.
    missing = subject.isna() & rows["message_id"].notna() & rows["encounter"].isna()
    if missing.any():
        messages = pd.MultiIndex.from_frame(rows[["message_id", "patient"]])
        of_message = pd.Series(subject.to_numpy(), messages).dropna()
        of_message = of_message[~of_message.index.duplicated()]
        subject.loc[missing] = of_message.reindex(messages[missing.to_numpy()]).to_numpy()
    return subject.where(subject.notna(), rows["patient"])


def _assign_by_time(rows: pd.DataFrame, stays: list[Stay]) -> "pd.Series[Any]":
    """Return the stay in whose time each reading is."""
    far = np.iinfo(np.int64).max
    table = pd.DataFrame(
        [(stay.patient, stay.start or -far, far if stay.end is None else stay.end, stay.subject) for stay in stays],
        columns=["patient", "start", "end", "subject"],
    ).sort_values("start", kind="stable")
    at = rows["observed_at"]
    timed = pd.DataFrame({"patient": rows["patient"], "at": at.to_numpy("datetime64[us]").astype(np.int64), "row": rows.index})
    timed = timed[at.notna().to_numpy()].sort_values("at", kind="stable")
    if table.empty or timed.empty:
        return pd.Series(dtype=object)
    table = table.astype({"start": np.int64, "end": np.int64})
    found = pd.merge_asof(timed, table, left_on="at", right_on="start", by="patient")
    found = found[found["at"] <= found["end"]]
    return pd.Series(found["subject"].to_numpy(), found["row"].to_numpy(), dtype=object)


def _times(values: list[int | None]) -> "pd.Series[pd.Timestamp]":
    numbers = np.array(
        [np.datetime64("NaT") if value is None else np.datetime64(value, "us") for value in values], "datetime64[us]"
    )
    return pd.Series(numbers).dt.tz_localize("UTC").astype(TIME)


def _stay_table(stays: list[Stay], seen: pd.DataFrame, registers: Registers) -> pd.DataFrame:
    """Return the stays as a source gives them. One without a start or end has that of its readings; else it is left out."""
    names = pd.Series([stay.subject for stay in stays], dtype=object)
    first, last = (names.map(seen[column]).astype(TIME) for column in ("min", "max"))
    start = _times([stay.start for stay in stays]).fillna(first.dt.floor("s"))
    end = _times([stay.end for stay in stays]).fillna(last)
    end = end.where(end.notna() & (end >= start), start)
    starts = [None if pd.isna(time) else int(time.timestamp()) * SECOND for time in start]
    ages = [
        age_at(registers.facts[stay.patient], at) if stay.age is None and at is not None else stay.age
        for stay, at in zip(stays, starts, strict=True)
    ]
    table = pd.DataFrame(
        {
            "subject_id": names.astype("string"),
            "start": start,
            "end": end,
            "unit_admitted_at": _times([stay.unit_admitted_at for stay in stays]),
            "hospital_admitted_at": _times([stay.hospital_admitted_at for stay in stays]),
            "age": plausible_age(pd.Series(ages, dtype="float64")),
            "sex": pd.Series([stay.sex for stay in stays], dtype="float64"),
            "site": pd.Series([stay.site for stay in stays], dtype="string"),
            "unit": pd.Series([stay.ward for stay in stays], dtype="string"),
        }
    )
    return table[table["start"].notna()].reset_index(drop=True)


def _outcome_table(stays: list[Stay], table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return the outcomes of stays that are in the table."""
    known = set(table["subject_id"])
    own = [stay for stay in stays if stay.onset is not None and stay.subject in known]
    outcomes = {
        "subject_id": pd.Series([stay.subject for stay in own], dtype="string"),
        "onset": _times([stay.onset for stay in own]),
        "kind": pd.Series([kind] * len(own), dtype="string"),
        "onset_known": pd.Series([stay.onset_known for stay in own], dtype=bool),
    }
    return pd.DataFrame(outcomes)[list(OUTCOMES)]
