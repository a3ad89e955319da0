"""The server, with alarms that may sound again after seconds: no test waits the quarter of an hour that a ward must ask for."""

from dataclasses import replace
from datetime import timedelta

from serving.records.ward_settings import Ward
from serving.service import Vigil

__all__ = ["Vigil"]

SILENCE = timedelta(seconds=3)

_asked = Ward.policy
Ward.policy = lambda ward, registered: replace(_asked(ward, registered), silence=SILENCE)
