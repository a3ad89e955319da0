"""The feature store: Vigil's interface to Feast.

Training reads features as they were known in the past. Serving reads and writes the latest features of each patient. All files
lie in one home: ``features/<view>/part-*.parquet`` (offline features), ``feast/`` (registry and online store) and the rendered
``feature_store.yaml``.
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
from filelock import FileLock

from vigil.features.catalogue import SERVICES, VIEWS, service_views
from vigil.features.errors import VigilError
from vigil.features.observations import TIME
from vigil.features.store.feast_import import import_feast
from vigil.features.store.migration import is_former, migrate_online, migrate_partitions
from vigil.features.store.partitions import FeaturePartitions

UNUSED_SUBJECT_KEY: Final = "-"  # no patient has this subject key
_ONLINE_CHUNK: Final = 200  # patients in one read from the online store
_JOIN_VALUES: Final = 75_000_000  # values in one point-in-time join, which needs about 20 bytes for each


class StoreError(VigilError):
    """The feature store of a home cannot be used."""


class Store:
    """The feature store of one home.

    Feast is imported at first use, because the import takes seconds.
    """

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self.partitions = FeaturePartitions(self.home / "features")
        self._config = self.home / "feature_store.yaml"
        self._online = self.home / "feast" / "online.db"
        self._registry = self.home / "feast" / "registry.db"
        self._materialized = self.home / "feast" / "materialized.json"
        self._feast: Any = None
        self._services: dict[str, Any] = {}
        self._read_lock = threading.Lock()

    def withdraw(self) -> None:
        """Make the offline features unavailable until :meth:`apply`, so that no job reads those of an earlier cohort.

        The files stay, because most of them may still be valid. The online store stays too: a server may be reading it, and
        refuses stale features.
        """
        self._migrate_files()
        self._config.unlink(missing_ok=True)
        self._feast, self._services = None, {}

    def apply(self) -> None:
        """Render feature_store.yaml and register the views that were built, with all services that read no other views.

        Raises:
            StoreError: There are no offline features.
        """
        if not len(self.partitions):
            raise StoreError(
                f"{self.partitions.folder}: no features; expected those of a cohort; build them first: vigil features"
            )
        self._migrate_files()
        template = resources.files("vigil.features.store").joinpath("feature_store.yaml").read_text()
        (self.home / "feast").mkdir(exist_ok=True)
        if not self._online.exists():  # it is new or was removed, so no partition is loaded
            self._materialized.unlink(missing_ok=True)
        paths = {"registry": self._registry, "online": self._online}
        # JSON strings are valid YAML.
        quoted = {name: json.dumps(str(path), ensure_ascii=False) for name, path in paths.items()}
        unfinished = self._config.with_suffix(".unfinished")  # other processes see the store once everything is registered
        unfinished.write_text(string.Template(template).substitute(quoted))
        with _quiet():
            import_feast()  # before the definitions, which import it too
            from vigil.features.store.definitions import SUBJECT_ENTITY, feature_services, feature_views

            views = feature_views(self.partitions.folder, self.partitions.views)
            services = feature_services(views)
            feast, self._services = import_feast().FeatureStore(fs_yaml_file=unfinished), {}
            feast.apply([SUBJECT_ENTITY, *views.values(), *services])
            for service in {service.name for service in feast.list_feature_services()} - {service.name for service in services}:
                feast.delete_feature_service(service)  # registered by an earlier build
            for view in {view.name for view in feast.list_feature_views()} - set(views):
                feast.delete_feature_view(view)
        unfinished.replace(self._config)
        self._feast = feast
        if self._online.exists():
            with contextlib.closing(sqlite3.connect(self._online)) as online:
                online.execute("PRAGMA journal_mode=WAL")  # a setting of the file: readers do not wait for writers

    @property
    def is_former(self) -> bool:
        """Whether an earlier version wrote the store, so that :meth:`migrate` has something to do."""
        return is_former(self._config)

    def migrate(self) -> None:
        """Bring a store that an earlier version wrote up to date. The first process that opens it does so, and others wait."""
        with FileLock(self.home / "feast" / "migration.lock"):
            if not self.is_former:
                return
            if len(self.partitions):
                self.apply()
            else:  # there is nothing to register
                self.withdraw()

    def _migrate_files(self) -> None:
        if self.is_former:
            migrate_partitions(self.partitions.folder)
            migrate_online(self._online)
            self._registry.unlink(missing_ok=True)  # Feast makes it again

    def read_training_frame(self, rows: pd.DataFrame, service: str) -> pd.DataFrame:
        """Read the features as known at the time of each row, by Feast's point-in-time join.

        Args:
            rows: ``subject_id``, ``index_time`` and any other columns, which are returned unchanged.
            service: Name of a feature service.

        Returns:
            The rows, ordered by subject and time, with the features of the service (float32).

        Raises:
            StoreError: The home has no features or not those of the service, or a column of the rows has the name of one.
        """
        names = list(SERVICES[service])
        if set(names) & set(rows):
            raise StoreError(
                f"rows: columns with the names of features: {', '.join(sorted(set(names) & set(rows)))}; remove or rename them"
            )
        rows = rows.sort_values(["subject_id", "index_time"], ignore_index=True)
        matrix = np.empty((len(names), len(rows)), dtype=np.float32)
        joins = max(1, -(-matrix.size // _JOIN_VALUES))
        for first, last in pairwise(np.linspace(0, len(rows), joins + 1, dtype=int)):
            matrix[:, first:last] = self._joined(rows[first:last], service)
        frame = pd.DataFrame(matrix.T, columns=names, copy=False)
        for position, column in enumerate(rows):
            frame.insert(position, column, rows[column])  # concat would copy a gigabyte
        return frame

    def _joined(self, rows: pd.DataFrame, service: str) -> np.ndarray:
        """Return the features of some rows in their order; shape (n_features, n_rows)."""
        entities = pd.DataFrame({"subject_id": rows["subject_id"].astype(object), "event_timestamp": rows["index_time"]})
        entities["row"] = np.arange(len(rows))
        with _quiet():
            join = self._open().get_historical_features(entities, self._service(service), filter_by_created_timestamp=True)
            table = join.to_arrow()
            _close_duckdb()
        if table.num_rows != len(rows):
            raise StoreError(
                f"training frame: Feast returned {table.num_rows} rows; expected {len(rows)}; rebuild first: vigil features"
            )
        matrix = np.empty((len(SERVICES[service]), len(rows)), dtype=np.float32)
        position = table.column("row").to_numpy()
        for number, name in enumerate(SERVICES[service]):
            matrix[number, position] = table.column(name).to_numpy()
        return matrix

    def materialize(self, service: str) -> Iterator[int]:
        """Load the latest row of every patient into the online store, for the views that a service reads.

        Partitions that were loaded before and have not changed are skipped.

        Yields:
            The number of each partition, after it was loaded.

        Raises:
            StoreError: The home has no features of the service.
        """
        self._service(service)  # raises if the service is not registered
        loaded = self._read_loaded()
        for partition in range(len(self.partitions)):
            fingerprint = self.partitions.read_fingerprint(partition)
            for view in service_views(service):
                if loaded.get(f"{view}/{partition}") != fingerprint:
                    self._write_online(view, self.partitions.read_latest(partition, view))
                    loaded[f"{view}/{partition}"] = fingerprint
            unfinished = self._materialized.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(loaded, indent=1))
            unfinished.replace(self._materialized)
            yield partition

    def _read_loaded(self) -> dict[str, str]:
        """Return the fingerprints of the existing partitions that the online store holds, by ``<view>/<number>``."""
        if not self._online.exists() or not self._materialized.exists():
            return {}
        loaded: dict[str, str] = json.loads(self._materialized.read_text())
        return {key: fingerprint for key, fingerprint in loaded.items() if int(key.rpartition("/")[2]) < len(self.partitions)}

    def write_online(self, features: pd.DataFrame, service: str) -> None:
        """Write one row for each of some patients into the online store, replacing their earlier rows.

        Args:
            features: ``subject_id``, ``index_time`` and the features of all views that the service reads.
            service: Name of the feature service. The views that it reads are written.

        Raises:
            StoreError: The home has no features of the service.
        """
        self._service(service)  # raises if the service is not registered
        self._materialized.unlink(missing_ok=True)  # the online store no longer equals the loaded partitions
        times = features["index_time"].astype(TIME)
        keys = {"subject_id": features["subject_id"].astype(object), "event_timestamp": times, "created_timestamp": times}
        for view in service_views(service):
            self._write_online(view, pd.DataFrame({**keys, **features[[feature.name for feature in VIEWS[view]]]}))

    def _write_online(self, view: str, rows: pd.DataFrame) -> None:
        names = [feature.name for feature in VIEWS[view]]
        if len(rows) and rows[names].isna().to_numpy().all():
            # Feast skips a frame in which all features are missing, and earlier rows would stay. An extra row with values
            # avoids this. Its subject key belongs to no patient.
            extra_row = rows[:1].copy()
            extra_row["subject_id"], extra_row[names] = UNUSED_SUBJECT_KEY, np.float32(0)
            rows = pd.concat([rows, extra_row])
        with _quiet():
            self._open().write_to_online_store(view, rows)

    def online(self, patient_ids: Sequence[str], service: str) -> pd.DataFrame:
        """Read the latest features of patients from the online store.

        Feast ignores the time to live here, so the caller must check whether ``index_time`` is stale.

        Args:
            patient_ids: Subject keys.
            service: Name of a feature service.

        Returns:
            One row for each subject key, in the given order: ``subject_id``, ``index_time`` and the features of the service.
            Feast stores ``index_time`` to the second. It is NaT if the patient is unknown or the views have different times.

        Raises:
            StoreError: The home has no features of the service.
        """
        if not patient_ids:
            return pd.DataFrame(columns=_columns(service))
        chunks = [
            self._online_chunk(patient_ids[first : first + _ONLINE_CHUNK], service)
            for first in range(0, len(patient_ids), _ONLINE_CHUNK)
        ]
        return chunks[0] if len(chunks) == 1 else pd.concat(chunks, ignore_index=True)

    def _online_chunk(self, patient_ids: Sequence[str], service: str) -> pd.DataFrame:
        entities = [{"subject_id": str(patient)} for patient in patient_ids]
        with self._read_lock:  # Feast's connection supports one thread at a time
            answer = self._open().get_online_features(self._service(service), entities).proto
        columns = dict(zip(answer.metadata.feature_names.val, answer.results, strict=True))
        seconds = np.array(
            [[stamp.seconds for stamp in columns[members[0]].event_timestamps] for members in service_views(service).values()],
            dtype=np.int64,
        )
        is_same = (seconds == seconds[0]).all(axis=0) & (seconds[0] != 0)
        times = np.where(is_same, seconds[0].astype("datetime64[s]"), np.datetime64("NaT")).astype("datetime64[us]")
        features = np.array(
            [
                [value.float_val if value.HasField("float_val") else np.nan for value in columns[name].values]  # noqa: PD011
                for name in SERVICES[service]
            ],
            dtype=np.float32,
        )
        rows = pd.DataFrame(features.T, copy=False)
        rows.insert(0, "subject_id", list(patient_ids))
        rows.insert(1, "index_time", pd.DatetimeIndex(times).tz_localize("UTC"))
        rows.columns = _columns(service)
        return rows

    def _service(self, name: str) -> Any:
        if name not in self._services:  # without this cache, Feast would parse the whole registry at every read
            feast = self._open()
            built = {view.name for view in feast.list_feature_views()}
            if missing := [view for view in service_views(name) if view not in built]:
                raise StoreError(
                    f"{name}: reads the view {', '.join(missing)}, which this home did not build, as the task of its cohort "
                    "does not read it; ingest a cohort with a task that does, then run: vigil features"
                )
            self._services[name] = feast.get_feature_service(name)
        return self._services[name]

    def _open(self) -> Any:
        if self._feast is None:
            if not self._config.exists():
                raise StoreError(
                    f"{self._config}: no feature store; expected the file that the job writes; create it first: vigil features"
                )
            if self.is_former:
                self.migrate()
                return self._open()
            self._feast = import_feast().FeatureStore(fs_yaml_file=self._config)
        return self._feast


@functools.cache
def _columns(service: str) -> "pd.Index[str]":
    """Return the columns of online rows, always as the same object, so that pandas builds its lookup table only once."""
    return pd.Index(["subject_id", "index_time", *SERVICES[service]])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the progress output of Feast, and its dependencies' deprecation warnings. Callers show their own progress."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _close_duckdb() -> None:
    """Close the DuckDB connection of Feast, which would keep gigabytes of a finished join in memory."""
    import ibis

    ibis.get_backend().disconnect()
    ibis.options.default_backend = None  # the next query opens a new one
