"""The cohort of a mapping: its tables as observations, stays and outcomes."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from vigil.features.observations import TIME
from vigil.models.tasks import TASKS
from vigil.pipelines.sources import OUTCOMES, Batch, Source, SourceError
from vigil.pipelines.sources.table.aces import AcesTask, read_aces
from vigil.pipelines.sources.table.aces_windows import realise
from vigil.pipelines.sources.table.columns import is_among, read_names, read_times
from vigil.pipelines.sources.table.files import LINE, iterate_rows
from vigil.pipelines.sources.table.mapping import ACES_SUFFIXES, ObservationTable, Origin, OutcomeTable, StayTable, read_mapping
from vigil.pipelines.sources.table.spool import Spool, stack
from vigil.pipelines.sources.table.stays import (
    FACTS,
    KEY,
    PATIENT,
    facts_of,
    make_stays,
    read_declared_times,
    stays_of_observations,
)

_STAYS_PER_BATCH: Final = 2_000
EVENTS: Final = "events"  # the name of their table, and of what is left out of them


class TableCohort(Source):
    """A cohort of tables, by a mapping. Its tables are read once, and pass through memory in batches of stays.

    Raises:
        SourceError: the mapping, the task file or a table cannot be used.
    """

    def __init__(self, mapping: Path, data: Path | None = None, task: Path | None = None) -> None:
        """Read the mapping. No table is read before :meth:`batches`.

        Args:
            mapping: its file, or the name of one that comes with Vigil.
            data: folder of the tables; default: that of the mapping.
            task: a task file of ACES, in place of the task of the mapping.
        """
        self.mapping, text = read_mapping(mapping)
        self.name, self.deidentified = self.mapping.name, self.mapping.deidentified
        self.declared, self.shifted_dates = self.mapping.declarations(), self.mapping.shifted_dates
        self.data = data or mapping.parent
        self.aces: AcesTask | None = None
        self._asked: set[int] = set()  # questions that fell into a stay
        self._notes: tuple[str, ...] = ()
        own = self.mapping.task
        if task is None and isinstance(own, str) and own.endswith(ACES_SUFFIXES):
            task = mapping.parent / own
        if task is not None:
            self.aces, self.own_task = read_aces(task)
            self.notes = self._notes = self._require_events(task)
            text += self.aces.model_dump_json()
        elif not isinstance(own, str):
            self.own_task = own
        self.task = TASKS[str(own)] if self.own_task is None else self.own_task.task()
        # By this a run that was interrupted knows whether the mapping is still the same.
        self.digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        if not self.data.is_dir():
            raise SourceError(f"--data {self.data}: expected the folder of the tables that the mapping names")

    def __len__(self) -> int:
        return len(self._parts)

    def batches(self) -> Iterator[Batch]:
        self.left_out, self._asked = {}, set()
        for parts in self._parts:
            observations = stack([self._read_observations(number, parts) for number in range(len(self.mapping.observations))])
            stays = self._read_stays(observations, parts)
            if self.aces is None:
                outcomes = self._read_outcomes(stays, parts)
                names = stays.set_index(KEY)["subject_id"]
                sent = observations.pop(KEY)
                observations.insert(0, "subject_id", sent.map(names).fillna(sent))
            else:
                all_stays = stays
                stays, outcomes = self._ask(all_stays)
                observations = _until_asked(observations, all_stays, stays)
            yield Batch(observations.reset_index(drop=True), stays.drop(columns=[KEY, PATIENT]), outcomes)
        if self.aces is not None and (elsewhere := len(self._realised) - len(self._asked)):
            note = f"{elsewhere:,} of {len(self._realised):,} questions of the task fall into no stay, and are left out"
            self.notes = (*self._notes, note)

    @cached_property
    def _parts(self) -> list[list[int]]:
        """The parts of the spool that each batch consists of."""
        return self._spool.batches("stays" if self.mapping.stays else "observations 0", _STAYS_PER_BATCH)

    @cached_property
    def _spool(self) -> Spool:
        """The rows of all tables but events, by stay."""
        spool, mapping = Spool(), self.mapping
        for number, table in enumerate(mapping.observations):
            self._add(spool, f"observations {number}", table.stay, table, _columns_of_observations(table))
        if mapping.stays is not None:
            self._add(spool, "stays", mapping.stays.stay, mapping.stays, _columns_of_stays(mapping.stays))
        if mapping.outcomes is not None and self.aces is None:
            self._add(spool, "outcomes", mapping.outcomes.stay, mapping.outcomes, _columns_of_outcomes(mapping.outcomes))
            named = [spool.keys(title) for title in spool.tables if title != "outcomes"]
            if spool.keys("outcomes") and not any(spool.keys("outcomes") & keys for keys in named):
                raise SourceError(
                    f"{mapping.outcomes.title}: {mapping.outcomes.stay}: names no stay of the others; expected the same names "
                    "in all tables"
                )
        spool.finish()
        return spool

    def _add(self, spool: Spool, title: str, key: str, table: Origin, columns: Mapping[str, str | None]) -> None:
        mapped = [column for column in columns.values() if column is not None]
        rows = iterate_rows(table, mapped, self.data, self.mapping.settings_of(table), self.mapping.database)
        spool.add(title, key, rows)

    def _rows(self, title: str, parts: Sequence[int], columns: Mapping[str, str | None], spool: Spool) -> pd.DataFrame:
        """Return those columns of a table that are mapped, by their names here, and the lines of its rows."""
        rows = spool.read(title, parts)
        return pd.DataFrame(
            {LINE: rows[LINE], **{name: rows[column] for name, column in columns.items() if column is not None}}
        )

    def _rows_of_stays(self, title: str, parts: Sequence[int], columns: Mapping[str, str | None]) -> pd.DataFrame:
        rows = self._rows(title, parts, columns, self._spool)
        return rows.assign(**{KEY: read_names(rows[KEY])})

    def _read_observations(self, number: int, parts: Sequence[int]) -> pd.DataFrame:
        table = self.mapping.observations[number]
        rows = self._rows_of_stays(f"observations {number}", parts, _columns_of_observations(table))
        for name in ("observed_at", "recorded_at"):
            if name in rows:
                rows[name] = read_times(rows[name], table, self.declared.of(table.title))
        rows = _melt(rows, list(table.signals)) if table.signals else self._with_signals(rows, table)
        rows = rows[rows["value"].notna()]
        return rows.assign(source=pd.Categorical.from_codes(np.zeros(len(rows), np.int8), pd.Index([table.title])))

    def _with_signals(self, rows: pd.DataFrame, table: ObservationTable) -> pd.DataFrame:
        """Return the rows of a long table whose codes are known, by signal; those left out are counted."""
        codes = read_names(rows["signal"])
        signal = codes.map(table.known_codes())
        others = Counter(codes[signal.isna()].fillna("").astype(str))
        former = Counter(self.left_out.get(table.title, {}))
        self.left_out = {**self.left_out, table.title: dict((former + others).most_common())}
        return rows.assign(signal=signal.astype("category"))[signal.notna()]

    def _read_stays(self, observations: pd.DataFrame, parts: Sequence[int]) -> pd.DataFrame:
        seen = observations.groupby(KEY)["observed_at"].agg(["min", "max"]).set_axis(["first", "last"], axis=1).astype(TIME)
        table = self.mapping.stays
        if table is None:
            table, facts = StayTable(file="observations", stay=KEY), stays_of_observations(seen)
        else:
            facts = facts_of(self._rows_of_stays("stays", parts, _columns_of_stays(table)), table)
        return make_stays(facts, table, self.declared.of(table.title), seen, self.name)

    def _read_outcomes(self, stays: pd.DataFrame, parts: Sequence[int]) -> pd.DataFrame:
        table = self.mapping.outcomes
        if table is None:
            return pd.DataFrame({name: pd.Series(dtype=TIME if name == "onset" else object) for name in OUTCOMES})
        rows = self._rows_of_stays("outcomes", parts, _columns_of_outcomes(table))
        known = stays.set_index(KEY)
        rows = rows[rows[KEY].isin(known.index)]
        for name in ("onset", "time"):
            if name in rows:
                rows = rows.assign(**{name: read_declared_times(rows, name, table, self.declared.of(table.title))})
        outcomes = _onsets(rows, table, known["end"]).dropna(subset="onset")
        return pd.DataFrame(
            {
                "subject_id": known.loc[outcomes.index, "subject_id"].array,
                "onset": outcomes["onset"].astype(TIME).array,
                "kind": self.task.name,
                "onset_known": outcomes["onset_known"].array,
            }
        )

    def _require_events(self, task: Path) -> tuple[str, ...]:
        """Refuse a mapping without what a task file of ACES needs; return what to know about the task."""
        stays, needs = self.mapping.stays, []
        if self.mapping.events is None:
            needs.append("[events] with patient, time and code")
        if stays is None or not (stays.patient and stays.start and stays.end):
            needs.append("[stays] with patient, start and end")
        if needs:
            raise SourceError(f"task {task}: the mapping lacks {' and '.join(needs)}; add them, see docs/cohorts.md")
        assert self.aces is not None
        later = self.aces.windows_after_the_question()
        if not later:
            return ()
        note = (
            f"the task leaves out stays by what happens after the question is asked (windows {', '.join(later)}), which is not "
            "known at the bedside: read its figures as those of a cohort chosen afterwards"
        )
        return (note,)

    def _ask(self, stays: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return stays that end when a question of the ACES task is asked, a stay a question, and their outcomes."""
        asked = stays.merge(self._realised, on=PATIENT, how="inner")
        asked = asked[(asked["asked_at"] >= asked["start"]) & (asked["asked_at"] <= asked["end"])]
        self._asked |= set(asked["question"])
        number = asked.groupby("subject_id")["asked_at"].rank(method="first").astype(int)
        several = asked.groupby("subject_id")["asked_at"].transform("size") > 1
        asked = asked.assign(
            subject_id=asked["subject_id"].where(~several, asked["subject_id"] + "-" + number.astype("string")),
            end=asked["asked_at"],
        ).sort_values("subject_id", ignore_index=True)
        positive = asked[asked["label"] > 0]
        outcomes = pd.DataFrame({"subject_id": positive["subject_id"], "onset": positive["onset"].astype(TIME)})
        outcomes = outcomes.assign(kind=self.task.name, onset_known=True).reset_index(drop=True)
        return asked[[*stays.columns]], outcomes

    @cached_property
    def _realised(self) -> pd.DataFrame:
        """The questions of the ACES task: ``question`` (its number), patient, ``asked_at, label, onset``."""
        table = self.mapping.events
        assert table is not None
        assert self.aces is not None
        spool, columns = Spool(), {"patient": table.patient, "time": table.time, "code": table.code, "value": table.value}
        self._add(spool, EVENTS, table.patient, table, columns)
        spool.finish()
        realised = []
        for parts in spool.batches(EVENTS, _STAYS_PER_BATCH):
            rows = self._rows(EVENTS, parts, columns, spool)
            times = read_declared_times(rows, "time", table, self.declared.of(table.title))
            value = pd.to_numeric(rows["value"], errors="coerce") if "value" in rows else pd.Series(np.nan, rows.index)
            events = pd.DataFrame({"time": times, "code": rows["code"], "value": value})
            realised.append(realise(self.aces, events.assign(patient=read_names(rows["patient"]))))
        rows = pd.concat(realised, ignore_index=True)
        return (
            rows[["patient", "asked_at", "label", "onset"]].rename(columns={"patient": PATIENT}).reset_index(names="question")
        )


