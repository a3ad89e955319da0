"""The page about mappings: its example is one, and it explains every field."""

import re
import tomllib

from pipelines.sources.table.mapping import CohortMapping, FileSettings, ObservationTable, OutcomeTable, StayTable
from tests.support import ROOT

PAGE = (ROOT / "docs/cohorts.md").read_text()
# Of sources of the API, not of cohorts.
OF_GATEWAYS = {"clock", "carry_hours", "stopped_after_minutes"}


def test_its_example_is_a_mapping():
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    mapping = CohortMapping.model_validate(tomllib.loads(example))
    assert len(mapping.tables) == 4


def test_every_field_is_explained():
    named = set(re.findall(r"`\[?(\w+)", PAGE))
    named |= {name for pair in re.findall(r"^(\w+) =|^\[+(\w+)", PAGE, flags=re.MULTILINE) for name in pair}
    fields = {
        name for part in (CohortMapping, FileSettings, ObservationTable, StayTable, OutcomeTable) for name in part.model_fields
    }
    assert fields - OF_GATEWAYS - named == set()
