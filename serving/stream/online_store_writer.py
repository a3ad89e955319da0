"""Keeps Feast's online store up with the patients as they are rescored.

Feast takes some hundreds of patients a second and a processor to do it, so it follows in batches, from a thread of its own:
only a patient's latest row is written, and no more than a part of the time is spent on it. Who asks meanwhile gets a row a
little older, which says so.
"""

import logging
import threading
import time
from typing import Final

import pandas as pd

from features.store.client import Store
from serving.observability.logs import place_of
from serving.observability.metrics import Metrics

logger = logging.getLogger("vigil.rescorer")

_MOST_ROWS: Final = 50  # written at a time
_DUTY: Final = 0.3  # of the time spent on writing


class FeastFollower:
    """Writes the latest rows of patients into the online store, in the background."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._service = ""
        self._rows: dict[str, pd.DataFrame] = {}  # by patient; oldest first
        self._changed = threading.Condition()
        self._stopped = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="feast", daemon=True)

    def start(self) -> None:
        """Begin writing."""
        self._thread.start()

    def follow(self, service: str) -> None:
        """Write the views of this service from now on."""
        with self._changed:
            if service != self._service:
                self._service = service
                self._rows.clear()

    def put(self, rows: pd.DataFrame) -> None:
        """Patients' new rows: ``subject_id, index_time`` and the features of the service's views."""
        with self._changed:
            for place, patient in enumerate(rows["subject_id"]):
                self._rows[patient] = rows.iloc[place : place + 1]
            self._changed.notify()

    def stop(self) -> None:
        """Write what waits, and end."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            service, rows = batch
            began = time.monotonic()
            try:
                self._store.write_online(rows, service)
                self._metrics.feast_written((pd.Timestamp.now("UTC") - rows["index_time"]).dt.total_seconds().max(), len(rows))
            except Exception as error:  # noqa: BLE001 - risks go on without; a message may hold patients' data
                self._metrics.feast_failed()
                if not self._failing:  # said once, until it works again
                    logger.error("feature store: %s at %s; going on without", type(error).__name__, place_of(error))  # noqa: TRY400
                self._failing = True
            else:
                self._failing = False
            spent = time.monotonic() - began
            if not self._stopped:
                time.sleep(spent * (1 - _DUTY) / _DUTY)

    def _next(self) -> tuple[str, pd.DataFrame] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._rows or self._stopped)
            if not self._rows:
                return None
            patients = list(self._rows)[:_MOST_ROWS]
            rows = [self._rows.pop(patient) for patient in patients]
            return self._service, pd.concat(rows, ignore_index=True)
