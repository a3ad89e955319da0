"""Exports as clients see them: started, asked after, fetched and removed, each by the client that started it only."""

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final

from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.exports.files import ExportFiles
from vigil.serving.fhir.exports.requests import Asked, may_export
from vigil.serving.fhir.exports.writer import NEARLY_FULL
from vigil.serving.fhir.outcomes import FhirError
from vigil.serving.records.exports import Export, Exports, new_id
from vigil.serving.records.timestamps import instant, microsecond, present

logger = logging.getLogger("vigil.serving")

MOST: Final = 2  # exports of one client that are under way
PATH: Final = "exports"  # under the FHIR base
_WAITS: Final = timedelta(days=7)  # after which an export that is under way, or failed, is forgotten
_GONE: Final = "id: no such export is known; its files are kept for a day, so start another one"


class ExportService:
    """The exports of one home."""

    def __init__(self, exports: Exports, files: ExportFiles, base_url: str, wake: Callable[[], None] = lambda: None) -> None:
        """``base_url``: of the FHIR base. ``wake`` is called when there is something to write."""
        self._exports, self._files, self._base_url, self._wake = exports, files, base_url, wake

    def start(self, caller: Caller, level: str, wards: list[str] | None, asked: Asked) -> str:
        """Start an export, and return the URL at which it is asked after.

        Args:
            caller: who asks.
            level: the path before ``$export``: ``Group/ID``, ``Patient`` or nothing.
            wards: of the patients; None: all.
            asked: what is exported.

        Raises:
            FhirError: the client has too many exports under way (429), or the disk is nearly full (503).
        """
        if self._files.is_disk_nearly_full():
            raise FhirError(503, NEARLY_FULL)
        url = "/".join(part for part in (self._base_url, level, "$export") if part)
        now = present()
        export = Export(
            id=new_id(),
            client=caller.sub,
            request=url + (f"?{asked.query}" if asked.query else ""),
            wards=wards,
            types=asked.types,
            filters=asked.filters,
            since=asked.since,
            ignored=asked.ignored,
            created_at=microsecond(now),
            expires_at=microsecond(now + _WAITS),
        )
        if not self._exports.add(export, MOST):
            raise FhirError(429, f"$export: expected at most {MOST} exports of a client under way; wait for one, or delete it")
        logger.info("caller %s starts an export of %s", caller.sub, ", ".join(asked.types))
        self._wake()
        return self._url(export)

    def find(self, caller: Caller, identity: str) -> Export:
        """Return an export that a caller started.

        Raises:
            FhirError: there is none, or not any more, or the token no longer covers its wards (404).
        """
        export = self._exports.find(identity)
        if export is None or export.client != caller.sub or not _covers(caller, export):
            raise FhirError(404, _GONE)
        is_lost = export.status == "complete" and not self._files.has(identity)
        if is_lost or export.expires_at <= microsecond(present()):
            raise FhirError(404, _GONE)
        return export

    def remove(self, caller: Caller, identity: str) -> None:
        """Cancel an export, or remove its files.

        Raises:
            FhirError: as :meth:`find`.
        """
        export = self.find(caller, identity)
        self._exports.delete([export.id])
        if not export.is_under_way:  # else the process that writes it will
            self._files.remove(export.id)

    def manifest(self, export: Export) -> dict[str, Any]:
        """Return what a complete export has (https://hl7.org/fhir/uv/bulkdata/STU2/export.html#response---complete-status)."""
        assert export.as_of is not None
        lists: dict[str, list[dict[str, Any]]] = {"output": [], "deleted": [], "error": []}
        for file in export.files:
            url = f"{self._url(export)}/{file['name']}"
            lists[file["list"]].append({"type": file["type"], "url": url, "count": file["count"]})
        return {
            "transactionTime": instant(export.as_of).isoformat().replace("+00:00", "Z"),
            "request": export.request,
            "requiresAccessToken": True,
            **lists,
        }

    def read(self, caller: Caller, identity: str, name: str, *, gzipped: bool) -> Iterator[bytes]:
        """Yield the content of a file.

        Raises:
            FhirError: there is none (404), or the token no longer covers its type (403).
        """
        export = self.find(caller, identity)
        file = next((file for file in export.files if file["name"] == name), None)
        if export.status != "complete" or file is None:
            raise FhirError(404, _GONE)
        needed = [file["type"]] if file["list"] == "output" else export.types
        if not all(may_export(caller, kind) for kind in needed):
            raise FhirError(403, f"token: expected {' '.join(f'system/{kind}.rs' for kind in needed)}")
        return self._files.read(identity, name, gzipped=gzipped)

    def _url(self, export: Export) -> str:
        return f"{self._base_url}/{PATH}/{export.id}"


def remove_expired(exports: Exports, files: ExportFiles) -> int:
    """Remove exports that have expired, and files of which no export is known; return how many exports expired."""
    now = microsecond(present())
    expired = [export.id for export in exports.all() if export.expires_at <= now]
    exports.delete(expired)
    with files.lock() as is_ours:
        if is_ours:  # else a process writes files, perhaps of an export that was cancelled a moment ago
            for identity in files.stored() - {export.id for export in exports.all()}:
                files.remove(identity)
    return len(expired)


def _covers(caller: Caller, export: Export) -> bool:
    """Return whether a token covers all wards of an export."""
    return caller.wards is None if export.wards is None else all(caller.can_see(ward) for ward in export.wards)
