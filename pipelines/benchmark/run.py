"""The protocols by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from pipelines.benchmark import Benchmark, BenchmarkError
from pipelines.benchmark.ahe2009 import ahe2009
from pipelines.benchmark.cinc2012 import cinc2012
from pipelines.benchmark.cinc2019 import cinc2019
from pipelines.benchmark.travel import travel2012, travel2019

PROTOCOLS: Final[dict[str, Callable[[Path, Path | None], Benchmark]]] = {
    "cinc2012": cinc2012,
    "cinc2019": cinc2019,
    "ahe2009": ahe2009,
    "travel2019": travel2019,
    "travel2012": travel2012,
}


def run(protocol: str, train: Path, test: Path | None) -> Benchmark:
    """Run a protocol on sets at these paths.

    Raises:
        BenchmarkError: no such protocol, or it needs a test set.
        SourceError: a set cannot be read.
    """
    if protocol not in PROTOCOLS:
        raise BenchmarkError(f"{protocol}: no such benchmark; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[protocol](train, test)
