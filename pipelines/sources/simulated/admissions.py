"""How simulated patients arrive and are monitored: well or already ill, by which devices, from and to which units."""

import bisect
import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import numpy as np

from vigil.pipelines.sources.simulated.deterioration import (
    DETERIORATIONS,
    Course,
    Deterioration,
    choose,
    deteriorate,
    draw_prodrome,
)
from vigil.pipelines.sources.simulated.physiology import Patient

LONGEST_HOURS: Final = 240.0  # of a stay


@dataclass(frozen=True, slots=True)
class Monitoring:
    """A way of monitoring a patient.

    Attributes:
        name: of the way.
        share: of all stays.
        worn_after: shortest and longest time from admission until the devices are put on, in hours. None means never. Until
            then nurses take a full set of vital signs at each round.
        every_hours: possible hours between rounds. One of them applies to a whole stay.
        sets: the largest number of rounds that are charted. None means all.
        longest_hours: of a stay.
    """

    name: str
    share: float
    worn_after: tuple[float, float] | None = None
    every_hours: tuple[int, ...] = (4,)
    sets: int | None = None
    longest_hours: float = LONGEST_HOURS


# The shares are ours: two thirds are monitored as the ward is meant to work, and each exception is common enough to be learned.
# NEWS2 asks for observations every 12 hours at a score of 0 and every 4 to 6 hours at 1 to 4 (RCP 2017). A patient's interval
# is drawn independently of the patient's state, so the frequency of vital signs does not predict an event. Real nurses measure
# ill patients more often.
MONITORING: Final = (
    Monitoring("continuous", 0.67, worn_after=(0, 0)),
    Monitoring("devices put on late", 0.10, worn_after=(2, 12)),  # patients wait for a bed, for a device or for staff to fit it
    Monitoring("spot checks", 0.15, every_hours=(4, 6, 8, 12)),  # wards have fewer wearables than patients
    # Ours: only the set at admission, for patients who stay a day at most, since a set is no evidence about a later day.
    Monitoring("one set", 0.08, sets=1, longest_hours=24.0),
)

# NEWS was 5 or more at the first set in 8 % of attendances at emergency departments, 18 % of ambulance journeys and 30 % of
# referrals by general practitioners (Scott LJ, Redmond NM, Garrett J, et al. Emerg Med J 2019;36:287-292).
ILL_ON_ARRIVAL_SHARE: Final = 0.15
PASSED_ON_ARRIVAL: Final = (0.4, 0.9)  # part of the prodrome that has passed on arrival; ours: hours remain for treatment
STRENGTH_ON_ARRIVAL: Final = (
    0.7,
    2.2,
)  # ours: up to half as strong again as on the ward, since these patients have had no care
# Probability of the event by severity, which is strength times the part of the prodrome that has passed. Ours: treatment helps
# most moderately ill patients and few severely ill ones, so that the level of vital signs carries risk even without a change.
SEVERITY, ONSET_PROBABILITY = (0.4, 1.6), (0.35, 0.95)
SOONEST_ONSET_HOURS: Final = 1.5  # after arrival; ours: an earlier event belongs to the emergency department, not to the ward
TREATED_WITHIN: Final = (0.2, 0.8)  # start of treatment, as part of the time from arrival to the onset; ours

FROM_ANOTHER_UNIT_SHARE: Final = 0.06  # ours; observations of the other unit are lost, since gateways store only their own
DAYS_BEFORE: Final = (1.0, 6.0)  # in hospital before the transfer to this unit; ours
HOURS_UNMONITORED: Final = (0.0, 24.0)  # in this unit before monitoring begins; ours
MOVES_SHARE: Final = 0.06  # ours; to another unit with another gateway, in the middle of the stay
MOVES_AFTER: Final = (0.2, 0.8)  # part of the stay


@dataclass(frozen=True, slots=True)
class Illness:
    """A deterioration that began before the patient arrived.

    Attributes:
        event: the deterioration.
        lead: minutes from the first change to the onset.
        onset: minutes from arrival to the onset.
        strength: factor on all changes.
        treated_from: minute from which treatment helps and averts the onset. None means that the onset comes.
    """

    event: Deterioration
    lead: float
    onset: int
    strength: float
    treated_from: float | None

    def add_to(self, course: Course, patient: Patient, rng: np.random.Generator) -> None:
        """Add the illness to a course, in place."""
        deteriorate(
            course,
            self.event,
            self.onset,
            patient.response,
            rng,
            lead=self.lead,
            strength=self.strength,
            treated_from=self.treated_from,
        )


def choose_monitoring(serial: int) -> Monitoring:
    """Return the way of monitoring of a stay, which follows from the stay's number and not from chance.

    Multiples of an irrational number spread evenly over a unit interval (Weyl H. Math Ann 1916;77:313-352). So each way has
    its share in small wards too.

    Example:
        >>> [choose_monitoring(serial).name for serial in (0, 1, 4)]
        ['continuous', 'devices put on late', 'spot checks']
    """
    position = serial / math.sqrt(2) % 1
    return MONITORING[bisect.bisect(list(accumulate(way.share for way in MONITORING[:-1])), position)]


def draw_illness(
    conditions: frozenset[str],
    rng: np.random.Generator,
    *,
    passed: tuple[float, float] = PASSED_ON_ARRIVAL,
    strength: tuple[float, float] = STRENGTH_ON_ARRIVAL,
) -> Illness:
    """Draw the illness that a patient has on arrival.

    Args:
        conditions: names of the patient's chronic conditions.
        rng: the patient's own generator.
        passed: range of the part of the prodrome that has passed.
        strength: range of the factor on all changes.
    """
    event = choose(DETERIORATIONS, conditions, rng)
    lead, part, factor = draw_prodrome(event, rng), rng.uniform(*passed), rng.uniform(*strength)
    onset = int(max((1 - part) * lead, 60 * SOONEST_ONSET_HOURS))
    has_event = rng.random() < np.interp(part * factor, SEVERITY, ONSET_PROBABILITY)
    return Illness(event, lead, onset, factor, None if has_event else onset * rng.uniform(*TREATED_WITHIN))
