"""What goes wrong with data, and with what a model learned: the faults that Vigil knows by name.

:mod:`pipelines.drift.drill.injection` puts each into a replay, :mod:`models.monitoring.detectors` finds it again.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault.

    Attributes:
        name: as reports, the plan and ``vigil simulate-fault`` call it.
        says: what happens, in a few words that go on with a signal and a place.
        remedy: what somebody should do about it.
    """

    name: str
    says: str
    remedy: str


_TABLE: Final = (
    Fault("fahrenheit", "arrives in Fahrenheit", "set the unit at the gateway to Cel, or send the unit with each reading"),
    Fault("millimole", "arrives in mmol/L", "set the unit at the gateway to mg/dL, or send the unit with each reading"),
    Fault("kilopascal", "arrives in kPa", "set the unit at the gateway to mm[Hg], or send the unit with each reading"),
    Fault("swapped_pressures", "systolic and diastolic are swapped", "correct the mapping of the pressures at the gateway"),
    Fault("stuck", "says the same without end", "look at the sensor, and exchange it"),
    Fault("rounded", "arrives coarsely rounded", "restore the resolution at the gateway or in the driver of the device"),
    Fault("zeros", "says 0: the sensor has lost the patient", "look at the patient first, then fix the lead or the probe"),
    Fault("clock_skew", "its clock is off", "synchronise its clock (NTP), and send again what was observed since"),
    Fault("time_zone", "its clock is in another time zone", "set it to send UTC, and send again what was observed since"),
    Fault("sampling", "is measured at another rate", "restore the interval, or let whoever changed it say so"),
    Fault("missing", "is missing for part of the patients", "look whether sensors are off or the channel is"),
    Fault("exchanged", "two patients wear each other's device", "look at both wristbands, and exchange the devices back"),
    Fault("bias", "is off by a constant", "calibrate the devices behind the gateway, or undo their last update"),
    Fault("noise", "is noisier than it was", "look at cables, electrodes and the filter settings of the devices"),
    Fault("duplicates", "messages are delivered twice", "look why acknowledgements do not reach it"),
    Fault("late", "messages are held back and come in bursts", "look at its connection and its queue"),
    Fault("unusable", "goes into quarantine for the most part", "look into the quarantine, and mend what sends it"),
    Fault("case_mix", "other patients than the model learned from", "judge the model on them before it is trusted with them"),
    Fault("version_mismatch", "risks come from another model or feature version", "let one version serve, then score anew"),
    Fault("prevalence", "events have another frequency than predicted", "recalibrate on patients with outcomes"),
    Fault("concept", "the same signs no longer mean the same risk", "withdraw the alarms, and train on recent patients"),
)  # fmt: skip
FAULTS: Final[dict[str, Fault]] = {fault.name: fault for fault in _TABLE}
