"""The simulated ward: Vigil's default source, generated from a seed.

Its patients follow rules of thumb of clinical physiology. With them the whole chain can be run, tested and shown without any
patient's data. Most patients are well on arrival and wear devices from then on. Some arrive ill, have only spot checks or a
single set of vital signs, get their devices late, come from or move to another unit, or return for a second stay. Their shares
are stated in :mod:`vigil.pipelines.sources.simulated.admissions` and :mod:`vigil.pipelines.sources.simulated.ward`.

Nothing simulated is clinical evidence: a model that does well here has learned this program.
"""

from vigil.pipelines.sources.simulated.ward import SimulatedWard

__all__ = ["SimulatedWard"]
