"""References to patients and devices, in every form that FHIR allows. A reference is never followed over the network.

A patient is known by a key: ``Patient/12``, an absolute URL, ``urn:uuid:...`` of a bundle, or a logical identifier
(:func:`identifier_key`). Whoever reads a resource says which patient identifier a key stands for.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from vigil.serving.fhir.refusals import RefusedError

FindPatient = Callable[[str], str | None]

_VERSION: Final = re.compile(r"/_history/[A-Za-z0-9\-.]{1,64}$")
_ID: Final = re.compile(r"(?P<base>.+/)?(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]{1,64})")
_LONGEST: Final = 128  # characters of a name; as the API accepts


def identifier_key(identifier: Any) -> str | None:
    """Return the key of an Identifier; None: it has no value that can be used.

    >>> identifier_key({"system": "urn:oid:1.2", "value": "4711"})
    'urn:oid:1.2|4711'
    """
    if not isinstance(identifier, Mapping):
        return None
    system, value = identifier.get("system", ""), identifier.get("value")
    return f"{system}|{value}" if isinstance(system, str) and isinstance(value, str) and value else None


def identifier_keys(resource: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys of a resource's identifiers, old and mistaken ones left out."""
    identifiers = resource.get("identifier", [])
    for identifier in identifiers if isinstance(identifiers, list) else []:
        is_current = isinstance(identifier, Mapping) and identifier.get("use") != "old"
        if is_current and (key := identifier_key(identifier)) is not None:
            yield key


def without_version(reference: str) -> str:
    """Return a reference to the present version of what a reference to one version means."""
    return _VERSION.sub("", reference)


def read_local(reference: Any) -> tuple[str, str] | None:
    """Return type and id of a relative or absolute reference to a resource of a server; None: it is none.

    >>> read_local("https://ehr.example/fhir/Patient/12/_history/3"), read_local("#p1")
    (('Patient', '12'), None)
    """
    match = _ID.fullmatch(_VERSION.sub("", reference)) if isinstance(reference, str) else None
    return None if match is None else (match["type"], match["id"])


class Patients:
    """Patient identifiers by key, in memory: of an export, or of a bundle.

    >>> patients = Patients(base_urls=["https://ehr.example/fhir"])
    >>> patients.add({"resourceType": "Patient", "id": "12", "identifier": [{"system": "urn:mrn", "value": "4711"}]})
    '12'
    >>> [patients.find(key) for key in ("Patient/12", "https://ehr.example/fhir/Patient/12", "urn:mrn|4711", "Patient/13")]
    ['12', '12', '12', None]
    """

    def __init__(self, base_urls: Iterable[str] = (), system: str | None = None) -> None:
        """Start without patients.

        Args:
            base_urls: of the servers whose resources these are. Absolute references to others are not resolved.
            system: of the identifiers by which patients are known; None: they are known by the id of their resource.
        """
        self._base_urls = tuple(url.rstrip("/") + "/" for url in base_urls)
        self._system = system
        self._names: dict[str, str] = {}
        self._survivors: dict[str, str] = {}  # names -> key of the patient that took their place
        self._ambiguous: set[str] = set()

    def add(self, patient: Mapping[str, Any], full_url: str | None = None) -> str | None:
        """Add a Patient, and return the name by which it is known; None: it has none."""
        keys = list(identifier_keys(patient))
        name = self._name(patient, keys)
        if name is None:
            return None
        local = [f"Patient/{patient['id']}"] if isinstance(patient.get("id"), str) else []
        for own in (*local, *keys, *([full_url] if isinstance(full_url, str) else [])):
            if self._names.setdefault(own, name) != name:
                self._ambiguous.add(own)  # of two patients it decides nothing
        links = patient.get("link", [])
        for link in links if isinstance(links, list) else []:
            if isinstance(link, Mapping) and isinstance(other := link.get("other"), Mapping):
                key: Any = other.get("reference") or identifier_key(other.get("identifier"))
                if isinstance(key, str):
                    self._link(name, link.get("type"), key)
        return name

    def _name(self, patient: Mapping[str, Any], keys: list[str]) -> str | None:
        if self._system is not None:
            return next((key.removeprefix(f"{self._system}|") for key in keys if key.startswith(f"{self._system}|")), None)
        own = patient.get("id")
        return own if isinstance(own, str) and own else None

    def _link(self, name: str, kind: Any, key: str) -> None:
        if kind == "replaced-by":
            self._survivors[name] = key
        elif kind == "replaces" and (other := self._lookup(key)) is not None:
            self._survivors.setdefault(other, f"Patient name|{name}")
            self._names[f"Patient name|{name}"] = name

    def find(self, key: str) -> str | None:
        """Return the patient identifier of a key, that of the survivor if the patient was merged; None: there is none."""
        name = self._lookup(key)
        seen = {name}
        while name is not None and name in self._survivors:
            name = self._lookup(self._survivors[name])
            if name in seen:
                return None  # they replace each other
            seen.add(name)
        return name

    def _lookup(self, key: str) -> str | None:
        if key in self._ambiguous:
            return None
        name = self._names.get(key)
        if name is not None:
            return name
        key = _VERSION.sub("", key)
        for base in self._base_urls:
            key = key.removeprefix(base)
        if key in self._ambiguous:
            return None
        if key not in self._names and self._system is not None and key.startswith(f"{self._system}|"):
            return key.removeprefix(f"{self._system}|")  # the name itself
        return self._names.get(key)


