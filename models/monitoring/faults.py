"""Faults that Vigil knows by name: what goes wrong with data, and with what a model learned.

:mod:`vigil.pipelines.drift.drill.injection` puts each fault into a replay. :mod:`vigil.models.monitoring.detectors` finds it.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault.

    Attributes:
        name: its name in reports, in the plan and for ``vigil simulate-fault``.
        says: what happens, in words that follow a signal and a location ("heart rate at gateway-1 ...").
        remedy: what staff should do about it.
    """

    name: str
    says: str
    remedy: str


_TABLE: Final = (
    Fault("fahrenheit", "arrives in Fahrenheit", "set the unit at the gateway to Cel, or send the unit with each reading"),
    Fault("millimole", "arrives in mmol/L", "set the unit at the gateway to mg/dL, or send the unit with each reading"),
    Fault("kilopascal", "arrives in kPa", "set the unit at the gateway to mm[Hg], or send the unit with each reading"),
    Fault("swapped_pressures", "is swapped with the diastolic pressure", "correct the mapping of the pressures at the gateway"),
    Fault("stuck", "repeats one value", "check the sensor, and replace it"),
    Fault("rounded", "arrives coarsely rounded", "restore the resolution at the gateway or in the driver of the device"),
    Fault("zeros", "reads 0: the sensor has lost the patient", "check the patient first, then fix the lead or the probe"),
    Fault("clock_skew", "the clock is wrong", "synchronise the clock (NTP), and send again what was observed since"),
    Fault("time_zone", "the clock is in another time zone", "set the clock to UTC, and send again what was observed since"),
    Fault("sampling", "is measured at another rate", "restore the interval, or confirm that the change was intended"),
    Fault("missing", "is missing for part of the patients", "check whether sensors are off or the channel is down"),
    Fault("exchanged", "two patients wear each other's device", "check both wristbands, and swap the devices back"),
    Fault("bias", "is off by a constant", "calibrate the devices behind the gateway, or undo their last update"),
    Fault("noise", "is noisier than before", "check cables, electrodes and the filter settings of the devices"),
    Fault("duplicates", "messages are delivered twice", "find out why acknowledgements do not arrive at the sender"),
    Fault("late", "messages are held back and arrive in bursts", "check the connection and the queue of the sender"),
    Fault("unusable", "goes into quarantine for the most part", "look into the quarantine, and correct the sender"),
    Fault("case_mix", "the patients differ from those the model learned from", "test the model on them before you trust it"),
    Fault("version_mismatch", "risks come from another model or feature version", "let one version serve, then score again"),
    Fault("prevalence", "events are more or less frequent than predicted", "recalibrate on patients with outcomes"),
    Fault("concept", "the same signs no longer mean the same risk", "withdraw the model, and train on recent patients"),
)  # fmt: skip
FAULTS: Final[dict[str, Fault]] = {fault.name: fault for fault in _TABLE}
