"""Random requests are refused as problems that repeat nothing of them; `make soak` sends many more."""

from tests.soak.fuzz import fuzz
from tests.soak.home import token_for


def test_fuzz_breaks_no_promise(spare):
    url, home = spare
    report = fuzz(url, token_for(home), home, bodies=400, seed=2)
    assert report.faults == []
    assert {400, 404, 413, 422} <= report.statuses.keys()
    assert {"accepted", "quarantined", "registered"} <= report.readings.keys()