def _columns_of_observations(table: ObservationTable) -> dict[str, str | None]:
    columns = {KEY: table.stay, "observed_at": table.time, "recorded_at": table.recorded, "device_id": table.device}
    return columns | {
        "signal": table.signal,
        "value": table.value,
        "unit": table.unit,
        "comparator": table.comparator,
        **table.signals,
    }


def _columns_of_stays(table: StayTable) -> dict[str, str | None]:
    return {KEY: table.stay, **{name: getattr(table, name) for name in FACTS}, **table.attributes}


def _columns_of_outcomes(table: OutcomeTable) -> dict[str, str | None]:
    return {KEY: table.stay, "onset": table.onset, "label": table.label, "event": table.event, "time": table.time}


def _until_asked(observations: pd.DataFrame, all_stays: pd.DataFrame, asked: pd.DataFrame) -> pd.DataFrame:
    """Return the observations of each question until it is asked, and those that belong to no stay at all."""
    is_stray = ~observations[KEY].isin(all_stays[KEY])
    own = observations.merge(asked[[KEY, "subject_id", "end"]], on=KEY)
    own = own[~(own["observed_at"] > own["end"])].drop(columns=[KEY, "end"])  # one without a time is quarantined
    return stack([own, observations[is_stray].rename(columns={KEY: "subject_id"})])


def _onsets(rows: pd.DataFrame, table: OutcomeTable, ends: "pd.Series[pd.Timestamp]") -> pd.DataFrame:
    """Return ``onset, onset_known`` of stays; of a label that is true in the first row of a stay it is not known."""
    if table.onset is not None:
        return pd.DataFrame({"onset": rows.groupby(KEY)["onset"].min(), "onset_known": True})
    if table.event is not None:
        happened = rows.loc[is_among(rows["event"], table.true), KEY].unique()
        return pd.DataFrame({"onset": ends.loc[happened], "onset_known": True})
    positive = rows[is_among(rows["label"], table.true)].groupby(KEY)["time"].min()
    first = rows.groupby(KEY)["time"].min().loc[positive.index]
    return pd.DataFrame({"onset": positive + pd.Timedelta(hours=table.lead_hours), "onset_known": positive > first})


def _melt(rows: pd.DataFrame, signals: list[str]) -> pd.DataFrame:
    """Return a row a value of a wide table."""
    others = rows.drop(columns=signals)
    parts = [others.assign(signal=signal, value=rows[signal])[rows[signal].notna()] for signal in signals]
    long = pd.concat(parts, ignore_index=True)
    return long.assign(signal=pd.Categorical(long["signal"], categories=signals))
