"""A gateway of an invented ward, so that the ward page has patients to show. It needs only httpx, and vigil_client.py.

    VIGIL_TOKEN="$(vigil token)" python docs/clients/ward_gateway.py --url http://127.0.0.1:3000 --ward B4

It sends the last three hours of eight patients, and then goes on, a minute at a time, until Ctrl-C. One of them deteriorates.
"""

import argparse
import contextlib
import math
import os
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from vigil_client import Vigil, make_observations

WELL: Final = {"heart_rate": 76.0, "respiratory_rate": 15.0, "spo2": 96.5, "systolic_bp": 124.0, "body_temperature": 36.8}
SICK: Final = {"heart_rate": 118.0, "respiratory_rate": 25.0, "spo2": 89.0, "systolic_bp": 100.0, "body_temperature": 38.7}
NOISE: Final = {"heart_rate": 3.0, "respiratory_rate": 0.8, "spo2": 0.5, "systolic_bp": 4.0, "body_temperature": 0.1}
ILLNESS: Final = (0.0, 0.3, 0.05, 0.5, 0.0, 0.15, 0.2, 0.1)  # of each patient: 0 well, 1 sick
DETERIORATES: Final = 2  # its place in ILLNESS
MINUTES: Final = 8.0  # within which that patient becomes sick
PAST: Final = timedelta(hours=3)


def measure(patient: int, minutes: float) -> dict[str, float]:
    """Return what is measured at a patient, some minutes after the start; before it they are negative."""
    illness = ILLNESS[patient]
    if patient == DETERIORATES and minutes > 0:
        illness += (0.9 - illness) * min(1.0, minutes / MINUTES)
    values = {}
    for signal, well in WELL.items():
        value = random.gauss(well + illness * (SICK[signal] - well), NOISE[signal])
        values[signal] = min(round(value, 1), 100.0) if signal == "spo2" else round(value, 1)
    return values


def measure_all(names: Sequence[str], minutes: float, at: datetime) -> list[dict[str, Any]]:
    """Return the observations of all patients at a time."""
    return [one for place, name in enumerate(names) for one in make_observations(name, measure(place, minutes), at)]


def main() -> None:
    """Send the past of the ward, and then its present."""
    parser = argparse.ArgumentParser(description="Send what an invented ward measures, until Ctrl-C.")
    parser.add_argument("--url", default="http://127.0.0.1:3000", help="address of the server (default: %(default)s)")
    parser.add_argument("--ward", default="B4", help="name of the ward (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="how long to go on (default: until Ctrl-C)")
    arguments = parser.parse_args()
    token = os.environ.get("VIGIL_TOKEN", "")  # not an argument: every user of this machine can read arguments
    if not token:
        parser.error("VIGIL_TOKEN: not set; expected a token with all scopes; make one with vigil token")
    names = [f"{arguments.ward} bed {number + 1}" for number in range(len(ILLNESS))]
    with Vigil(arguments.url, lambda: token) as vigil:
        vigil.register([{"patient_id": name, "ward": arguments.ward, "age": 60 + place} for place, name in enumerate(names)])
        start = datetime.now(UTC)
        for back in range(int(PAST.total_seconds() // 60), 0, -5):
            at = start - timedelta(minutes=back)
            vigil.send(measure_all(names, -back, at))
        print(f"{len(names)} patients in ward {arguments.ward}; {names[DETERIORATES]} will deteriorate. Stop: Ctrl-C")
        minutes = 0.0
        while minutes <= arguments.minutes:
            at = datetime.now(UTC)
            minutes = (at - start).total_seconds() / 60
            vigil.send(measure_all(names, minutes, at))
            time.sleep(min(60.0, max(0.0, 60 * (arguments.minutes - minutes))))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
