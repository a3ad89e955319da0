"""The three tables of a batch of simulated stays."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa

from pipelines.sources import Batch
from pipelines.sources.simulated.devices import DEVICES, MESSAGES_PER_SIGNAL, SIGNAL_NAMES, IntArray, Readings
from pipelines.sources.simulated.stays import UNITS, Stay

MESSAGES_PER_STAY: Final = len(SIGNAL_NAMES) * MESSAGES_PER_SIGNAL


def batch_of(stays: Sequence[Stay]) -> Batch:
    """The tables of the source contract. A stay's ``unit`` is the first, which is known from its first reading on."""
    subjects = pd.array([stay.subject for stay in stays], dtype="string[pyarrow]")
    return Batch(
        observations=_observations(stays, subjects),
        stays=pd.DataFrame(
            {
                "subject_id": subjects,
                "start": instants([stay.start for stay in stays]),
                "end": instants([stay.end for stay in stays]),
                "unit_admitted_at": instants([stay.unit_admitted for stay in stays]),
                "hospital_admitted_at": instants([stay.hospital_admitted for stay in stays]),
                "age": [stay.patient.age for stay in stays],
                "sex": [stay.patient.sex for stay in stays],
                "site": "simulated",
                "unit": [UNITS[stay.unit] for stay in stays],
            }
        ).astype({"site": "string[pyarrow]", "unit": "string[pyarrow]"}),
        outcomes=pd.DataFrame(
            {
                "subject_id": subjects[[stay.onset is not None for stay in stays]],
                "onset": instants([stay.onset for stay in stays if stay.onset is not None]),
                "kind": pd.array([stay.kind for stay in stays if stay.kind is not None], dtype="string[pyarrow]"),
                "onset_known": True,
            }
        ),
    )


def _observations(stays: Sequence[Stay], subjects: pd.api.extensions.ExtensionArray) -> pd.DataFrame:
    """All readings of a batch in the order in which the gateways deliver them."""
    readings = Readings.concatenate([stay.readings for stay in stays])
    row = np.repeat(np.arange(len(stays)), [stay.readings.message.size for stay in stays])
    device_ids = [f"{device.kind}-{_tag(stay)}" for stay in stays for device in DEVICES]
    gateways = [f"gateway-{unit + 1}" for unit in range(len(UNITS))]
    serial = np.array([stay.serial for stay in stays])
    message = pa.array(serial[row] * MESSAGES_PER_STAY + readings.message).cast(pa.large_string())
    # Devices move with the patient, and what they measure in the next unit its gateway delivers.
    unit, following = (np.array(units) for units in zip(*(_units(stay) for stay in stays), strict=True))
    left = np.array([stay.end + 1 if stay.moved is None else stay.moved[0] for stay in stays])
    gateway = np.where(readings.observed < left[row], unit[row], following[row])
    frame = pd.DataFrame(
        {
            "subject_id": subjects.take(row),
            "observed_at": instants(readings.observed),
            "signal": pd.Categorical.from_codes(readings.signal, pd.Index(SIGNAL_NAMES)),
            "value": readings.value,
            "recorded_at": instants(readings.recorded),
            "device_id": pd.Categorical.from_codes(row * len(DEVICES) + readings.device, pd.Index(device_ids)),
            "source": pd.Categorical.from_codes(gateway, pd.Index(gateways)),
            "message_id": pd.arrays.ArrowStringArray(pa.chunked_array([message])),
        }
    )
    return frame.iloc[np.argsort(readings.recorded, kind="stable")].reset_index(drop=True)


def _tag(stay: Stay) -> str:
    """The end of a stay's device identifiers: devices are handed out for a stay."""
    return stay.subject.removeprefix("sim-").replace("~", "-")


def _units(stay: Stay) -> tuple[int, int]:
    """The stay's first and last unit."""
    return stay.unit, stay.unit if stay.moved is None else stay.moved[1]


def instants(microseconds: Sequence[int] | IntArray) -> pd.DatetimeIndex:
    """Microseconds since 1970 as instants in UTC."""
    return pd.DatetimeIndex(np.asarray(microseconds, dtype="datetime64[us]"), tz="UTC")
