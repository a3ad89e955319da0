"""Writes exports, one after the other, patient by patient and reading by reading: memory does not grow with their number."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from vigil.features.errors import VigilError
from vigil.serving.fhir.directory import Directory
from vigil.serving.fhir.exports.content import KINDS
from vigil.serving.fhir.exports.files import ExportFiles
from vigil.serving.fhir.exports.filters import parse_filter
from vigil.serving.fhir.exports.output import Output
from vigil.serving.fhir.exports.parts import Told
from vigil.serving.identity.identities import Identities
from vigil.serving.observability.logs import error_location
from vigil.serving.records.exports import Export, Exports
from vigil.serving.records.fhir_observations import FhirObservations
from vigil.serving.records.journal import Journal
from vigil.serving.records.timestamps import microsecond, present
from vigil.serving.records.ward_state import WardState

if TYPE_CHECKING:
    from vigil.serving.scoring.past_risks import PastRisks

logger = logging.getLogger("vigil.serving")

KEPT: Final = timedelta(hours=24)  # how long the files of a complete export are there
MOST_ATTEMPTS: Final = 3  # to write an export: if the process died each time, it would die again
_MEMBERS: Final = 10  # patients that are read in one transaction of the journal at most
_LOOK_SECONDS: Final = 1.0  # between looks whether to go on

NEARLY_FULL: Final = "the disk of the server is nearly full: free space, then start the export again"
_DIED: Final = "the server ended each time while it wrote the export: look into its log, then start the export again"
_FAULT: Final = "the export could not be written: the log of the server says where; start it again"


class StoppedError(VigilError):
    """The process is to end. The export is begun again by the next one."""


class _NotWantedError(VigilError):
    """The client has cancelled the export."""


class _NearlyFullError(VigilError):
    """The disk is nearly full."""


class ExportWriter:
    """Writes the exports of one home. Only one process does so at a time (:meth:`ExportFiles.lock`)."""

    def __init__(
        self,
        exports: Exports,
        files: ExportFiles,
        journal: Journal,
        directory: Directory,
        identities: Identities,
        observations: FhirObservations,
        ward_state: WardState,
        risks: "Callable[[], PastRisks]",
    ) -> None:
        """Tell of what these hold. ``risks`` is called when risks are to be told: what it needs takes seconds to import."""
        self._exports, self._files, self._journal, self._directory = exports, files, journal, directory
        self._identities, self._observations = identities, observations
        self._ward_state, self._risks = ward_state, risks
        self._looked_at = 0.0

    def write_all(self, is_stopped: Callable[[], bool] = lambda: False) -> int:
        """Write every export that waits, and those that another process left unfinished; return how many were completed.

        Args:
            is_stopped: whether to end.

        Raises:
            StoppedError: it was to end before it was done.
        """
        completed = 0
        with self._files.lock() as is_ours:
            while is_ours and (export := self._exports.begin()) is not None:
                completed += self._write_one(export, is_stopped)
        return completed

    def _write_one(self, export: Export, is_stopped: Callable[[], bool]) -> bool:
        """Write an export; return whether it was completed. Whatever is wrong with it, the next one is written."""
        if export.attempts > MOST_ATTEMPTS:
            return self._give_up(export, _DIED)
        try:
            self._files.begin(export.id)
            as_of = microsecond(self._journal.tick())
            with Output(self._files, export.id, as_of) as output:
                self._write(export, as_of, output, is_stopped)
                files = output.finish()
        except StoppedError:
            self._exports.release(export.id)
            raise
        except _NotWantedError:
            self._files.remove(export.id)
            return False
        except _NearlyFullError:
            return self._give_up(export, NEARLY_FULL)
        except Exception as error:  # noqa: BLE001 - the client is told, and the next export is written
            logger.error("an export failed: %s at %s", type(error).__name__, error_location(error))  # noqa: TRY400 - a traceback says more
            return self._give_up(export, NEARLY_FULL if self._files.is_disk_nearly_full() else _FAULT)
        if not self._exports.complete(export.id, as_of, files, microsecond(present() + KEPT)):
            self._files.remove(export.id)
            return False
        logger.info("an export is complete: %d resources in %d files", output.resources, len(files))
        return True

    def _write(self, export: Export, as_of: int, output: Output, is_stopped: Callable[[], bool]) -> None:
        """Write what an export tells as of a time."""
        for name in export.ignored:
            output.warn(f"{name}: not offered, and ignored")
        since = None if export.since is None else min(export.since, as_of)
        filters = [parse_filter(query) for query in export.filters]
        if "RiskAssessment" in export.types:
            self._risks().standing.champion.look()
        patients = 0
        following: str | None = ""
        while following is not None:
            with self._journal.snapshot() as snapshot:
                journal = snapshot.export(export.wards, since, as_of)
                told = Told(
                    journal,
                    self._directory,
                    self._identities,
                    self._observations,
                    self._ward_state,
                    self._risks,
                    export.wards,
                    since,
                    as_of,
                    filters,
                )
                members, following = journal.members(following, _MEMBERS)
                for member in members:
                    for kind in export.types:
                        for part in KINDS[kind](told, member):
                            output.add(part)
                            self._look(export, output, patients, is_stopped)
                    patients += 1
            self._look(export, output, patients, is_stopped)

    def _look(self, export: Export, output: Output, patients: int, is_stopped: Callable[[], bool]) -> None:
        """Look once a second whether to go on, and note how far the export is.

        Raises:
            StoppedError: the process is to end.
            _NotWantedError: the export was cancelled.
            _NearlyFullError: there is no space for more.
        """
        if time.monotonic() - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        if is_stopped():
            raise StoppedError("the server ends")
        if self._files.is_disk_nearly_full():
            raise _NearlyFullError(NEARLY_FULL)
        if not self._exports.note(export.id, f"{patients:,} patients, {output.resources:,} resources"):
            raise _NotWantedError("cancelled")

    def _give_up(self, export: Export, problem: str) -> bool:
        self._files.remove(export.id)
        self._exports.fail(export.id, problem)
        return False
