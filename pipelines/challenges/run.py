"""The protocols by name, and the function that runs one."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from pipelines.challenges import Benchmark, BenchmarkError
from pipelines.challenges.ahe2009 import ahe2009
from pipelines.challenges.cinc2012 import cinc2012
from pipelines.challenges.cinc2019 import cinc2019
from pipelines.challenges.safety_net import safety_net
from pipelines.challenges.transportability import transportability2012, transportability2019

PROTOCOLS: Final[dict[str, Callable[..., Benchmark]]] = {
    "cinc2012": cinc2012,
    "cinc2019": cinc2019,
    "ahe2009": ahe2009,
    "travel2019": transportability2019,
    "travel2012": transportability2012,
}
SELECTIVE: Final = frozenset({"cinc2019", "travel2019", "travel2012"})  # protocols that can fit only some of their models
SIMULATED: Final = {"net": safety_net}  # protocols that need no data


def run(protocol: str, train: Path | None, test: Path | None, only: str | None = None) -> Benchmark:
    """Run a protocol.

    Args:
        protocol: a key of :data:`PROTOCOLS` or :data:`SIMULATED`.
        train: path of the training set; None for a simulated protocol.
        test: path of the test set, where the protocol has one.
        only: restricts a protocol of :data:`SELECTIVE` to some of its models.

    Raises:
        BenchmarkError: there is no such protocol, or it does not fit the other arguments.
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
