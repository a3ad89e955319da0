"""SMART scopes: what they allow on FHIR resources, and which scopes of Vigil they amount to.

A SMART scope names a resource and interactions: ``system/Observation.cruds`` (version 2) or ``system/Observation.write``
(version 1). A scope of Vigil allows a fixed set of interactions. Source: SMART App Launch 2.2, section "Scopes for requesting
FHIR resources" (HL7, https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html).
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Final

INTERACTIONS: Final = "cruds"  # create, read, update, delete, search: in this order in every scope

Permissions = Mapping[str, frozenset[str]]  # interactions by type of resource

# What each scope of Vigil allows on FHIR resources.
PERMISSIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "observations:write": {"Observation": "cud", "Device": "cu"},
    "patients:write": {"Patient": "cu", "Encounter": "cu"},
    # Whoever subscribes is told of what it may read only, so either scope is enough for Subscriptions.
    "risk:read": {"RiskAssessment": "rs", "Observation": "rs", "Provenance": "rs", "Device": "r", "Subscription": "cruds"},
    "alarms:read": {"DetectedIssue": "rs", "Subscription": "cruds"},
    "alarms:write": {"DetectedIssue": "u"},
    "ward:read": {"Patient": "rs", "Encounter": "rs", "Group": "rs"},
}
# What a SMART token must allow to have a scope of Vigil, and so the routes under /v1.
NEEDED: Final[Mapping[str, tuple[str, str]]] = {
    "observations:write": ("Observation", "cu"),
    "patients:write": ("Patient", "cu"),
    "risk:read": ("RiskAssessment", "rs"),
    "alarms:read": ("DetectedIssue", "rs"),
    "alarms:write": ("DetectedIssue", "u"),
    "ward:read": ("Patient", "rs"),
}
RESOURCES: Final = tuple(sorted({resource for allowed in PERMISSIONS.values() for resource in allowed}))
_SCOPE: Final = re.compile(r"(?:system|user)/(\*|[A-Z][A-Za-z]+)\.(read|write|\*|c?r?u?d?s?)", flags=re.ASCII)
_VERSION_1: Final = {"read": "rs", "write": "cud", "*": INTERACTIONS}


def parse_smart_scopes(names: Iterable[str]) -> Permissions:
    """Return what SMART scopes allow, of the resources that this server has. Other names, and filters (``?``), allow nothing.

    >>> {resource: "".join(sorted(allowed)) for resource, allowed in parse_smart_scopes(["system/Observation.rs"]).items()}
    {'Observation': 'rs'}
    """
    found: dict[str, set[str]] = defaultdict(set)
    for name in names:
        match = _SCOPE.fullmatch(name)
        if match is None:
            continue
        resource, letters = match.groups()
        for each in RESOURCES if resource == "*" else {resource}.intersection(RESOURCES):
            found[each] |= set(_VERSION_1.get(letters, letters))
    return {resource: frozenset(allowed) for resource, allowed in found.items() if allowed}


def smart_scopes(permissions: Permissions) -> list[str]:
    """Return permissions as SMART scopes of version 2, of a system.

    >>> smart_scopes({"Observation": frozenset("sr")})
    ['system/Observation.rs']
    """
    return [
        f"system/{resource}.{''.join(letter for letter in INTERACTIONS if letter in permissions[resource])}"
        for resource in sorted(permissions)
    ]


def own_scopes(permissions: Permissions) -> frozenset[str]:
    """Return the scopes of Vigil that permissions amount to."""
    return frozenset(
        scope for scope, (resource, needed) in NEEDED.items() if permissions.get(resource, frozenset()).issuperset(needed)
    )


def permissions_of(scopes: Collection[str]) -> Permissions:
    """Return what scopes of Vigil allow on FHIR resources."""
    return union(
        {resource: frozenset(letters) for resource, letters in PERMISSIONS[scope].items()}
        for scope in scopes
        if scope in PERMISSIONS
    )


def union(parts: Iterable[Permissions]) -> Permissions:
    """Return what any of several permissions allow."""
    found: dict[str, frozenset[str]] = {}
    for part in parts:
        found |= {resource: found.get(resource, frozenset()) | allowed for resource, allowed in part.items()}
    return found


def intersection(one: Permissions, other: Permissions) -> Permissions:
    """Return what both permissions allow."""
    both = {resource: one[resource] & other[resource] for resource in one.keys() & other.keys()}
    return {resource: allowed for resource, allowed in both.items() if allowed}
