"""Vigil's way into Feast: features as of the past for training, as of now for serving, and the latest written for serving.

Everything lies under one home folder: ``features/<view>/part-*.parquet`` (offline), ``feast/`` (registry and online store)
and the rendered ``feature_store.yaml``.
"""

import contextlib
import functools
import io
import json
import sqlite3
import string
import threading
import warnings
from collections.abc import Iterator, Sequence
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from features.catalogue import JOIN_KEY, SERVICES, VIEWS, service_views
from features.errors import VigilError
from features.observations import TIME
from features.store.parts import FeatureParts

NOBODY: Final = "-"  # no patient has this pseudonym
_ONLINE_CHUNK: Final = 200  # patients read from the online store at a time
_JOIN_VALUES: Final = 75_000_000  # that a point-in-time join may return at a time: it takes some twenty bytes for each


class StoreError(VigilError):
    """The feature store under this home cannot answer."""


class Store:
    """Feast over one home folder. Feast itself is imported at first use: it takes seconds."""

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self.parts = FeatureParts(self.home / "features")
        self._config = self.home / "feature_store.yaml"
        self._online = self.home / "feast" / "online.db"
        self._materialized = self.home / "feast" / "materialized.json"
        self._feast: Any = None
        self._services: dict[str, Any] = {}
        self._reading = threading.Lock()

    def withdraw(self) -> None:
        """Take the offline features out of use until :meth:`apply`, so that no job reads those of an earlier cohort.

        The files stay, since most may still be true, and so does the online store: a server may be reading it, and what is old
        in it is refused by its age.
        """
        self._config.unlink(missing_ok=True)
        self._feast, self._services = None, {}

    def apply(self) -> None:
        """Render feature_store.yaml and register entity, the views that were built, and the services that read no others."""
        if not len(self.parts):
            raise StoreError(f"{self.parts.folder}: no features there; build them first: vigil features")
        template = resources.files("features.store").joinpath("feature_store.yaml").read_text()
        (self.home / "feast").mkdir(exist_ok=True)
        if not self._online.exists():  # it was never there, or was taken away: nothing is loaded
            self._materialized.unlink(missing_ok=True)
        paths = {"registry": self.home / "feast" / "registry.db", "online": self._online}
        quoted = {name: json.dumps(str(path), ensure_ascii=False) for name, path in paths.items()}  # as YAML reads it
        self._config.write_text(string.Template(template).substitute(quoted))
        with _quiet():
            from features.store.definitions import PATIENT, feature_services, feature_views

            views = feature_views(self.parts.folder, self.parts.views)
            services = feature_services(views)
            feast = self._open()
            feast.apply([PATIENT, *views.values(), *services])
            for service in {service.name for service in feast.list_feature_services()} - {service.name for service in services}:
                feast.delete_feature_service(service)  # of an earlier build
            for view in {view.name for view in feast.list_feature_views()} - set(views):
                feast.delete_feature_view(view)
        if self._online.exists():
            with contextlib.closing(sqlite3.connect(self._online)) as online:
                online.execute("PRAGMA journal_mode=WAL")  # kept in the file: who reads does not wait for who writes

    def training_frame(self, rows: pd.DataFrame, service: str) -> pd.DataFrame:
        """Features as known at each row's time, through Feast's point-in-time join.

        Args:
            rows: ``subject_id, index_time`` and any other columns, which are kept.
            service: a feature service.

        Returns:
            The rows in order of subject and time, with the service's features (float32).

        Raises:
            StoreError: there are no features under this home, or not those of the service; or a column of the rows is named
                as one.
        """
        names = list(SERVICES[service])
        if set(names) & set(rows):
            raise StoreError(f"rows: columns named as features: {', '.join(sorted(set(names) & set(rows)))}; leave them out")
        rows = rows.sort_values(["subject_id", "index_time"], ignore_index=True)
        matrix = np.empty((len(names), len(rows)), dtype=np.float32)
        joins = max(1, -(-matrix.size // _JOIN_VALUES))
        for first, last in pairwise(np.linspace(0, len(rows), joins + 1, dtype=int)):
            matrix[:, first:last] = self._joined(rows[first:last], service)
        frame = pd.DataFrame(matrix.T, columns=names, copy=False)
        for place, column in enumerate(rows):
            frame.insert(place, column, rows[column])  # not concat, which would copy a gigabyte
        return frame

    def _joined(self, rows: pd.DataFrame, service: str) -> np.ndarray:
        """Features of some rows, in their order; shape (n_features, n_rows)."""
        entities = pd.DataFrame({JOIN_KEY: rows["subject_id"].astype(object), "event_timestamp": rows["index_time"]})
        entities["row"] = np.arange(len(rows))
        with _quiet():
            join = self._open().get_historical_features(entities, self._service(service), filter_by_created_timestamp=True)
            table = join.to_arrow()
            _close_duckdb()
        if table.num_rows != len(rows):
            raise StoreError(f"training frame: {len(rows)} rows asked for, {table.num_rows} came back")
        found = np.empty((len(SERVICES[service]), len(rows)), dtype=np.float32)
        place = table.column("row").to_numpy()
        for number, name in enumerate(SERVICES[service]):
            found[number, place] = table.column(name).to_numpy()
        return found

    def materialize(self, service: str) -> Iterator[int]:
        """Load the latest row of every patient into the online store, the views that a service reads; yields part by part.

        A part that was loaded before, and has not changed since, is left as it is.
        """
        self._service(service)  # is it there?
        done = self._loaded_before()
        for part in range(len(self.parts)):
            fingerprint = self.parts.fingerprint(part)
            for view in service_views(service):
                if done.get(f"{view}/{part}") != fingerprint:
                    self._write_online(view, self.parts.latest(part, view))
                    done[f"{view}/{part}"] = fingerprint
            unfinished = self._materialized.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(done, indent=1))
            unfinished.replace(self._materialized)
            yield part

    def _loaded_before(self) -> dict[str, str]:
        """Which parts of which views the online store holds, by their fingerprints; of parts there still are."""
        if not self._online.exists() or not self._materialized.exists():
            return {}
        done: dict[str, str] = json.loads(self._materialized.read_text())
        return {key: made_from for key, made_from in done.items() if int(key.rpartition("/")[2]) < len(self.parts)}

    def write_online(self, features: pd.DataFrame, service: str) -> None:
        """Write one row for each of some patients into the online store, replacing what was there.

        Args:
            features: ``subject_id, index_time`` and the features of all views that the service reads.
            service: whose views are written.
        """
        self._service(service)  # is it there?
        self._materialized.unlink(missing_ok=True)  # what was loaded before is no longer what is there
        times = features["index_time"].astype(TIME)
        keys = {JOIN_KEY: features["subject_id"].astype(object), "event_timestamp": times, "created_timestamp": times}
        for view in service_views(service):
            self._write_online(view, pd.DataFrame({**keys, **features[[feature.name for feature in VIEWS[view]]]}))

    def _write_online(self, view: str, rows: pd.DataFrame) -> None:
        names = [feature.name for feature in VIEWS[view]]
        if len(rows) and rows[names].isna().to_numpy().all():
            # Feast leaves out a frame without any feature, and earlier rows would stand. So one row, of nobody, has some.
            of_nobody = rows[:1].copy()
            of_nobody[JOIN_KEY], of_nobody[names] = NOBODY, np.float32(0)
            rows = pd.concat([rows, of_nobody])
        with _quiet():
            self._open().write_to_online_store(view, rows)

    def online(self, patient_ids: Sequence[str], service: str) -> pd.DataFrame:
        """The latest stored features of patients.

        Feast ignores the ttl here, so the caller must compare ``index_time`` with its own clock.

        Returns:
            One row a patient, in the order asked for: ``subject_id``, ``index_time`` (to the second, which is what Feast keeps;
            NaT where the patient is unknown or its views are of different index times) and the service's features.
        """
        if not patient_ids:
            return pd.DataFrame(columns=["subject_id", "index_time", *SERVICES[service]])
        parts = [
            self._online_chunk(patient_ids[first : first + _ONLINE_CHUNK], service)
            for first in range(0, len(patient_ids), _ONLINE_CHUNK)
        ]
        return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)

    def _online_chunk(self, patient_ids: Sequence[str], service: str) -> pd.DataFrame:
        entities = [{JOIN_KEY: str(patient)} for patient in patient_ids]
        with self._reading:  # Feast's connection is for one thread at a time
            answer = self._open().get_online_features(self._service(service), entities).proto
        found = dict(zip(answer.metadata.feature_names.val, answer.results, strict=True))
        seconds = np.array(
            [[stamp.seconds for stamp in found[members[0]].event_timestamps] for members in service_views(service).values()],
            dtype=np.int64,
        )
        same = (seconds == seconds[0]).all(axis=0) & (seconds[0] != 0)
        times = np.where(same, seconds[0].astype("datetime64[s]"), np.datetime64("NaT")).astype("datetime64[us]")
        features = np.array(
            [
                [value.float_val if value.HasField("float_val") else np.nan for value in found[name].values]  # noqa: PD011
                for name in SERVICES[service]
            ],
            dtype=np.float32,
        )
        rows = pd.DataFrame(features.T, columns=_columns(service))
        rows.insert(0, "subject_id", list(patient_ids))
        rows.insert(1, "index_time", pd.DatetimeIndex(times).tz_localize("UTC"))
        return rows

    def _service(self, name: str) -> Any:
        if name not in self._services:  # asking Feast again would parse the whole registry again, at every read
            feast = self._open()
            built = {view.name for view in feast.list_feature_views()}
            if missing := [view for view in service_views(name) if view not in built]:
                raise StoreError(
                    f"{name}: reads the view {', '.join(missing)}, which this home did not build, since the task of its cohort "
                    "has no use for it; ingest a cohort whose task has, then: vigil features"
                )
            self._services[name] = feast.get_feature_service(name)
        return self._services[name]

    def _open(self) -> Any:
        if self._feast is None:
            if not self._config.exists():
                raise StoreError(f"{self._config}: no feature store there; make one first: vigil features")
            from feast import FeatureStore

            self._feast = FeatureStore(fs_yaml_file=self._config)
        return self._feast


@functools.cache
def _columns(service: str) -> "pd.Index[str]":
    """Of a service; one object, so that what pandas looks up in it is looked up once."""
    return pd.Index(SERVICES[service])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Feast prints its progress and its dependencies' deprecations; ours is shown by the caller."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _close_duckdb() -> None:
    """Feast keeps its DuckDB connection open, and with it gigabytes of a finished join."""
    import ibis

    ibis.get_backend().disconnect()
    ibis.options.default_backend = None  # the next query opens a new one
