"""The three tables of a batch of simulated stays."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa

from vigil.features.revisions import STATUSES
from vigil.pipelines.sources import Batch
from vigil.pipelines.sources.simulated.devices import DEVICES, MESSAGES_PER_SIGNAL, SIGNAL_NAMES, IntArray, Readings
from vigil.pipelines.sources.simulated.stays import UNITS, Stay

MESSAGES_PER_STAY: Final = len(SIGNAL_NAMES) * MESSAGES_PER_SIGNAL


def to_batch(stays: Sequence[Stay]) -> Batch:
    """Convert stays to the tables of the source contract. The ``unit`` of a stay is its first, known from the start."""
    subjects = pd.array([stay.subject for stay in stays], dtype="string[pyarrow]")
    return Batch(
        observations=_observations(stays, subjects),
        stays=pd.DataFrame(
            {
                "subject_id": subjects,
                "start": to_timestamps([stay.start for stay in stays]),
                "end": to_timestamps([stay.end for stay in stays]),
                "unit_admitted_at": to_timestamps([stay.unit_admitted for stay in stays]),
                "hospital_admitted_at": to_timestamps([stay.hospital_admitted for stay in stays]),
                "age": [stay.patient.age for stay in stays],
                "sex": [stay.patient.sex for stay in stays],
                "site": "simulated",
                "unit": [UNITS[stay.unit] for stay in stays],
            }
        ).astype({"site": "string[pyarrow]", "unit": "string[pyarrow]"}),
        outcomes=pd.DataFrame(
            {
                "subject_id": subjects[[stay.onset is not None for stay in stays]],
                "onset": to_timestamps([stay.onset for stay in stays if stay.onset is not None]),
                "kind": pd.array([stay.kind for stay in stays if stay.kind is not None], dtype="string[pyarrow]"),
                "onset_known": True,
            }
        ),
    )


def _observations(stays: Sequence[Stay], subjects: pd.api.extensions.ExtensionArray) -> pd.DataFrame:
    """Return all observations of a batch in the order in which the gateways deliver them."""
    readings = Readings.concatenate([stay.readings for stay in stays])
    row = np.repeat(np.arange(len(stays)), [stay.readings.message.size for stay in stays])
    device_ids = [f"{device.kind}-{_device_suffix(stay)}" for stay in stays for device in DEVICES]
    gateways = [f"gateway-{unit + 1}" for unit in range(len(UNITS))]
    serial = np.array([stay.serial for stay in stays])
    message = pa.array(serial[row] * MESSAGES_PER_STAY + readings.message).cast(pa.large_string())
    # Devices move with the patient. The gateway of the next unit delivers their readings from then on.
    first_unit, last_unit = (np.array(units) for units in zip(*(_units(stay) for stay in stays), strict=True))
    moved_at = np.array([stay.end + 1 if stay.moved is None else stay.moved[0] for stay in stays])
    gateway = np.where(readings.observed < moved_at[row], first_unit[row], last_unit[row])
    frame = pd.DataFrame(
        {
            "subject_id": subjects.take(row),
            "observed_at": to_timestamps(readings.observed),
            "signal": pd.Categorical.from_codes(readings.signal, pd.Index(SIGNAL_NAMES)),
            "value": readings.value,
            "recorded_at": to_timestamps(readings.recorded),
            "device_id": pd.Categorical.from_codes(row * len(DEVICES) + readings.device, pd.Index(device_ids)),
            "source": pd.Categorical.from_codes(gateway, pd.Index(gateways)),
            "message_id": pd.arrays.ArrowStringArray(pa.chunked_array([message])),
            "status": pd.Categorical.from_codes(readings.status, pd.Index(STATUSES)),
            "version": readings.version,
        }
    )
    return frame.iloc[np.argsort(readings.recorded, kind="stable")].reset_index(drop=True)


def _device_suffix(stay: Stay) -> str:
    """Return the end of a stay's device identifiers. A device belongs to one stay."""
    return stay.subject.removeprefix("sim-").replace("~", "-")


def _units(stay: Stay) -> tuple[int, int]:
    """Return the indices of the stay's first and last unit."""
    return stay.unit, stay.unit if stay.moved is None else stay.moved[1]


def to_timestamps(microseconds: Sequence[int] | IntArray) -> pd.DatetimeIndex:
    """Convert microseconds since 1970 to timestamps in UTC."""
    return pd.DatetimeIndex(np.asarray(microseconds, dtype="datetime64[us]"), tz="UTC")
