"""Vigil's way into Feast: write features, read them as of the past for training and as of now for serving.

Everything lies under one home folder: ``features/<view>/part-*.parquet`` (offline), ``feast/`` (registry and online store)
and the rendered ``feature_store.yaml``.
"""

import contextlib
import io
import shutil
import string
import warnings
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from features.catalogue import JOIN_KEY, SERVICES, VIEWS, service_features
from features.errors import VigilError
from features.observations import TIME

_ONLINE_CHUNK: Final = 200  # patients read from the online store at a time


class StoreError(VigilError):
    """The feature store under this home cannot answer."""


class Store:
    """Feast over one home folder. Feast itself is imported at first use: it takes seconds."""

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self._folder = self.home / "features"
        self._config = self.home / "feature_store.yaml"
        self._feast: Any = None
        self._services: dict[str, Any] = {}

    def clear(self) -> None:
        """Remove the offline features, so that no job reads those of an earlier cohort.

        The online store stays: a server may be reading it, and what is old in it is refused by its age.
        """
        shutil.rmtree(self._folder, ignore_errors=True)
        self._config.unlink(missing_ok=True)
        self._feast, self._services = None, {}

    def write(self, features: pd.DataFrame, part: int) -> None:
        """Write the output of :func:`features.build.build_features` for some subjects as one Parquet file a view.

        A file appears whole or not at all. An index time is both the event and the created timestamp of its row.
        """
        keys = pd.DataFrame({JOIN_KEY: features["subject_id"].astype(object)})
        keys["event_timestamp"] = features["index_time"].astype(TIME)
        keys["created_timestamp"] = keys["event_timestamp"]
        for view, members in VIEWS.items():
            path = self._folder / view / f"part-{part:05}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".unfinished")
            pd.concat([keys, features[[feature.name for feature in members]]], axis=1).to_parquet(unfinished, index=False)
            unfinished.replace(path)

    def apply(self) -> None:
        """Render feature_store.yaml and register entity, views and services."""
        if not any(self._folder.glob("*/*.parquet")):
            raise StoreError(f"{self._folder}: no features there; build them first: vigil features")
        template = resources.files("features.store").joinpath("feature_store.yaml").read_text()
        (self.home / "feast").mkdir(exist_ok=True)
        self._config.write_text(string.Template(template).substitute(home=self.home))
        with _quiet():
            from features.store.definitions import PATIENT, feature_services, feature_views

            views = feature_views(self._folder)
            self._open().apply([PATIENT, *views.values(), *feature_services(views)])

    def training_frame(self, rows: pd.DataFrame, service: str) -> pd.DataFrame:
        """Features as known at each row's time, through Feast's point-in-time join.

        Args:
            rows: ``subject_id, index_time`` and any other columns, which are kept.
            service: a feature service.

        Returns:
            The rows in order of subject and time, with the service's features (float32).
        """
        entities = rows.rename(columns={"subject_id": JOIN_KEY, "index_time": "event_timestamp"})
        with _quiet():
            frame: pd.DataFrame = (
                self._open().get_historical_features(entities, self._service(service), filter_by_created_timestamp=True).to_df()
            )
            _close_duckdb()
        frame = frame.rename(columns={JOIN_KEY: "subject_id", "event_timestamp": "index_time"})
        if len(frame) != len(rows):
            raise StoreError(f"training frame: {len(rows)} rows asked for, {len(frame)} came back")
        frame.sort_values(["subject_id", "index_time"], inplace=True, ignore_index=True)  # noqa: PD002 - a gigabyte
        return frame

    def materialize(self) -> Iterator[str]:
        """Load the latest row of every patient into the online store; yields the name of each view when it is done."""
        feast = self._open()
        times = pd.read_parquet(self._folder / next(iter(VIEWS)), columns=["event_timestamp"])["event_timestamp"]
        first, last = times.min().to_pydatetime(), times.max().to_pydatetime()
        for view in VIEWS:
            with _quiet():
                feast.materialize(first, last, [view])
                _close_duckdb()
            yield view

    def online(self, patient_ids: Sequence[str], service: str) -> pd.DataFrame:
        """The latest stored features of patients.

        Feast ignores the ttl here, so the caller must compare ``index_time`` with its own clock.

        Returns:
            One row a patient, in the order asked for: ``subject_id``, ``index_time`` (NaT where the patient is unknown or
            its views are of different index times) and the service's features.
        """
        parts = [
            self._online_chunk(patient_ids[first : first + _ONLINE_CHUNK], service)
            for first in range(0, len(patient_ids), _ONLINE_CHUNK)
        ]
        return pd.concat(parts, ignore_index=True)

    def _online_chunk(self, patient_ids: Sequence[str], service: str) -> pd.DataFrame:
        answer = (
            self._open()
            .get_online_features(self._service(service), [{JOIN_KEY: str(patient)} for patient in patient_ids])
            .to_dict(include_event_timestamps=True)
        )
        seconds = np.array([answer[f"{VIEWS[view][0].name}__ts"] for view in SERVICES[service]], dtype=np.int64)
        same = (seconds == seconds[0]).all(axis=0) & (seconds[0] != 0)
        times = pd.Series(pd.to_datetime(np.where(same, seconds[0], 0), unit="s", utc=True)).where(same).astype(TIME)
        features = {name: np.array(answer[name], dtype=np.float32) for name in service_features(service)}
        return pd.DataFrame({"subject_id": list(patient_ids), "index_time": times, **features})

    def _service(self, name: str) -> Any:
        if name not in self._services:  # asking Feast again would parse the whole registry again, at every read
            self._services[name] = self._open().get_feature_service(name)
        return self._services[name]

    def _open(self) -> Any:
        if self._feast is None:
            if not self._config.exists():
                raise StoreError(f"{self._config}: no feature store there; make one first: vigil features")
            from feast import FeatureStore

            self._feast = FeatureStore(fs_yaml_file=self._config)
        return self._feast


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
