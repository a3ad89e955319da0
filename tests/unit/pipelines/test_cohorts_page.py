"""The page about mappings: its example is one, and it explains every field."""

import re
import tomllib

from tests.support import ROOT
from vigil.models.own_tasks import TaskSettings
from vigil.pipelines.sources.table.mapping import CohortMapping, FileSettings, ObservationTable, OutcomeTable, StayTable

PAGE = (ROOT / "docs/cohorts.md").read_text()
# Of sources of the API, not of cohorts.
OF_GATEWAYS = {"clock", "carry_hours", "stopped_after_minutes"}


def test_its_example_is_a_mapping():
    example, task, _ = (tomllib.loads(text) for text in re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL))
    assert len(CohortMapping.model_validate(example).tables) == 4
    assert CohortMapping.model_validate(example | task).question()[0].name == "icu_transfer"
    given = TaskSettings.model_validate(task["task"])
    least = TaskSettings(name=given.name, outcome=given.outcome, horizon_hours=given.horizon_hours)
    assert given.model_copy(update={"first_hours": 0, "age_from": None}) == least


def test_every_field_is_explained():
    named = set(re.findall(r"`\[?(\w+)", PAGE))
    named |= {name for pair in re.findall(r"^(\w+) =|^\[+(\w+)", PAGE, flags=re.MULTILINE) for name in pair}
    fields = {
        name
        for part in (CohortMapping, TaskSettings, FileSettings, ObservationTable, StayTable, OutcomeTable)
        for name in part.model_fields
    }
    assert fields - OF_GATEWAYS - named == set()
