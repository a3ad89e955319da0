"""Past predictions made again, bit for bit, from what is stored: the journal, the registry, and a cohort where there is one.

What each prediction was made of depends on its origin:

- ``rescorer``, ``journal``: the subject's observations recorded by its index time;
- ``online_store``: a row in Feast, which knows its time to the second. Of the journal's groups and the rescorer's index times
  within that second, one must give the same outputs; for a subject of the batch cohort it is the cohort's observations. An
  answer from a stale row is NEWS2; it is reproduced from the row aged by the hours that had passed, so every output counts;
- ``request``: observations that were never stored, so the features in the log are scored again.

Retention deletes observations. A prediction as of an earlier time that the rest does not give is past retention; if its
features are in the log, they must still give the same outputs. The log does not store whether the feature store could be read:
NEWS2 from the journal is compared as if it could not.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from vigil.features.catalogue import INDEX_STEP, SERVICES, list_features, views_to_assess
from vigil.features.observations import TIME
from vigil.models.assessment import Assessment, Finding, age_by_hours, assess_registered
from vigil.models.bedside import RETROSPECTIVE, ScoreTerms
from vigil.models.registry import RegisteredModel
from vigil.serving.records.journal_snapshot import JournalSnapshot
from vigil.serving.records.prediction_log import OUTPUTS, PredictionLog, logged_features
from vigil.serving.records.prediction_rows import features_frame
from vigil.serving.records.timestamps import instant, microsecond
from vigil.serving.scoring.subject_state import features_as_of

Verdict = Literal["reproduced", "from_logged_features", "past_retention", "not_stored", "different"]
# Returns features of those ``subject_id, index_time`` of which a batch cohort holds a stay, by views.
CohortFeatures = Callable[[tuple[str, ...], pd.DataFrame], pd.DataFrame]

_OUTPUTS_BEFORE_THE_SAFETY_NET: Final = ("basis", "probability", "news2", "news2_highest")
_SECOND: Final = pd.Timedelta(seconds=1)
_MICROSECOND: Final = pd.Timedelta(microseconds=1)


def no_cohort(_: tuple[str, ...], keys: pd.DataFrame) -> pd.DataFrame:
    """Return the features of no subject."""
    return keys.head(0)


class Sources:
    """What the home stores that features are made of."""

    def __init__(self, journal: JournalSnapshot, log: PredictionLog, from_cohort: CohortFeatures = no_cohort) -> None:
        self._journal = journal
        self._log = log
        self.from_cohort = from_cohort
        self._retention_at = journal.last_retention()

    def is_past_retention(self, index_time: pd.Timestamp) -> bool:
        """Return whether retention ran after an index time, so that observations known then may be deleted."""
        return self._retention_at is not None and microsecond(index_time) <= self._retention_at

    def index_times(self, subject: str, second: pd.Timestamp) -> list[pd.Timestamp]:
        """Return a subject's index times within a second: of the journal's groups and of the rescorer's predictions."""
        first, last = microsecond(second), microsecond(second + _SECOND) - 1
        times = {instant(at) for at in self._journal.recorded_times(subject, first - 1, last)}
        logged = self._log.history(subject, second - _MICROSECOND, second + _SECOND - _MICROSECOND)
        return sorted(times | set(logged.loc[logged["origin"] == "rescorer", "index_time"]))

    def from_journal(self, views: tuple[str, ...], keys: pd.DataFrame) -> pd.DataFrame:
        """Return features of those ``subject_id, index_time`` that the journal knew then."""
        by_time: Any = keys.groupby("index_time")["subject_id"]
        parts = [features_as_of(self._journal, views, list(subjects), microsecond(time)) for time, subjects in by_time]
        return pd.concat(parts, ignore_index=True) if parts else keys.head(0)


