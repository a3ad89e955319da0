"""What a hospital's FHIR clients have in common: ``HOME/fhir.toml``, written by those who connect them.

::

    patient_system = "urn:oid:1.2.276.0.76.4.8"        # of the identifiers by which patients are known
    base_urls = ["https://ehr.example/fhir"]           # whose ids of patients are understood
    classes = ["IMP", "ACUTE", "NONAC", "OBSENC", "EMER", "SS"]  # of Encounters in which patients are monitored
    subscription_endpoints = ["https://ehr.example/hooks/"]  # below which notifications may be sent
"""

from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from vigil.features.errors import VigilError
from vigil.serving.fhir.encounters import MONITORED_CLASSES
from vigil.serving.fhir.subscriptions.endpoints import Endpoint, find_allowed, require_endpoint
from vigil.serving.records.settings_file import SettingsFile

FILE: Final = "fhir.toml"

Text = Annotated[str, Field(min_length=1, max_length=255)]


class FhirSettingsError(VigilError):
    """The settings of FHIR cannot be used."""


class FhirSettings(BaseModel):
    """The settings.

    Attributes:
        patient_system: the value of an identifier of this system is the patient identifier. None: system and value together,
            joined by ``|``, are.
        base_urls: of servers whose resources clients refer to. References to other servers are not understood.
        own_codes: signals of the codes that a hospital has beside the standard ones, by ``system|code``.
        classes: of Encounters in which patients are monitored (https://terminology.hl7.org/ValueSet-v3-ActEncounterCode.html).
        subscription_endpoints: URLs below which notifications of subscriptions may be sent.
        subscription_ca_file: certificates (PEM) that such an endpoint may be signed with, relative to the home. None: those of
            the system. Read when the server starts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    patient_system: Text | None = None
    base_urls: tuple[Annotated[str, Field(pattern=r"^https?://\S+$")], ...] = ()
    own_codes: dict[Text, Text] = Field(default_factory=dict)
    classes: tuple[Text, ...] = MONITORED_CLASSES
    subscription_endpoints: tuple[Annotated[str, AfterValidator(require_endpoint)], ...] = ()
    subscription_ca_file: Text | None = None


class FhirSettingsFile(SettingsFile[FhirSettings]):
    """The settings of a home, read again when the file changes."""

    def __init__(self, home: Path, *, strict: bool = False) -> None:
        """Read the file, if there is one.

        Raises:
            FhirSettingsError: it cannot be used; only if strict.
        """
        expected = f"{', '.join(FhirSettings.model_fields)}; see docs/fhir.md"
        super().__init__(home / FILE, FhirSettings, FhirSettingsError, expected, strict=strict)

    def find_endpoint(self, url: str) -> Endpoint | None:
        """Return the parts of a URL that notifications may be sent to now; None: they may not."""
        self.refresh()
        return find_allowed(url, self.content.subscription_endpoints)

    def own_codes(self) -> dict[tuple[str, str], str]:
        """Return the signals of the hospital's own codes now, by system and code."""
        self.refresh()
        pairs = ((key.rpartition("|"), signal) for key, signal in self.content.own_codes.items())
        return {(system, code): signal for (system, _, code), signal in pairs}
