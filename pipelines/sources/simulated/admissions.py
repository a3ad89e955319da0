"""How simulated patients arrive and how they are watched: well or already ill, by which devices, from and to which units."""

import bisect
import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import numpy as np

from pipelines.sources.simulated.deterioration import DETERIORATIONS, Course, Deterioration, choose, deteriorate, prodrome
from pipelines.sources.simulated.physiology import Patient

LONGEST_HOURS: Final = 240.0  # of a stay


@dataclass(frozen=True, slots=True)
class Monitoring:
    """A way of watching a patient.

    Attributes:
        name: of the way.
        share: of all stays.
        worn_after: shortest and longest time from admission until the devices are put on, in hours; None: never. Before it
            the nurses take a full set of vital signs at each round.
        every_hours: hours between rounds, one of which holds for a stay.
        sets: how many rounds at most are charted; None: all.
        longest_hours: of a stay.
    """

    name: str
    share: float
    worn_after: tuple[float, float] | None = None
    every_hours: tuple[int, ...] = (4,)
    sets: int | None = None
    longest_hours: float = LONGEST_HOURS


# The shares are ours: two thirds are watched as the ward is meant to work, and each exception is common enough to be learned.
# NEWS2 asks for observations every 12 hours at a score of 0 and every 4 to 6 hours at 1 to 4 (RCP 2017). A patient's interval
# is drawn whatever the patient's state, so how often vital signs are taken tells nothing of what is to come. Real nurses look
# at the ill more often.
MONITORING: Final = (
    Monitoring("continuous", 0.67, worn_after=(0, 0)),
    Monitoring("devices put on late", 0.10, worn_after=(2, 12)),  # patients wait for a bed, a device or someone to fit it
    Monitoring("spot checks", 0.15, every_hours=(4, 6, 8, 12)),  # wards have fewer wearables than patients
    # Ours: the set at admission alone, of patients who stay a day at most, since a set says nothing of a later day.
    Monitoring("one set", 0.08, sets=1, longest_hours=24.0),
)

# NEWS was 5 or more at the first set in 8 % of attendances at emergency departments, 18 % of ambulance journeys and 30 % of
# referrals by general practitioners (Scott LJ, Redmond NM, Garrett J, et al. Emerg Med J 2019;36:287-292).
ILL_ON_ARRIVAL_SHARE: Final = 0.15
UNDER_WAY: Final = (0.4, 0.9)  # part of the prodrome that has passed on arrival; ours: hours remain in which to act
STRENGTH_ON_ARRIVAL: Final = (0.7, 2.2)  # ours: up to half as strong again as on the ward, since they had no care until now
# Chance of the event by severity, which is strength times part passed. Ours: treatment helps most of those who are moderately
# ill, and few of those who are severely ill, so that the level of the vital signs carries risk without any change.
SEVERITY, CHANCE_OF_ONSET = (0.4, 1.6), (0.35, 0.95)
SOONEST_ONSET_HOURS: Final = 1.5  # after arrival; ours: an earlier event is of the emergency department, not of the ward
TREATED_WITHIN: Final = (0.2, 0.8)  # part of the time left until the onset; ours

FROM_ANOTHER_UNIT_SHARE: Final = 0.06  # ours; the other unit's observations are lost, as gateways keep only their own
DAYS_BEFORE: Final = (1.0, 6.0)  # in hospital before the transfer to this unit; ours
HOURS_UNWATCHED: Final = (0.0, 24.0)  # in this unit before its monitoring begins; ours
MOVES_SHARE: Final = 0.06  # ours; to another unit with another gateway, in the middle of the stay
MOVES_AFTER: Final = (0.2, 0.8)  # part of the stay


@dataclass(frozen=True, slots=True)
class Illness:
    """A deterioration that began before the patient arrived.

    Attributes:
        event: what comes, or would have come.
        lead: minutes from the first change to the onset.
        onset: minutes from arrival to the onset.
        strength: factor on all changes.
        treated_from: minute from which treatment helps, so that the onset never comes; None: it comes.
    """

    event: Deterioration
    lead: float
    onset: int
    strength: float
    treated_from: float | None

    def act_on(self, course: Course, patient: Patient, rng: np.random.Generator) -> None:
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


def monitoring_of(serial: int) -> Monitoring:
    """Return how the patient is watched in a stay, by the stay's number and not by chance.

    Multiples of an irrational number spread evenly over a unit interval (Weyl H. Math Ann 1916;77:313-352), so that small
    wards too hold each way in its share.
    """
    place = serial / math.sqrt(2) % 1
    return MONITORING[bisect.bisect(list(accumulate(way.share for way in MONITORING[:-1])), place)]


def draw_illness(
    conditions: frozenset[str],
    rng: np.random.Generator,
    *,
    under_way: tuple[float, float] = UNDER_WAY,
    strength: tuple[float, float] = STRENGTH_ON_ARRIVAL,
) -> Illness:
    """Draw the illness with which a patient arrives.

    Args:
        conditions: names of the patient's chronic conditions.
        rng: the patient's own generator.
        under_way: range of the part of the prodrome that has passed.
        strength: range of the factor on all changes.
    """
    event = choose(DETERIORATIONS, conditions, rng)
    lead, passed, factor = prodrome(event, rng), rng.uniform(*under_way), rng.uniform(*strength)
    onset = int(max((1 - passed) * lead, 60 * SOONEST_ONSET_HOURS))
    comes = rng.random() < np.interp(passed * factor, SEVERITY, CHANCE_OF_ONSET)
    return Illness(event, lead, onset, factor, None if comes else onset * rng.uniform(*TREATED_WITHIN))
