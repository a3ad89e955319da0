"""The page about FHIR: its tables are those of the code, and its settings are settings."""

import re
import tomllib

from tests.support import ROOT
from vigil.pipelines.sources.fhir.settings import FhirSettings, OutcomeSettings
from vigil.serving.fhir.page import update

PAGE = (ROOT / "docs/fhir.md").read_text()


def test_its_tables_are_up_to_date():
    assert update(PAGE) == PAGE, "run: python -m vigil.serving.fhir.page docs/fhir.md"


def test_its_example_has_all_settings_and_only_those():
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    settings = FhirSettings.model_validate(tomllib.loads(example))
    assert set(tomllib.loads(example)) == set(FhirSettings.model_fields)
    assert settings.outcomes.model_fields_set == set(OutcomeSettings.model_fields)
    assert settings.own_codes == {("urn:ward-b4", "HF"): "heart_rate"}
