"""Replay: past predictions made again, bit for bit, from what was kept: the journal, the cohort and the registry.

What each prediction was made of depends on its origin:

- ``rescorer``, ``journal``: the patient's readings recorded by its index time;
- ``online_store``: a row that Feast keeps, whose time it knows to the second: of the journal's groups and of the rescorer's
  index times within that second one must give the same; of a patient of the batch cohort it is the cohort's readings. An answer
  from a row that was out of date is NEWS2; it is made again of the row aged by the hours that had passed, so all is checked;
- ``request``: readings that were never stored, so the features in the log are scored again.

Retention takes readings away. A prediction as of a time before that, which what is left does not give, is past retention; where
its features are in the log, they must still give what was said. The log does not say when the feature store could not be read:
a NEWS2 from the journal is checked as such.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import sqlalchemy as sa

from features.batch import build_features
from features.catalogue import INDEX_STEP, SERVICES, of, service_views
from features.errors import VigilError
from features.observations import TIME
from models.assessment import Finding, Risk, assess_registered, out_of_date
from models.registry import RegisteredModel, Registry
from pipelines.cohort_store import CohortStore, NoCohortError
from pipelines.progress import track
from serving.records.database import instant, microsecond, reading
from serving.records.journal import DROPPED, PATIENTS, READINGS, Journal
from serving.records.prediction_log import FILE, ORIGINS, SAID, PredictionLog, logged_features
from serving.scoring.subject_state import features_as_of

SAMPLE: Final = 200
SEED: Final = 2026

Verdict = Literal["reproduced", "from_logged_features", "past_retention", "not_kept", "different"]
_SAID_BEFORE_THE_NET: Final = ("basis", "probability", "news2", "news2_highest")
_SECOND: Final = pd.Timedelta(seconds=1)
_MICROSECOND: Final = pd.Timedelta(microseconds=1)


class NothingToReplayError(VigilError):
    """The home has made no prediction."""


@dataclass(frozen=True)
class Replayed:
    """What became of a sample.

    Attributes:
        sampled: predictions.
        origins: by origin, how many got which verdict; ``not_kept``: neither readings nor features were.
        different: by prediction, the names of the columns that came out otherwise.
    """

    sampled: int
    origins: dict[str, Counter[Verdict]] = field(default_factory=dict)
    different: dict[str, list[str]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self) | {"origins": {origin: dict(counts) for origin, counts in self.origins.items()}}


def replay(home: Path, sample: int = SAMPLE, seed: int = SEED) -> Replayed:
    """Make a random sample of predictions again and compare exactly; a server may be running.

    Raises:
        NothingToReplayError: there is none.
        NoModelError: a model version that predicted is not in the registry any more.
    """
    path = home / FILE
    logged = PredictionLog(home).sample(sample, seed) if path.exists() else pd.DataFrame()
    if logged.empty:
        raise NothingToReplayError(f"{path}: no prediction there; make some first: vigil predict, or vigil serve")
    found = Replayed(len(logged), {origin: Counter() for origin in ORIGINS if (logged["origin"] == origin).any()})
    groups: Any = list(logged.groupby(["model_name", "model_version", "feature_service"], dropna=False, sort=False))
    with reading(Journal(home).engine) as connection:  # one transaction, so that retention cannot come between
        kept = _Kept(connection, PredictionLog(home), CohortStore(home))
        for (name, version, service), rows in track(groups, "replay", len(groups)):
            # What was said while a model was withdrawn bears no model's name; what bears it was said before, or after.
            registered = (
                replace(Registry.existing(home).load(name, version), withdrawn=False) if isinstance(version, str) else None
            )
            replaying = _Replaying(kept, registered, service, rows.reset_index(drop=True))
            for place, (verdict, columns) in replaying.verdicts().items():
                found.origins[replaying.logged["origin"][place]][verdict] += 1
                if verdict == "different":
                    found.different[replaying.logged["prediction_id"][place]] = columns
    return found


class _Kept:
    """What the home kept that features are made of."""

    def __init__(self, connection: sa.Connection, log: PredictionLog, cohort: CohortStore) -> None:
        self._connection = connection
        self._log = log
        self._cohort = cohort
        self._dropped_at = connection.execute(sa.select(sa.func.max(DROPPED.c.recorded_at))).scalar()

    def may_be_dropped(self, index_time: pd.Timestamp) -> bool:
        """Whether retention came after an index time, so that readings known then may be gone."""
        return self._dropped_at is not None and microsecond(index_time) <= self._dropped_at

    def moments(self, patient: str, second: pd.Timestamp) -> list[pd.Timestamp]:
        """Index times of a patient within a second: of groups that say something of him, and of his rescoring."""
        first, last = microsecond(second), microsecond(second + _SECOND) - 1
        known = [
            sa.select(table.c.recorded_at).where(table.c.patient == patient, table.c.recorded_at.between(first, last))
            for table in (READINGS, PATIENTS)
        ]
        times = {instant(at) for (at,) in self._connection.execute(sa.union(*known))}
        said = self._log.history(patient, second - _MICROSECOND, second + _SECOND - _MICROSECOND)
        return sorted(times | set(said.loc[said["origin"] == "rescorer", "index_time"]))

    def of_journal(self, views: tuple[str, ...], wanted: pd.DataFrame) -> pd.DataFrame:
        """Features of ``subject_id, index_time`` whom the journal knew then."""
        together: Any = wanted.groupby("index_time")["subject_id"]
        parts = [features_as_of(self._connection, views, list(who), microsecond(time)) for time, who in together]
        return pd.concat(parts, ignore_index=True) if parts else wanted.head(0)

    def of_cohort(self, views: tuple[str, ...], wanted: pd.DataFrame) -> pd.DataFrame:
        """Features of ``subject_id, index_time`` of whom the batch cohort holds a stay."""
        patients, parts = wanted["subject_id"].unique(), [wanted.head(0)]
        try:
            number = self._cohort.parts()
        except NoCohortError:
            number = 0
        for part in range(number):
            stays = self._cohort.read_part("stays", part)
            index = wanted.merge(stays, on="subject_id").drop_duplicates(["subject_id", "index_time"])
            if len(index):
                readings = self._cohort.read_part("observations", part, of=patients)
                parts.append(build_features(readings, index, views))
        return pd.concat(parts[1:] or parts, ignore_index=True)


class _Replaying:
    """The predictions of one model version."""

    def __init__(self, kept: _Kept, registered: RegisteredModel | None, service: str, logged: pd.DataFrame) -> None:
        """Begin with predictions as the log has them, numbered from 0."""
        self.logged = logged
        self._kept = kept
        self._registered = registered
        self._service = service
        self._views = tuple(service_views(service))

    def verdicts(self) -> dict[int, tuple[Verdict, list[str]]]:
        """Of each prediction: what became of it, and the columns that came out otherwise."""
        origin = self.logged["origin"]
        differs = self._from_journal(np.flatnonzero(origin.isin(["rescorer", "journal"])))
        stored = self._candidates(np.flatnonzero(origin == "online_store"))
        differs |= self._compared(stored, self._kept.of_journal(self._views, _keys(stored)))
        batch = self._wanted(place for place in np.flatnonzero(origin == "online_store").tolist() if differs.get(place) != [])
        differs |= self._compared(batch, self._kept.of_cohort(self._views, _keys(batch)))
        undecided = [place for place in range(len(self.logged)) if differs.get(place) != []]
        from_log = self._from_log([place for place in undecided if self.logged["features"][place] is not None])
        return {place: self._verdict(place, differs.get(place), from_log.get(place)) for place in range(len(self.logged))}

    def _verdict(self, place: int, differs: list[str] | None, from_log: list[str] | None) -> tuple[Verdict, list[str]]:
        """From the columns that came out otherwise of the readings, and of the logged features; None: those are not there."""
        origin, index_time = self.logged["origin"][place], self.logged["index_time"][place]
        if differs == []:
            return "reproduced", []
        if from_log:
            return "different", from_log
        of_journal = differs is not None or origin in {"rescorer", "journal"}
        if origin != "request" and (of_journal or from_log is None) and self._kept.may_be_dropped(index_time):
            return "past_retention", []
        if of_journal:
            return "different", differs or ["readings"]
        return ("not_kept", []) if from_log is None else ("from_logged_features", [])

    def _from_journal(self, places: Iterable[int]) -> dict[int, list[str]]:
        wanted = self._wanted(places)
        return self._compared(wanted, self._kept.of_journal(self._views, _keys(wanted)))

    def _wanted(self, places: Iterable[int]) -> pd.DataFrame:
        """``subject_id, index_time`` and place of predictions."""
        rows = self.logged.loc[list(places), ["patient_id", "index_time"]]
        return rows.rename(columns={"patient_id": "subject_id"}).rename_axis("place").reset_index()

    def _candidates(self, places: Iterable[int]) -> pd.DataFrame:
        """The same with each index time that the row in the online store may have been of."""
        wanted = self._wanted(places)
        times = [self._kept.moments(*key) for key in zip(wanted["subject_id"], wanted["index_time"], strict=True)]
        candidates = wanted.assign(index_time=pd.Series(times, wanted.index, dtype=object)).explode("index_time")
        return candidates.dropna(subset="index_time").astype({"index_time": TIME})

    def _compared(self, wanted: pd.DataFrame, features: pd.DataFrame) -> dict[int, list[str]]:
        """Of each prediction that features were found of: the columns in which the nearest of them differs."""
        rows = wanted.merge(features, on=["subject_id", "index_time"])
        return self._differences(rows["place"].tolist(), rows.drop(columns="place"))

    def _from_log(self, places: Sequence[int]) -> dict[int, list[str]]:
        """The same from the features in the log."""
        names = logged_features(self._registered, SERVICES[self._service]) if self._registered else []
        if not set(of("scores")) <= set(names):
            return {}  # NEWS2 was made of what is not in the log
        values = self._wanted(places)
        logged = PredictionLog.features(self.logged["features"][list(places)], names)
        rows = pd.concat([values[["subject_id", "index_time"]], logged], axis=1)
        return self._differences(list(places), rows)

    def _differences(self, places: list[int], rows: pd.DataFrame) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        if not places:
            return found
        said = self.logged.iloc[places]
        both = [self._again(said, rows, store=store) for store in (False, True)]
        for place, *risks, before in zip(places, *both, said.to_dict("records"), strict=True):
            # Before there was a safety net the band was the model's alone, and nothing said what had decided it.
            compared = SAID if before["decided_by"] is not None else _SAID_BEFORE_THE_NET
            ways = [[name for name in compared if getattr(risk, name) != _or_none(before[name])] for risk in risks]
            columns = min(ways, key=len)
            if place not in found or len(columns) < len(found[place]):
                found[place] = columns
        return found

    def _again(self, said: pd.DataFrame, rows: pd.DataFrame, *, store: bool) -> list[Risk]:
        """Assess feature rows, asked for as the log says that they were.

        Of NEWS2 from the journal it does not say whether the store could not be read or the model could not speak: ``store``
        says which is assumed.
        """
        hours = (said["as_of"] - said["index_time"]).to_numpy() / np.timedelta64(1, "h")
        stored = (said["origin"] == "online_store").to_numpy()
        stale = stored & (hours >= INDEX_STEP.total_seconds() / 3600)
        by_news2 = ((said["origin"] == "journal") & (said["basis"] == "news2")).to_numpy()
        unread = by_news2 & (self._registered is not None) & (not store)
        against: list[tuple[Finding, ...]] = [
            ("stale_data",) if old else ("no_feature_store",) if no_store else ()
            for old, no_store in zip(stale, unread, strict=True)
        ]
        if stale.any():
            read = rows[["subject_id", "index_time", *SERVICES[self._service]]]  # whose readings' ages were there to see
            rows = pd.concat([rows[~stale], out_of_date(read[stale], hours[stale])]).sort_index()
        return assess_registered(self._registered, rows, against)


def _keys(wanted: pd.DataFrame) -> pd.DataFrame:
    return wanted[["subject_id", "index_time"]].drop_duplicates(ignore_index=True)


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value
