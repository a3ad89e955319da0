"""The protocols by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from pipelines.challenges import Benchmark, BenchmarkError
from pipelines.challenges.ahe2009 import ahe2009
from pipelines.challenges.cinc2012 import cinc2012
from pipelines.challenges.cinc2019 import cinc2019
from pipelines.challenges.safety_net import safety_net
from pipelines.challenges.transportability import travel2012, travel2019

PROTOCOLS: Final[dict[str, Callable[..., Benchmark]]] = {
    "cinc2012": cinc2012,
    "cinc2019": cinc2019,
    "ahe2009": ahe2009,
    "travel2019": travel2019,
    "travel2012": travel2012,
}
SELECTIVE: Final = frozenset({"cinc2019", "travel2019", "travel2012"})  # that can fit some of their models only
SIMULATED: Final = {"net": safety_net}  # need no data


def run(protocol: str, train: Path | None, test: Path | None, only: str | None = None) -> Benchmark:
    """Run a protocol on sets at these paths.

    Raises:
        BenchmarkError: no such protocol, or it needs a test set.
        SourceError: a set cannot be read.
    """
    if protocol in SIMULATED:
        if train is not None or test is not None:
            raise BenchmarkError(f"--train, --test: {protocol} runs on the simulated ward; leave them out")
        return SIMULATED[protocol]()
    if protocol not in PROTOCOLS:
        raise BenchmarkError(f"{protocol}: no such benchmark; choose one of {', '.join([*PROTOCOLS, *SIMULATED])}")
    if train is None:
        raise BenchmarkError(f"--train is missing: {protocol} needs the set to train on, as the challenge distributes it")
    if only is None:
        return PROTOCOLS[protocol](train, test)
    if protocol not in SELECTIVE:
        raise BenchmarkError(f"--only: {protocol} fits all its models; leave it out")
    return PROTOCOLS[protocol](train, test, only)
