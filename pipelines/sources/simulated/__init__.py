"""The simulated ward: Vigil's embedded default source, made from a seed.

Its patients follow rules of thumb of clinical physiology so that the whole chain can be run, tested and shown without a
patient's data. Nothing simulated is clinical evidence: a model that does well here has learned this program.
"""

from pipelines.sources.simulated.ward import SimulatedWard

__all__ = ["SimulatedWard"]
