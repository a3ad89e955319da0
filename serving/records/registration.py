"""Who a subject is and where: what a sender registers, and what the journal recorded."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Registration:
    """Who a subject is and where, from the moment it is recorded; None: unknown.

    Attributes:
        subject_id: the subject key.
        ward: where the patient lies.
        age: years.
        sex: 0 female, 1 male.
        unit_admitted_at, hospital_admitted_at: microseconds.
        discharged: whether monitoring stops.
        pregnant: NEWS2 is not made for pregnancy.
    """

    subject_id: str
    ward: str
    age: float | None = None
    sex: float | None = None
    unit_admitted_at: int | None = None
    hospital_admitted_at: int | None = None
    discharged: bool = False
    pregnant: bool | None = None


@dataclass(frozen=True, slots=True)
class RecordedRegistration(Registration):
    """A registration in the journal. ``recorded_at``: when it was recorded, microseconds."""

    recorded_at: int = 0
