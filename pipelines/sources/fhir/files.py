"""The files of a FHIR export, resource by resource: NDJSON of a bulk export, and Bundles; either may be gzipped.

NDJSON is read line by line. A Bundle is read whole, as JSON has to be.
Bulk Data Access 2.0: https://hl7.org/fhir/uv/bulkdata/STU2/export.html.
"""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from vigil.pipelines.sources import SourceError
from vigil.serving.fhir.references import read_local
from vigil.serving.fhir.times import read_instant_or_none

_LINES: Final = (".ndjson", ".ndjson.gz", ".jsonl", ".jsonl.gz")
_WHOLE: Final = (".json", ".json.gz")
_EXPANSION: Final = 15  # bytes of NDJSON in one that is gzipped, roughly
_GZIP: Final = b"\x1f\x8b"
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Entry:
    """A resource of an export.

    Attributes:
        resource: parsed JSON; None of a deletion.
        file: its name, from the folder.
        line: in the file; in a Bundle the number of the entry, from 1.
        full_url: by which a Bundle refers to it.
        deleted: of a deletion: what is deleted, such as ``Patient/12``.
        deleted_at: in microseconds since 1970, UTC; None: it is not known.
    """

    resource: dict[str, Any] | None
    file: str
    line: int
    full_url: str | None = None
    deleted: str | None = None
    deleted_at: int | None = None


class Export:
    """A folder of NDJSON files and Bundles, in subfolders too; or one such file.

    Raises:
        SourceError: there is none.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path if path.is_dir() else path.parent
        candidates = sorted(path.rglob("*")) if path.is_dir() else [path]
        self.files = [each for each in candidates if each.name.lower().endswith((*_LINES, *_WHOLE)) and each.is_file()]
        if not self.files:
            raise SourceError(f"--data {path}: no {' or '.join((*_LINES[:2], *_WHOLE))}; expected the files of a FHIR $export")

    @property
    def size(self) -> int:
        """How many bytes the files have; of gzipped ones about how many they will have."""
        return sum(path.stat().st_size * (_EXPANSION if path.name.endswith(".gz") else 1) for path in self.files)

    def observations(self) -> Iterator[Entry]:
        """Yield the Observations."""
        return (entry for entry in self._entries(of_observations=True) if _is_observation(entry))

    def others(self) -> Iterator[Entry]:
        """Yield all other resources, and deletions. Files of Observations are not read."""
        return (entry for entry in self._entries(of_observations=False) if not _is_observation(entry))

    def _entries(self, *, of_observations: bool) -> Iterator[Entry]:
        for path in self.files:
            name = str(path.relative_to(self._folder))
            with _open(path, name) as file:
                if path.name.lower().endswith(_WHOLE):
                    yield from _expand(_parse(_read_all(file, name), name, 1), name, 0)
                else:
                    yield from self._lines(file, name, of_observations=of_observations)

    def _lines(self, file: BinaryIO, name: str, *, of_observations: bool) -> Iterator[Entry]:
        only_observations: bool | None = None  # as the first resource tells
        for number, text in enumerate(_iterate(file, name), 1):
            line = text.removeprefix(_BOM) if number == 1 else text
            if not line.strip() or (only_observations is False and of_observations and b'"Observation"' not in line):
                continue
            for entry in _expand(_parse(line, name, number), name, number):
                if only_observations is None:
                    only_observations = _is_observation(entry)
                    if only_observations and not of_observations:
                        return
                if only_observations and not _is_observation(entry):
                    raise SourceError(f"{name}: line {number}: no Observation; expected one type of resource a file")
                yield entry


def _open(path: Path, name: str) -> BinaryIO:
    try:
        with path.open("rb") as file:
            is_gzip = file.read(2) == _GZIP
        return cast("BinaryIO", gzip.open(path, "rb")) if is_gzip else path.open("rb")
    except OSError as error:
        raise SourceError(f"{name}: cannot be read ({type(error).__name__})") from None


def _iterate(file: BinaryIO, name: str) -> Iterator[bytes]:
    try:
        yield from file
    except (OSError, EOFError) as error:
        raise SourceError(f"{name}: cut off, or no gzip ({type(error).__name__}); export it again") from None


def _read_all(file: BinaryIO, name: str) -> bytes:
    return b"".join(_iterate(file, name)).removeprefix(_BOM)


def _refuse_constant(_: str) -> None:
    raise ValueError("no number of JSON")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)  # json.loads would make one for every line


def _parse(text: bytes, name: str, line: int) -> dict[str, Any]:
    try:
        resource = _DECODER.decode(text.decode())
    except (ValueError, RecursionError):
        raise SourceError(f"{name}: line {line}: no JSON; expected one resource a line, as $export writes them") from None
    if not isinstance(resource, dict):
        raise SourceError(f"{name}: line {line}: no JSON object; expected a FHIR resource")
    return resource


def _expand(resource: dict[str, Any], name: str, line: int) -> Iterator[Entry]:
    """Yield a resource, or the entries of a Bundle."""
    if resource.get("resourceType") != "Bundle":
        if "resourceType" in resource:  # a manifest has none
            yield Entry(resource, name, line or 1)
        return
    meta = resource.get("meta")
    at = read_instant_or_none(meta.get("lastUpdated")) if isinstance(meta, dict) else None
    entries = resource.get("entry", [])
    for position, entry in enumerate(entries if isinstance(entries, list) else [], 1):
        if not isinstance(entry, dict):
            raise SourceError(f"{name}: entry {position}: no JSON object; expected Bundle.entry")
        inner, request = entry.get("resource"), entry.get("request")
        if isinstance(request, dict) and request.get("method") == "DELETE":
            if (local := read_local(request.get("url"))) is not None:
                yield Entry(None, name, line or position, deleted="/".join(local), deleted_at=at)
        elif isinstance(inner, dict):
            full_url = entry.get("fullUrl")
            yield Entry(inner, name, line or position, full_url if isinstance(full_url, str) else None)


def _is_observation(entry: Entry) -> bool:
    return entry.resource is not None and entry.resource.get("resourceType") == "Observation"
