"""The protocols by name, and the function that runs one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from vigil.pipelines.challenges import Benchmark, BenchmarkError
from vigil.pipelines.challenges.ahe2009 import ahe2009
from vigil.pipelines.challenges.cgm import cgm
from vigil.pipelines.challenges.cinc2012 import cinc2012
from vigil.pipelines.challenges.cinc2019 import cinc2019
from vigil.pipelines.challenges.safety_net import safety_net
from vigil.pipelines.challenges.transportability import transportability2012, transportability2019

PROTOCOLS: Final[dict[str, Callable[..., Benchmark]]] = {
    "cinc2012": cinc2012,
    "cinc2019": cinc2019,
    "ahe2009": ahe2009,
    "travel2019": transportability2019,
    "travel2012": transportability2012,
}
OF_SETS: Final[dict[str, Callable[[list[Path], list[Path]], Benchmark]]] = {"cgm": cgm}  # that learn from several sets
SELECTIVE: Final = frozenset({"cinc2019", "travel2019", "travel2012"})  # protocols that can fit only some of their models
SIMULATED: Final = {"net": safety_net}  # protocols that need no data


def run(protocol: str, train: Sequence[Path], test: Sequence[Path] = (), only: str | None = None) -> Benchmark:
    """Run a protocol.

    Args:
        protocol: a key of :data:`PROTOCOLS`, :data:`OF_SETS` or :data:`SIMULATED`.
        train: path of the training set, or of several; none for a simulated protocol.
        test: path of the test set, where the protocol has one, or of several.
        only: restricts a protocol of :data:`SELECTIVE` to some of its models.

    Raises:
        BenchmarkError: there is no such protocol, or it does not fit the other arguments.
        SourceError: a set cannot be read.
    """
    if protocol in SIMULATED:
        if train or test:
            raise BenchmarkError(f"--train, --test: {protocol} runs on the simulated ward; leave them out")
        return SIMULATED[protocol]()
    if protocol not in {**PROTOCOLS, **OF_SETS}:
        raise BenchmarkError(f"{protocol}: no such benchmark; choose one of {', '.join([*PROTOCOLS, *OF_SETS, *SIMULATED])}")
    if not train:
        raise BenchmarkError(f"--train is missing: {protocol} needs the set to train on, as the challenge distributes it")
    if only is not None and protocol not in SELECTIVE:
        raise BenchmarkError(f"--only: {protocol} fits all its models; leave it out")
    if protocol in OF_SETS:
        return OF_SETS[protocol](_list_sets("--train", train), _list_sets("--test", test))
    if len(train) > 1 or len(test) > 1:
        raise BenchmarkError(f"--train, --test: {protocol} takes one set each; name one")
    sets = train[0], test[0] if test else None
    return PROTOCOLS[protocol](*sets) if only is None else PROTOCOLS[protocol](*sets, only)


def _list_sets(option: str, paths: Sequence[Path]) -> list[Path]:
    """Return the archives that paths name: themselves, those of a folder, or several with commas between them."""
    named = [Path(part) for path in paths for part in ([str(path)] if path.exists() else str(path).split(","))]
    found = [archive for path in named for archive in (sorted(path.glob("*.zip")) if path.is_dir() else [path])]
    if paths and not found:
        raise BenchmarkError(f"{option} {paths[0]}: holds no zip; expected the archives of some sets")
    return found
