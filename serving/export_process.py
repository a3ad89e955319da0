"""The process that writes exports: ``python -m vigil.serving.export_process``, started by one that answers requests.

It has a low priority, and ends when nothing waits, when it is told to (SIGTERM), or when the process that started it has ended.
"""

import logging
import os
import signal
import sys
import threading
from functools import cache, partial
from typing import TYPE_CHECKING, Final

from vigil.features.errors import VigilError
from vigil.features.pseudonyms import open_pseudonyms
from vigil.serving.fhir.directory import Directory
from vigil.serving.fhir.exports.files import ExportFiles
from vigil.serving.fhir.exports.writer import ExportWriter, StoppedError
from vigil.serving.fhir.outcomes import BASE
from vigil.serving.fhir.settings import FhirSettingsFile
from vigil.serving.identity.identities import Identities
from vigil.serving.observability.logs import configure_logging
from vigil.serving.records import connection_tables
from vigil.serving.records.database import open_database
from vigil.serving.records.exports import Exports
from vigil.serving.records.fhir_names import FhirNames
from vigil.serving.records.fhir_observations import FhirObservations
from vigil.serving.records.journal import Journal
from vigil.serving.records.ward_state import WardState
from vigil.serving.settings import Settings

if TYPE_CHECKING:
    from vigil.serving.scoring.past_risks import PastRisks

logger = logging.getLogger("vigil.serving")

_NICE: Final = 10  # of 19: others come first


class _NoModel:
    """Lines of the log name no model: most exports need none."""

    model = None


def open_export_writer(settings: Settings) -> ExportWriter:
    """Return what writes exports.

    Raises:
        VigilError: a file of the home cannot be used.
    """
    home = settings.home
    journal, ward_state = Journal(home), WardState(home)
    connections = open_database(home, connection_tables.SCHEMA)
    identities, pseudonyms = Identities(home), open_pseudonyms(home)
    directory = Directory(pseudonyms, identities, FhirNames(connections), FhirSettingsFile(home), f"{settings.url}{BASE}")
    return ExportWriter(
        Exports(connections),
        ExportFiles(home),
        journal,
        directory,
        identities,
        FhirObservations(connections),
        ward_state,
        cache(partial(_open_risks, settings, journal, ward_state)),
    )


def _open_risks(settings: Settings, journal: Journal, ward_state: WardState) -> "PastRisks":
    """Return the past risks of a home; no model is loaded yet."""
    from vigil.models.own_tasks import find_task
    from vigil.serving.records.clock import open_clock
    from vigil.serving.records.prediction_log import PredictionLog
    from vigil.serving.scoring.champion import Champion
    from vigil.serving.scoring.model_versions import ModelVersions
    from vigil.serving.scoring.past_risks import PastRisks
    from vigil.serving.scoring.standing import StandingRisks

    home, task = settings.home, find_task(settings.task, settings.home)
    champion = Champion(home, settings.task)
    standing = StandingRisks(champion, task, journal, ward_state, open_clock(home))
    return PastRisks(task, PredictionLog(home), journal, standing, ModelVersions(home, champion))


def main() -> int:
    """Write every export that waits; return the exit status."""
    parent = os.getppid()
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server is told, and tells this process
    os.nice(_NICE)
    settings = Settings()
    configure_logging(_NoModel(), settings.log)
    try:
        open_export_writer(settings).write_all(lambda: stopped.is_set() or os.getppid() != parent)
    except StoppedError:
        return 0
    except VigilError as error:
        logger.error("exports cannot be written: %s", error)  # noqa: TRY400 - it says what to do
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
