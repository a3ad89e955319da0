"""Time in range and glucose profile, of frames of any kind."""

from collections.abc import Mapping

from vigil.features import glucose
from vigil.frames import Frame, same_kind, to_pandas


def time_in_range(
    frame: Frame,
    *,
    unit: str | None = None,
    time_zone: str | None = None,
    sensor_range: tuple[float, float] | None = None,
    days: float = 14,
) -> Frame:
    """Return time in range and the other consensus figures of glucose monitors: a row a patient.

    :func:`vigil.features.glucose.time_in_range` has the arguments, the columns and the sources.

    Raises:
        VigilError: a column, a unit or the range of the sensors is missing, or no reading can be used.
    """
    return same_kind(
        frame,
        glucose.time_in_range(to_pandas(frame), unit=unit, time_zone=time_zone, sensor_range=sensor_range, days=days),
    )


def glucose_profile(
    frame: Frame,
    *,
    time_zone: str | Mapping[str, str],
    unit: str | None = None,
    sensor_range: tuple[float, float] | None = None,
    days: float = 14,
    bin_minutes: int = 15,
) -> Frame:
    """Return the ambulatory glucose profile: percentiles by time of day, a row for each patient and quarter of an hour.

    :func:`vigil.features.glucose.glucose_profile` has the arguments, the columns and the sources.

    Raises:
        VigilError: as :func:`time_in_range`; or a time zone is unknown, or bins do not divide the day.
    """
    profile = glucose.glucose_profile(
        to_pandas(frame), time_zone=time_zone, unit=unit, sensor_range=sensor_range, days=days, bin_minutes=bin_minutes
    )
    return same_kind(frame, profile)
