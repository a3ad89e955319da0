"""The cohort of a mapping: its tables as observations, stays and outcomes."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from vigil.features.observations import TIME
from vigil.pipelines.sources import OUTCOMES, Batch, SourceError
from vigil.pipelines.sources.table.columns import is_among, read_names, read_times
from vigil.pipelines.sources.table.files import LINE, read_rows
from vigil.pipelines.sources.table.mapping import (
    ObservationTable,
    OutcomeTable,
    StayTable,
    TableSettings,
    read_mapping,
    read_text,
)
from vigil.pipelines.sources.table.stays import (
    FACTS,
    KEY,
    facts_of,
    make_stays,
    read_declared_times,
    stays_of_observations,
)

_STAYS_PER_BATCH: Final = 2_000


class TableCohort:
    """A cohort of tables, by a mapping.

    Raises:
        SourceError: the mapping or a table cannot be used.
    """

    simulated = False

    def __init__(self, mapping: Path, data: Path | None = None) -> None:
        """Read the mapping. No table is read before :meth:`batches`.

        Args:
            mapping: its file, or the name of one that comes with Vigil.
            data: folder of the tables; default: that of the mapping.
        """
        self.mapping = read_mapping(mapping)
        self.name, self.deidentified = self.mapping.name, self.mapping.deidentified
        self.task, self.own_task = self.mapping.question()
        self.declared, self.shifted_dates = self.mapping.declarations(), self.mapping.shifted_dates
        self.left_out: dict[str, dict[str, int]] = {}  # rows of long tables whose code stands for no signal, by table and code
        self.data = data or mapping.parent
        # By this a run that was interrupted knows whether the mapping is still the same.
        self.digest = hashlib.blake2b(read_text(mapping).encode(), digest_size=8).hexdigest()
        if not self.data.is_dir():
            raise SourceError(f"--data {self.data}: expected the folder of the tables that the mapping names")
        self._batch: Batch | None = None

    def __len__(self) -> int:
        return max(1, -(-len(self._read().stays) // _STAYS_PER_BATCH))

    def batches(self) -> Iterator[Batch]:
        whole = self._read()
        for part in range(len(self)):
            stays = whole.stays.iloc[part * _STAYS_PER_BATCH : (part + 1) * _STAYS_PER_BATCH].reset_index(drop=True)
            subjects = stays["subject_id"]
            is_own = whole.observations["subject_id"].isin(subjects)
            if part == 0:  # what belongs to no stay goes with it, and into the quarantine
                is_own |= ~whole.observations["subject_id"].isin(whole.stays["subject_id"])
            yield Batch(
                observations=whole.observations[is_own].reset_index(drop=True),
                stays=stays,
                outcomes=whole.outcomes[whole.outcomes["subject_id"].isin(subjects)].reset_index(drop=True),
            )

    def _read(self) -> Batch:
        """Return the whole cohort; it is read once."""
        if self._batch is None:
            parts = [self._read_observations(table) for table in self.mapping.observations]
            observations = pd.concat(parts, ignore_index=True)
            stays = self._read_stays(observations)
            outcomes = self._read_outcomes(self.mapping.outcomes, stays)
            names = stays.set_index(KEY)["subject_id"]
            sent = observations.pop(KEY)
            observations.insert(0, "subject_id", sent.map(names).fillna(sent))
            self._batch = Batch(observations, stays.drop(columns=KEY), outcomes)
        return self._batch

    def _rows(self, table: TableSettings, columns: Mapping[str, str | None]) -> pd.DataFrame:
        """Return those columns of a table that are mapped, by their names here, and the lines of its rows."""
        mapped = {name: column for name, column in columns.items() if column is not None}
        settings = self.mapping.settings_of(table)
        rows = read_rows(table, list(mapped.values()), self.data, settings, self.mapping.database)
        rows = pd.DataFrame({LINE: rows[LINE], **{name: rows[column] for name, column in mapped.items()}})
        return rows.assign(**{KEY: read_names(rows[KEY])})

    def _read_observations(self, table: ObservationTable) -> pd.DataFrame:
        columns = {KEY: table.stay, "observed_at": table.time, "recorded_at": table.recorded, "device_id": table.device}
        columns |= {"signal": table.signal, "value": table.value, "unit": table.unit, "comparator": table.comparator}
        columns |= table.signals
        rows = self._rows(table, columns)
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
        others = codes[signal.isna()].fillna("").value_counts()
        self.left_out[table.title] = {str(code): int(count) for code, count in others.items()}
        return rows.assign(signal=signal.astype("category"))[signal.notna()]

    def _read_stays(self, observations: pd.DataFrame) -> pd.DataFrame:
        seen = observations.groupby(KEY)["observed_at"].agg(["min", "max"]).set_axis(["first", "last"], axis=1).astype(TIME)
        table = self.mapping.stays
        if table is None:
            table, facts = StayTable(file="observations", stay=KEY), stays_of_observations(seen)
        else:
            columns = {KEY: table.stay, **{name: getattr(table, name) for name in FACTS}, **table.attributes}
            facts = facts_of(self._rows(table, columns), table)
        return make_stays(facts, table, self.declared.of(table.title), seen, self.name)

    def _read_outcomes(self, table: OutcomeTable | None, stays: pd.DataFrame) -> pd.DataFrame:
        if table is None:
            return pd.DataFrame({name: pd.Series(dtype=TIME if name == "onset" else object) for name in OUTCOMES})
        columns = {KEY: table.stay, "onset": table.onset, "label": table.label, "event": table.event, "time": table.time}
        rows = self._rows(table, columns)
        known = stays.set_index(KEY)
        is_known = rows[KEY].isin(known.index)
        if len(rows) and not is_known.any():
            raise SourceError(
                f"{table.title}: {table.stay}: names no stay of the others; expected the same names in all tables"
            )
        rows = rows[is_known]
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
