"""Scores and features of readings from Python: frames in and frames out, without a home."""

from typing import Any

import narwhals as nw
import numpy as np

from vigil.features.errors import VigilError
from vigil.features.scores import NEWS2_BANDS, compute_score
from vigil.frames import Frame, same_kind, to_pandas


def news2(frame: Frame) -> Frame:
    """Return NEWS2 of rows of vital signs: ``news2``, ``news2_highest`` and the points of each component.

    A missing component counts 0 in ``news2`` and its highest points in ``news2_highest``. NEWS2 is for people of 16 and over
    who are not pregnant. Source: Royal College of Physicians. National Early Warning Score (NEWS) 2. London: RCP, 2017.

    Args:
        frame: columns named after signals, in their own units: ``respiratory_rate, spo2, on_oxygen`` (1: yes), ``systolic_bp,
            heart_rate, consciousness`` (0: alert), ``body_temperature`` (Cel). Those that are not there are missing.

    Raises:
        VigilError: none of them is there.

    >>> frame = pd.DataFrame({"respiratory_rate": [25], "spo2": [91], "heart_rate": [80]})
    >>> news2(frame)[["news2", "news2_highest"]].values.tolist()
    [[6.0, 17.0]]
    """
    rows = nw.from_native(frame, eager_only=True)
    if not set(NEWS2_BANDS) & set(rows.columns):
        raise VigilError(
            f"frame: no component of NEWS2; expected some of {', '.join(NEWS2_BANDS)}; got {', '.join(rows.columns)}"
        )
    values = {
        signal: rows[signal].cast(nw.Float64).to_numpy().astype(np.float64)
        if signal in rows.columns
        else np.full(len(rows), np.nan)
        for signal in NEWS2_BANDS
    }
    scores = compute_score("news2", NEWS2_BANDS, values)
    return rows.with_columns(nw.new_series(name, own, backend=rows.implementation) for name, own in scores.items()).to_native()


def features(readings: Frame, index: Any = None, service: str = "vital_signs_v3") -> Frame:
    """Return features of subjects, by the same definition as training and serving have them.

    Args:
        readings: a row a reading: ``subject_id, observed_at, signal, value``, and others (:mod:`vigil.features.observations`).
        index: ``subject_id, index_time``, and ``age, sex, pregnant, unit_admitted_at, hospital_admitted_at`` where known.
            Default: the last reading of each subject, with the facts that readings state.
        service: name of a feature service.

    Returns:
        ``subject_id, index_time`` and the features of the service.

    Raises:
        VigilError: there is no such service, a column is missing, or no reading can be used.
    """
    from vigil.features.batch import build_features
    from vigil.features.catalogue import SERVICES, service_views
    from vigil.features.last_readings import FACTS, index_of_last
    from vigil.features.observations import check

    if service not in SERVICES:
        raise VigilError(f"service={service!r}: no such feature service; expected one of {', '.join(SERVICES)}")
    rows = to_pandas(readings)
    accepted = check(rows).accepted
    times = index_of_last(rows, accepted, "readings") if index is None else to_pandas(index)
    times = times.assign(**{name: np.nan for name in FACTS if name not in times})
    built = build_features(accepted, times, service_views(service))
    return same_kind(readings, built[["subject_id", "index_time", *SERVICES[service]]])