class PredictionGroup:
    """The predictions of one model version, numbered by row."""

    def __init__(self, sources: Sources, registered: RegisteredModel | None, service: str, logged: pd.DataFrame) -> None:
        self.logged = logged
        self._sources = sources
        self._registered = registered
        self._service = service
        self._views = views_to_assess(service)
        self._stored_columns = ["subject_id", "index_time", *SERVICES[service]]

    def verdicts(self) -> dict[int, tuple[Verdict, list[str]]]:
        """Return the verdict of each prediction, and the outputs that differ."""
        origin = self.logged["origin"]
        differing = self._from_journal(np.flatnonzero(origin.isin(["rescorer", "journal"])))
        candidates = self._candidates(np.flatnonzero(origin == "online_store"))
        differing |= self._compare(candidates, self._sources.from_journal(self._views, _keys(candidates)))
        from_store: list[int] = np.flatnonzero(origin == "online_store").tolist()
        batch = self._rows(row for row in from_store if differing.get(row) != [])
        differing |= self._compare(batch, self._sources.from_cohort(self._views, _keys(batch)))
        open_rows = [row for row in range(len(self.logged)) if differing.get(row) != []]
        from_log = self._from_log([row for row in open_rows if self.logged["features"][row] is not None])
        return {row: self._verdict(row, differing.get(row), from_log.get(row)) for row in range(len(self.logged))}

    def _verdict(self, row: int, differing: list[str] | None, from_log: list[str] | None) -> tuple[Verdict, list[str]]:
        """Return the verdict from the outputs that differ, by stored observations and by logged features (None: not stored)."""
        origin, index_time = self.logged["origin"][row], self.logged["index_time"][row]
        if differing == []:
            return "reproduced", []
        if from_log:
            return "different", from_log
        is_from_journal = differing is not None or origin in {"rescorer", "journal"}
        if origin != "request" and (is_from_journal or from_log is None) and self._sources.is_past_retention(index_time):
            return "past_retention", []
        if is_from_journal:
            return "different", differing or ["observations"]
        return ("not_stored", []) if from_log is None else ("from_logged_features", [])

    def _from_journal(self, rows: Iterable[int]) -> dict[int, list[str]]:
        wanted = self._rows(rows)
        return self._compare(wanted, self._sources.from_journal(self._views, _keys(wanted)))

    def _rows(self, rows: Iterable[int]) -> pd.DataFrame:
        """Return ``row, subject_id, index_time`` of predictions."""
        return self.logged.loc[list(rows), ["subject_id", "index_time"]].rename_axis("row").reset_index()

    def _candidates(self, rows: Iterable[int]) -> pd.DataFrame:
        """Return the same with each index time that the row in the online store may have."""
        wanted = self._rows(rows)
        times = [self._sources.index_times(*key) for key in zip(wanted["subject_id"], wanted["index_time"], strict=True)]
        candidates = wanted.assign(index_time=pd.Series(times, wanted.index, dtype=object)).explode("index_time")
        return candidates.dropna(subset="index_time").astype({"index_time": TIME})

    def _compare(self, wanted: pd.DataFrame, features: pd.DataFrame) -> dict[int, list[str]]:
        """Return the outputs that differ, of each prediction that has features; of several candidates the nearest counts."""
        rows = wanted.merge(features, on=["subject_id", "index_time"])
        return self._differences(rows["row"].tolist(), rows.drop(columns="row"))

    def _from_log(self, rows: Sequence[int]) -> dict[int, list[str]]:
        """Return the same from the features in the log."""
        names = logged_features(self._registered, SERVICES[self._service]) if self._registered else []
        if not set(list_features("scores")) <= set(names):
            return {}  # NEWS2 was made of features that are not in the log
        keys = self._rows(rows)[["subject_id", "index_time"]]
        features = features_frame(self.logged["features"][list(rows)], names)
        return self._differences(list(rows), pd.concat([keys, features], axis=1))

    def _differences(self, rows: list[int], features: pd.DataFrame) -> dict[int, list[str]]:
        differences: dict[int, list[str]] = {}
        if not rows:
            return differences
        logged = self.logged.iloc[rows]
        attempts = [self._assess(logged, features, store=store) for store in (False, True)]
        for row, *risks, before in zip(rows, *attempts, logged.to_dict("records"), strict=True):
            # Before there was a safety net the band was the model's alone, and what decided it was not stored.
            compared = OUTPUTS if before["decided_by"] is not None else _OUTPUTS_BEFORE_THE_SAFETY_NET
            ways = [[name for name in compared if getattr(risk, name) != _or_none(before[name])] for risk in risks]
            outputs = min(ways, key=len)
            if row not in differences or len(outputs) < len(differences[row]):
                differences[row] = outputs
        return differences

    def _assess(self, logged: pd.DataFrame, rows: pd.DataFrame, *, store: bool) -> list[Assessment]:
        """Assess feature rows as the log says that they were assessed.

        For NEWS2 from the journal the log does not say whether the store could not be read or the model was not asked:
        ``store`` says which is assumed.
        """
        hours = (logged["as_of"] - logged["index_time"]).to_numpy() / np.timedelta64(1, "h")
        is_stored = (logged["origin"] == "online_store").to_numpy()
        is_stale = is_stored & (hours >= INDEX_STEP.total_seconds() / 3600)
        by_news2 = ((logged["origin"] == "journal") & (logged["basis"] == "news2")).to_numpy()
        is_unreadable = by_news2 & (self._registered is not None) & (not store)
        findings: list[tuple[Finding, ...]] = [
            ("stale_data",) if stale else ("no_feature_store",) if unreadable else ()
            for stale, unreadable in zip(is_stale, is_unreadable, strict=True)
        ]
        # An earlier version stored no terms, and carried values as retrospective protocols do.
        terms = [RETROSPECTIVE if pd.isna(stored) else ScoreTerms.from_json(stored) for stored in logged["terms"]]
        risks: dict[int, Assessment] = {}
        for chosen, columns in ((~is_stored, rows.columns), (is_stored, rows.columns.intersection(self._stored_columns))):
            places = np.flatnonzero(chosen).tolist()
            read = rows.iloc[places][columns]
            if is_stale[chosen].any():
                aged = age_by_hours(read[is_stale[chosen]], hours[is_stale])
                read = pd.concat([read[~is_stale[chosen]], aged]).sort_index()
            of_places = ([findings[place] for place in places], [terms[place] for place in places])
            risks |= zip(places, assess_registered(self._registered, read, *of_places), strict=True)
        return [risks[place] for place in range(len(rows))]


def _keys(wanted: pd.DataFrame) -> pd.DataFrame:
    return wanted[["subject_id", "index_time"]].drop_duplicates(ignore_index=True)


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value
