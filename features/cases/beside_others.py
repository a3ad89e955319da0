"""Cases of readings beside others: at one time, repeated, corrected, retracted, or of an unclear patient."""

from collections.abc import Mapping
from typing import Final

from vigil.features.cases.case import Case


def _versions(*rows: tuple[str, str, float | None, Mapping[str, object]]) -> tuple[dict[str, object], ...]:
    """Return versions of message 7: minute of recording, status, heart rate, and more columns."""
    return tuple(
        {
            "signal": "heart_rate",
            "value": value,
            "message_id": "7",
            "status": status,
            "recorded_at": f"2026-03-01T{at}Z",
            **more,
        }
        for at, status, value, more in rows
    )


_SPO2: Final = {"signal": "spo2", "unit": "%"}
_FIO2: Final = {"signal": "fio2", "unit": "%"}
_HEART_RATE: Final = {"signal": "heart_rate", "value": 80}
_LATER: Final = {"recorded_at": "2026-03-01T08:01:00Z"}


BESIDE_OTHERS: Final[Mapping[str, tuple[Case, ...]]] = {
    "Several values at one time": (
        Case(
            ({**_SPO2, "value": 98}, {**_SPO2, "value": 84}),
            ("spo2 98 %", "spo2 84 %"),
            "Recorded together: the worse counts as the latest.",
        ),
        Case(
            ({**_SPO2, "value": 84}, {**_SPO2, "value": 98}),
            ("spo2 98 %", "spo2 84 %"),
            "The order of rows decides nothing.",
        ),
        Case(
            ({**_SPO2, "value": 84}, {**_SPO2, "value": 98, **_LATER}),
            ("spo2 84 %", "spo2 98 %"),
            "The one recorded later counts as the latest.",
        ),
        Case(
            ({**_HEART_RATE, "value": 38}, {**_HEART_RATE, "value": 140}),
            ("heart_rate 38 /min", "heart_rate 140 /min"),
            "Equal points of NEWS2: the one farther from the usual counts as the latest.",
        ),
        Case(
            ({**_SPO2, "value": 97, "source": "gateway-1"}, {**_SPO2, "value": 97, "source": "gateway-2"}),
            ("spo2 97 %", "duplicate_reading"),
            "The same content of two gateways counts once.",
        ),
        Case(
            ({**_HEART_RATE, "message_id": "7"}, {**_HEART_RATE, "value": 82, "message_id": "7"}),
            ("heart_rate 80 /min", "duplicate_message"),
            "A message says one thing; another value has to be a correction.",
        ),
        Case(
            (
                {**_HEART_RATE, "message_id": "7", "source": "gateway-1"},
                {**_HEART_RATE, "value": 82, "message_id": "7", "source": "gateway-2"},
            ),
            ("heart_rate 80 /min", "heart_rate 82 /min"),
            "Each gateway numbers its own messages.",
        ),
        Case(
            (
                {"signal": "systolic_bp", "value": 120, "message_id": "7"},
                {"signal": "diastolic_bp", "value": 80, "message_id": "7"},
                {"signal": "mean_bp", "value": 930, "message_id": "7"},
            ),
            ("diastolic_bp 80 mm[Hg]", "systolic_bp 120 mm[Hg]", "implausible"),
            "One message may hold several signals; an unusable one does not affect the others.",
        ),
    ),
    "Oxygen follows from the inspired fraction": (
        Case(({**_FIO2, "value": 60},), ("fio2 60 %", "on_oxygen 1"), "Any supplemental oxygen scores in NEWS2."),
        Case(({**_FIO2, "value": 0.4, "unit": "1"},), ("fio2 40 %", "on_oxygen 1"), "A fraction that is sent as one."),
        Case(({**_FIO2, "value": 21},), ("fio2 21 %", "on_oxygen 0"), "Room air."),
        Case(
            ({**_FIO2, "value": 60}, {"signal": "on_oxygen", "value": 1}),
            ("fio2 60 %", "on_oxygen 1"),
            "Charted as well: it counts once.",
        ),
        Case(
            ({**_FIO2, "value": 60}, {"signal": "on_oxygen", "value": 0}),
            ("fio2 60 %", "on_oxygen 0", "on_oxygen 1"),
            "They contradict each other: the worse counts as the latest.",
        ),
        Case(({**_FIO2, "value": 3},), ("implausible",), "An artefact says nothing about oxygen."),
    ),
    "A reading is corrected or retracted": (
        Case(
            _versions(("08:00", "final", 80, {}), ("09:00", "corrected", 88, {})),
            ("heart_rate 80 /min until 2026-03-01T09:00:00Z", "heart_rate 88 /min"),
            "A correction counts from its recording on, the original until then.",
        ),
        Case(
            _versions(("08:00", "final", 80, {}), ("09:00", "retracted", None, {})),
            ("heart_rate 80 /min until 2026-03-01T09:00:00Z", "retracts"),
            "Entered in error: nothing counts in its place.",
        ),
        Case(
            _versions(
                ("08:00", "final", 80, {}), ("09:00", "retracted", None, {}), ("10:00", "final", 80, {"message_id": "8"})
            ),
            ("heart_rate 80 /min until 2026-03-01T09:00:00Z", "heart_rate 80 /min", "retracts"),
            "What was retracted counts again in another message.",
        ),
        Case(
            _versions(("08:00", "corrected", 88, {"version": 3}), ("09:00", "corrected", 84, {"version": 2})),
            ("heart_rate 88 /min", "superseded"),
            "An older version that arrives after a newer one changes nothing.",
        ),
        Case(
            _versions(("08:00", "final", 80, {}), ("09:00", "corrected", 88, {}), ("10:00", "corrected", 88, {})),
            ("heart_rate 80 /min until 2026-03-01T09:00:00Z", "heart_rate 88 /min", "duplicate_message"),
            "A repeated correction counts once.",
        ),
        Case(
            _versions(("08:00", "final", 80, {}), ("09:00", "corrected", 800, {})),
            ("heart_rate 80 /min", "implausible"),
            "An unusable correction changes nothing.",
        ),
        Case(
            _versions(("10:00", "final", 80, {}), ("11:00", "corrected", 80, {"observed_at": "2026-03-01T07:00:00Z"})),
            ("heart_rate 80 /min at 2026-03-01T07:00:00Z", "heart_rate 80 /min until 2026-03-01T11:00:00Z"),
            "A correction may change the time.",
        ),
        Case(
            _versions(("08:00", "amended", 80, {})),
            ("unknown_status",),
            "The status is final, corrected or retracted; others are translated by who sends them.",
        ),
        Case(_versions(("08:00", "final", 80, {"version": 0})), ("unknown_version",), "Versions are numbered from 1 on."),
    ),
    "A door refuses what columns cannot tell, such as a FHIR resource ([fhir.md](fhir.md))": tuple(
        Case(({**_HEART_RATE, "refused": reason},), (reason,), because)
        for reason, because in (
            ("malformed", "A value, and a reason why there is none."),
            ("unknown_modifier", "An extension that changes the meaning."),
            ("imprecise_time", "A date; it must not become midnight."),
            ("interval", "A mean over 24 h is no reading."),
        )
    ),
    "The patient is not clear": (
        Case(({**_HEART_RATE, "subject_id": None},), ("missing_subject",), "No patient."),
        Case(({**_HEART_RATE, "subject_id": ""},), ("missing_subject",), "No patient."),
        Case(({**_HEART_RATE, "subject_id": "mrn-1 "},), ("unclear_subject",), "It looks like mrn-1, and is another text."),
        Case(({**_HEART_RATE, "subject_id": "mrn\u200b-1"},), ("unclear_subject",), "It has an invisible character."),
    ),
}
