"""The files of one export, as they are written: some thousand resources of one type each, and what is gone in Bundles."""

import json
from typing import Any, Final, Literal, Self

from vigil.serving.fhir.exports.files import ExportFiles, LineWriter
from vigil.serving.fhir.exports.parts import Gone, Part
from vigil.serving.fhir.outcomes import issue, outcome
from vigil.serving.fhir.times import write_microseconds

List = Literal["output", "deleted", "error"]  # of the manifest

LINES: Final = 100_000  # of a file
ENTRIES: Final = 1_000  # of a Bundle
_encode: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False).encode


class Output:
    """Writes the files of one export, which tell of a time (microseconds)."""

    def __init__(self, files: ExportFiles, export: str, as_of: int) -> None:
        self._store, self._export, self._as_of = files, export, as_of
        self._open: dict[str, LineWriter] = {}  # by type
        self._entries: dict[str, dict[str, Any]] = {}  # by type: that of the file that is written
        self._gone: list[Gone] = []
        self.files: list[dict[str, Any]] = []
        self.resources = 0

    def add(self, part: Part) -> None:
        """Write a resource, or that one is gone."""
        if isinstance(part, Gone):
            self._gone.append(part)
            if len(self._gone) == ENTRIES:
                self._write_gone()
        else:
            self._write("output", part["resourceType"], part)
            self.resources += 1

    def warn(self, text: str) -> None:
        """Write what the client has to know."""
        self._write("error", "OperationOutcome", outcome([issue("not-supported", text, severity="warning")]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def finish(self) -> list[dict[str, Any]]:
        """End all files, and return what the manifest says of them."""
        if self._gone:
            self._write_gone()
        self._close()
        return self.files

    def _close(self) -> None:
        for writer in self._open.values():
            writer.close()
        self._open.clear()

    def _write_gone(self) -> None:
        entries = [{"request": {"method": "DELETE", "url": f"{gone.type}/{gone.id}"}} for gone in self._gone]
        meta = {"lastUpdated": write_microseconds(self._as_of, "milliseconds")}  # what is written later is there again
        self._write("deleted", "Bundle", {"resourceType": "Bundle", "meta": meta, "type": "transaction", "entry": entries})
        self._gone.clear()

    def _write(self, of: List, kind: str, resource: dict[str, Any]) -> None:
        if kind not in self._open or self._entries[kind]["count"] == LINES:
            if kind in self._open:
                self._open[kind].close()
            number = sum(each["type"] == kind for each in self.files) + 1
            self._entries[kind] = {"list": of, "type": kind, "name": f"{kind}.{number}.ndjson", "count": 0}
            self.files.append(self._entries[kind])
            self._open[kind] = self._store.write(self._export, self._entries[kind]["name"])
        self._open[kind].write(_encode(resource).encode("utf-8", "surrogatepass"))
        self._entries[kind]["count"] += 1
