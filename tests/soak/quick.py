"""The server with a refractory period of seconds: a test cannot wait for the shortest one of a ward, a quarter of an hour."""

from dataclasses import replace
from datetime import timedelta

from vigil.serving.records.ward_settings import WardSettings
from vigil.serving.service import Vigil

__all__ = ["Vigil"]

REFRACTORY_PERIOD = timedelta(seconds=3)

_ward_policy = WardSettings.policy
WardSettings.policy = lambda ward, registered: replace(_ward_policy(ward, registered), refractory_period=REFRACTORY_PERIOD)
