"""Has exports written by a process with low priority, so that risks are answered as fast as without an export."""

import logging
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Final

from vigil.serving.fhir.exports.files import ExportFiles
from vigil.serving.fhir.exports.service import remove_expired
from vigil.serving.records.database import DatabaseError
from vigil.serving.records.exports import Exports

logger = logging.getLogger("vigil.serving")

MODULE: Final = "vigil.serving.export_process"
_LOOK_SECONDS: Final = 2.0  # between looks for exports that another process accepted, or left unfinished
_CLEAN_SECONDS: Final = 600.0
_END_SECONDS: Final = 5.0  # until a process that was asked to end is ended


class ExportFollower:
    """A thread of each process that answers requests. Of all of them one has exports written at a time."""

    def __init__(self, exports: Exports, files: ExportFiles) -> None:
        self._exports, self._files = exports, files
        self._woken, self._stopped = threading.Event(), threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="exports", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def wake(self) -> None:
        """Look now."""
        self._woken.set()

    def stop(self) -> None:
        """End, with the process that writes. What it has not finished is begun again at the next start."""
        self._stopped.set()
        self._woken.set()
        process = self._process
        if process is not None:
            process.terminate()
        if self._thread.is_alive():
            self._thread.join(_END_SECONDS)
        if process is not None and process.poll() is None:
            process.kill()

    def _run(self) -> None:
        cleaned: float | None = None
        while not self._stopped.is_set():
            with suppress(DatabaseError, OSError):  # tried again
                if cleaned is None or time.monotonic() - cleaned > _CLEAN_SECONDS:
                    remove_expired(self._exports, self._files)
                    cleaned = time.monotonic()
                if self._exports.is_any_under_way() and self._is_free():
                    self._write()
            self._woken.wait(_LOOK_SECONDS)
            self._woken.clear()

    def _is_free(self) -> bool:
        with self._files.lock() as is_free:
            return is_free

    def _write(self) -> None:
        """Let a process write what waits, and wait for it."""
        self._process = subprocess.Popen([sys.executable, "-m", MODULE], stdin=subprocess.DEVNULL)  # noqa: S603 - our own module
        status = self._process.wait()
        if status and not self._stopped.is_set():
            logger.error("a process that wrote exports ended with status %d; what it left is begun again", status)
            self._stopped.wait(_LOOK_SECONDS)
