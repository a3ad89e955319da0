"""Nonsense is refused as a problem, without an echo, and leaves nothing half-written; `make soak` sends much more of it."""

from tests.soak.fuzz import fuzz
from tests.soak.home import token_for


def test_nonsense_breaks_nothing(spare):
    url, home = spare
    report = fuzz(url, token_for(home), home, bodies=400, seed=1)
    assert report.faults == []
    assert {400, 404, 413, 422} <= report.statuses.keys()
    assert {"accepted", "quarantined", "registered"} <= report.readings.keys()
