"""The simulated ward: Vigil's embedded default source, made from a seed.

Its patients follow rules of thumb of clinical physiology so that the whole chain can be run, tested and shown without a
patient's data. Most are well on arrival and wear devices from then on. The others teach what those cannot: patients who arrive
ill, are known by spot checks or a single set of vital signs, get their devices late, come from or move to another unit, or come
back (:mod:`pipelines.sources.simulated.admissions` and :mod:`pipelines.sources.simulated.ward` state the shares).

Nothing simulated is clinical evidence: a model that does well here has learned this program.
"""

from pipelines.sources.simulated.ward import SimulatedWard

__all__ = ["SimulatedWard"]
