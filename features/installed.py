"""What installed packages add to Vigil by entry points: signals, features, tasks and sources.

::

    [project.entry-points."vigil.signals"]
    crp = "ward_markers.signals:CRP"                # a vigil.features.signal.AddedSignal

    [project.entry-points."vigil.features"]
    markers = "ward_markers.features:MARKERS"       # a vigil.features.added_features.AddedFeatures: a view, and services

Vigil's own names and codes keep their meaning: an addition that takes one is refused. The tables of signals and features are
complete once they are imported, so the two modules above import ``vigil.features.signal``, ``windows``, ``derived`` and
``added_features`` alone.

``HOME/packages.json`` holds which package each addition that a home uses is from (:func:`record_use`). A home whose package is
missing is not opened (:func:`require_packages`).
"""

import functools
import hashlib
import json
import sys
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, TypeVar

from vigil.features.errors import VigilError

FILE: Final = "packages.json"

Addition = TypeVar("Addition")
Group = Literal["vigil.signals", "vigil.features", "vigil.tasks", "vigil.sources"]
Kind = Literal["signals", "features", "services", "tasks"]
"""What a home can use of a package. A source is needed only while it is ingested."""


class PackageError(VigilError):
    """An installed package adds what cannot be used, or a package that a home uses is missing."""


def refuse(addition: str, rule: str) -> NoReturn:
    """Refuse what a package adds.

    Raises:
        PackageError: with the addition and the rule that it breaks.
    """
    raise PackageError(f"{addition}: {rule}; correct the package, or remove it")


def find_entry_points(group: Group, taken: Collection[str] = ()) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name, ordered by name, and load none.

    Args:
        group: of entry points.
        taken: names that Vigil has itself.

    Raises:
        PackageError: a name is taken, or two packages have the same.
    """
    points: dict[str, EntryPoint] = {}
    for point in sorted(_scan().select(group=group) if group in _AT_IMPORT else entry_points(group=group)):
        if point.name in taken:
            refuse(f"{describe(point)}: {group} {point.name}", "Vigil has one of this name; expected another name")
        if point.name in points and point.value != points[point.name].value:
            raise PackageError(
                f"{describe(point)} and {describe(points[point.name])}: {group} {point.name}: both have it; expected each name "
                "once; remove one of them"
            )
        points[point.name] = point
    return points


def load_additions(group: Group, kind: type[Addition], taken: Collection[str] = ()) -> dict[str, Addition]:
    """Load what the entry points of a group name.

    Args:
        group: of entry points.
        kind: the type of what they name.
        taken: names that Vigil has itself.

    Raises:
        PackageError: one cannot be loaded, is of another type, or has a name that is taken.
    """
    return {name: load(point, kind) for name, point in find_entry_points(group, taken).items()}


def load(point: EntryPoint, kind: type[Addition]) -> Addition:
    """Load what an entry point names.

    Raises:
        PackageError: it cannot be loaded, or is of another type.
    """
    try:
        addition = point.load()
    except VigilError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the package does
        refuse(
            f"{describe(point)}: {point.group} {point.name} = {point.value}",
            f"cannot be loaded ({type(error).__name__}: {error}); such a module imports vigil.features.signal, windows, "
            "derived and added_features alone",
        )
    if not isinstance(addition, kind):
        refuse(
            f"{describe(point)}: {point.group} {point.name} = {point.value}",
            f"is {type(addition).__name__}; expected {kind.__module__}.{kind.__qualname__}",
        )
    return addition


def describe(point: EntryPoint) -> str:
    """Return the package of an entry point and its version, such as ``ward-markers 1.0``."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.module


@functools.cache
def fingerprint_packages() -> str:
    """Return a fingerprint of the packages that add signals or features: names, versions and every line of their code."""
    digest = hashlib.blake2b(digest_size=16)
    for group in _AT_IMPORT:
        for point in find_entry_points(group).values():
            point.load()
            module = sys.modules[point.module.partition(".")[0]]
            sources = [path for folder in getattr(module, "__path__", ()) for path in sorted(Path(folder).rglob("*.py"))]
            digest.update(f"{point.name} {point.value} {describe(point)}".encode())
            for source in sources or [Path(str(module.__file__))]:
                digest.update(source.read_bytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of the packages that add signals or features, by name."""
    points = [point for group in _AT_IMPORT for point in find_entry_points(group).values()]
    return {point.dist.name: point.dist.version for point in points if point.dist}


def record_use(home: Path, kind: Kind, names: Iterable[str]) -> None:
    """Record in ``HOME/packages.json`` what a home uses of packages.

    Args:
        home: the directory.
        kind: of the names.
        names: that are used; those that are Vigil's own are ignored.
    """
    points = _points_of(kind)
    packages = known = _read(home)
    for name in sorted(set(names) & points.keys()):
        package = points[name].dist
        if package is not None:
            entry = packages.get(package.name, {})
            used = sorted({*entry.get(kind, ()), name})
            packages = {**packages, package.name: {**entry, "version": package.version, kind: used}}
    if packages != known:
        unfinished = (home / FILE).with_suffix(".unfinished")
        unfinished.write_text(json.dumps(packages, indent=1))
        unfinished.replace(home / FILE)


def _points_of(kind: Kind) -> Mapping[str, EntryPoint]:
    """Return the entry point that each name is from."""
    if kind == "services":
        from vigil.features.catalogue import ADDED_SERVICES

        views = find_entry_points("vigil.features")
        return {service: views[view] for service, (view, _) in ADDED_SERVICES.items()}
    return find_entry_points(_GROUP_OF[kind])


def require_packages(home: Path) -> None:
    """Refuse a home that uses what no installed package adds any more.

    Raises:
        PackageError: with the names of the packages, and what is missing.
    """
    packages = _read(home)
    if not packages:
        return
    from vigil.features.catalogue import SERVICES, VIEWS
    from vigil.features.signals import STORED

    known: dict[str, Collection[str]] = {
        "signals": STORED,
        "features": VIEWS,
        "services": SERVICES,
        "tasks": find_entry_points("vigil.tasks"),
    }
    for package, entry in packages.items():
        missing = [f"{kind} {', '.join(gone)}" for kind in known if (gone := sorted(set(entry.get(kind, ())) - {*known[kind]}))]
        if missing:
            raise PackageError(
                f"{home}: uses {'; '.join(missing)} of the package {package} {entry['version']}, which is not installed, or no "
                f"longer has them; install it: pip install {package}=={entry['version']}"
            )


def _read(home: Path) -> dict[str, Any]:
    path = home / FILE
    if not path.exists():
        return {}
    try:
        packages: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise PackageError(f"{path}: cannot be used ({type(error).__name__}); restore it from a backup") from None
    return packages


_GROUP_OF: Final[Mapping[Kind, Group]] = {"signals": "vigil.signals", "features": "vigil.features", "tasks": "vigil.tasks"}
_AT_IMPORT: Final[tuple[Group, ...]] = ("vigil.signals", "vigil.features")  # groups that are read once a process


@functools.cache
def _scan() -> Any:
    """Return all entry points. Their files are read once, as reading them takes a tenth of a second."""
    return entry_points()
