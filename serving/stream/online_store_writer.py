"""Writes the latest features of rescored subjects into Feast's online store, in the background.

Feast takes some hundreds of subjects a second and a processor to do it. So only a subject's latest row is written, in batches,
from a
thread of its own that spends no more than a part of the time on it. Until then a caller gets a row that is a little older, and
the answer says how old.
"""

import logging
import threading
import time
from typing import Final

import pandas as pd

from vigil.features.store.client import Store
from vigil.serving.observability.logs import error_location
from vigil.serving.observability.metrics import Metrics

logger = logging.getLogger("vigil.rescorer")

_BATCH_ROWS: Final = 50
_DUTY: Final = 0.1  # share of the time spent on writing: who asks for a monitored patient reads the risk that stands


class OnlineStoreWriter:
    """A thread that writes rows into one online store."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._service = ""
        self._rows: dict[str, tuple[pd.DataFrame, int]] = {}  # by subject, a frame and the row in it; oldest first
        self._changed = threading.Condition()
        self._stopped = False
        self._is_failing = False
        self._thread = threading.Thread(target=self._run, name="online store", daemon=True)

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    def follow(self, service: str) -> None:
        """Write the views of a feature service from now on."""
        with self._changed:
            if service != self._service:
                self._service = service
                self._rows.clear()

    def put(self, rows: pd.DataFrame) -> None:
        """Hand over new rows: ``subject_id, index_time`` and the features of the service's views."""
        with self._changed:
            for row, subject in enumerate(rows["subject_id"]):
                self._rows[subject] = rows, row
            self._changed.notify()

    def stop(self) -> None:
        """Write what is waiting, and end."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while batch := self._next_batch():
            service, rows = batch
            began = time.monotonic()
            try:
                self._store.write_online(rows, service)
                age = (pd.Timestamp.now("UTC") - rows["index_time"]).dt.total_seconds().max()
                self._metrics.observe_online_store(age, len(rows))
            except Exception as error:  # noqa: BLE001 - risks go on without it; a message may hold patient data
                self._metrics.count_online_store_failure()
                if not self._is_failing:  # logged when it begins to fail, not at every batch
                    logger.error("feature store: %s at %s; going on without it", type(error).__name__, error_location(error))  # noqa: TRY400
                self._is_failing = True
            else:
                self._is_failing = False
            spent = time.monotonic() - began
            if not self._stopped:
                time.sleep(spent * (1 - _DUTY) / _DUTY)

    def _next_batch(self) -> tuple[str, pd.DataFrame] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._rows or self._stopped)
            if not self._rows:
                return None
            subjects = list(self._rows)[:_BATCH_ROWS]
            rows = [frame.iloc[row : row + 1] for frame, row in map(self._rows.pop, subjects)]
            return self._service, pd.concat(rows, ignore_index=True)