def read_patient(resource: Mapping[str, Any], find: FindPatient, element: str = "subject") -> str:
    """Return the patient identifier that a resource's subject stands for.

    Raises:
        RefusedError: ``missing_subject`` or ``malformed``.
    """
    path = f"{resource.get('resourceType')}.{element}"
    subject = resource.get(element)
    if isinstance(subject, dict) and "type" not in subject and "identifier" not in subject:  # the usual form
        reference = subject.get("reference")
        if isinstance(reference, str) and reference[:1] != "#" and (name := find(reference)) is not None:
            return name
    if subject is None:
        raise RefusedError("missing_subject", path, f"{element} is missing", "a reference to a Patient")
    if not isinstance(subject, dict):
        raise RefusedError("malformed", path, "Reference", "an object with reference or identifier")
    if subject.get("type", "Patient") not in ("Patient", "http://hl7.org/fhir/StructureDefinition/Patient"):
        raise RefusedError("missing_subject", f"{path}.type", "readings are of patients", "Patient")
    names = {name for key in _keys(subject, resource, path) if (name := find(key)) is not None}
    if len(names) > 1:
        raise RefusedError("missing_subject", path, "reference and identifier are of one patient", "one patient")
    if not names:
        raise RefusedError(
            "missing_subject",
            path,
            "the reference is resolved without following it",
            "a known Patient: Patient/ID, an absolute URL of this server, urn:uuid of the bundle, #ID, or an identifier",
        )
    return names.pop()


def _keys(reference: Mapping[str, Any], resource: Mapping[str, Any], path: str) -> Iterator[str]:
    """Yield the keys that a Reference to a patient gives."""
    text = reference.get("reference")
    if text is not None and not isinstance(text, str):
        raise RefusedError("malformed", f"{path}.reference", "string", "a text")
    if text is not None and text.startswith("#"):
        contained = _find_contained(resource, text[1:])
        if contained is None or contained.get("resourceType") != "Patient":
            raise RefusedError("missing_subject", f"{path}.reference", "ref-1", "the id of a contained Patient")
        yield from identifier_keys(contained)
    elif text is not None:
        yield text
    if (key := identifier_key(reference.get("identifier"))) is not None:
        yield key


def _find_contained(resource: Mapping[str, Any], identity: str) -> Mapping[str, Any] | None:
    contained = resource.get("contained")
    for each in contained if isinstance(contained, list) else []:
        if isinstance(each, dict) and each.get("id") == identity:
            return each
    return None


def read_device(resource: Mapping[str, Any]) -> str | None:
    """Return the name of the device of an Observation; None: none is named. A display is the name of a model, not of a device.

    >>> read_device({"device": {"reference": "Device/monitor-12"}}), read_device({"device": {"display": "Oximeter 2000"}})
    ('monitor-12', None)
    """
    device = resource.get("device")
    if not isinstance(device, dict):
        return None
    text = device.get("reference")
    if isinstance(text, str) and text.startswith("#"):
        contained = _find_contained(resource, text[1:])
        name = next(identifier_keys(contained), "").rpartition("|")[2] if contained else ""
    elif (local := read_local(text)) is not None:
        name = local[1]
    elif isinstance(text, str) and text.startswith("urn:"):
        name = text.rpartition(":")[2]
    else:
        name = (identifier_key(device.get("identifier")) or "").rpartition("|")[2]
    return name if 0 < len(name) <= _LONGEST else None
