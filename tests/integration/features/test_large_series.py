"""Statistics of a series as long as a stream of waveforms makes it."""

import numpy as np

from tests.unit.features.kernel.test_kernel import compute_one_series
from vigil.features.kernel.plan import HOUR_US, order_by_signal
from vigil.features.windows import declare_statistics


def test_ten_million_observations_of_one_patient():
    rng = np.random.default_rng(1)
    observed = np.arange(10_000_000) * 20_000  # fifty a second, for 56 hours
    steps = rng.integers(2000, 30001, len(observed))
    features = order_by_signal(
        declare_statistics(["heart_rate"], 24, "count", "mean", "std", "min", "max", "slope", "median", "last")
    )
    result = compute_one_series(observed, steps, [observed[-1]], features)
    last_day = steps[observed > observed[-1] - 24 * HOUR_US]
    assert result["count_24h"] == len(last_day)
    assert result["mean_24h"] == last_day.sum() / (len(last_day) * 100)
    np.testing.assert_allclose(result["std_24h"], last_day.std(ddof=1) / 100, rtol=1e-12)
    assert result["median_24h"] == np.median(last_day) / 100
    assert (result["min_24h"], result["max_24h"]) == (last_day.min() / 100, last_day.max() / 100)
