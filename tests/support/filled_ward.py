"""The home of a ward with many readings, written without a server."""

from pathlib import Path

import numpy as np
import pandas as pd

from vigil.features.pseudonyms import open_pseudonyms
from vigil.serving.identity.identities import Identities
from vigil.serving.records import connection_tables
from vigil.serving.records.database import open_database
from vigil.serving.records.fhir_observations import FhirObservations, SentResource
from vigil.serving.records.journal import Journal
from vigil.serving.records.registration import Registration
from vigil.serving.records.timestamps import microsecond, present

SIGNALS = {"heart_rate": 80.0, "respiratory_rate": 16.0, "spo2": 97.0, "systolic_bp": 120.0}
_GROUP = 10_000  # readings


def fill_ward(home: Path, patients: int, minutes: int, *, by_clients: bool) -> int:
    """Fill a home with four signals of each patient a minute, and return how many readings it has.

    ``by_clients``: as if each had been sent as an Observation.
    """
    pseudonyms, journal, identities = open_pseudonyms(home), Journal(home), Identities(home)
    sent = FhirObservations(open_database(home, connection_tables.SCHEMA))
    names = {pseudonyms.subject_key(f"MRN-{number}"): f"MRN-{number}" for number in range(patients)}
    identities.store(names)
    journal.register([Registration(subject, "B4") for subject in names])
    end = present().floor("min")
    times = [end - pd.Timedelta(minutes=minute) for minute in range(1, minutes + 1)]
    random = np.random.default_rng(1)
    for subject in names:
        rows, resources = [], []
        for signal, usual in SIGNALS.items():
            for minute, (time, value) in enumerate(zip(times, random.normal(usual, 2.0, minutes).round(), strict=True)):
                identity = f"{subject}-{signal}-{minute}"
                message = f"Observation/{identity}"
                rows.append(
                    {"subject_id": subject, "signal": signal, "value": min(value, 100.0) if signal == "spo2" else value,
                     "unit": None, "observed_at": time, "device_id": "monitor-1", "source": "gateway", "message_id": message}
                )  # fmt: skip
                at = microsecond(time)
                resources.append(SentResource(identity, subject, 1, at, deleted=False, readings=[(message, signal, at)]))
        for first in range(0, len(rows), _GROUP):
            journal.append(lambda first=first, rows=rows: rows[first : first + _GROUP])
        if by_clients:
            sent.add(resources)
    return sum(journal.count_accepted().values())
