"""The page about mappings: its example is one, and it explains every field."""

import re
import tomllib

from tests.support import ROOT
from vigil.models.own_tasks import TaskSettings
from vigil.pipelines.sources.table.aces import read_aces
from vigil.pipelines.sources.table.mapping import (
    CohortMapping,
    EventTable,
    FileSettings,
    ObservationTable,
    OutcomeTable,
    StayTable,
)

PAGE = (ROOT / "docs/cohorts.md").read_text()
# Of sources of the API, not of cohorts.
OF_GATEWAYS = {"clock", "carry_hours", "stopped_after_minutes"}


def test_its_example_is_a_mapping():
    example, task, events, _ = (tomllib.loads(text) for text in re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL))
    assert len(CohortMapping.model_validate(example).tables) == 4
    assert CohortMapping.model_validate(example | task).task.name == "icu_transfer"
    assert len(CohortMapping.model_validate(example | {"database": "files"} | events).tables) == 5
    given = TaskSettings.model_validate(task["task"])
    least = TaskSettings(name=given.name, outcome=given.outcome, horizon_hours=given.horizon_hours)
    assert given.model_copy(update={"first_hours": 0, "age_from": None}) == least


def test_every_field_is_explained():
    named = set(re.findall(r"`\[?(\w+)", PAGE))
    named |= {name for pair in re.findall(r"^(\w+) =|^\[+(\w+)", PAGE, flags=re.MULTILINE) for name in pair}
    fields = {
        name
        for part in (CohortMapping, TaskSettings, FileSettings, ObservationTable, StayTable, OutcomeTable, EventTable)
        for name in part.model_fields
    }
    assert fields - OF_GATEWAYS - named == set()


def test_its_task_file_of_aces_can_be_read(tmp_path):
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    path = tmp_path / "icu_mortality.aces.yaml"
    path.write_text(text)
    task, settings = read_aces(path)
    assert (settings.name, settings.outcome, settings.horizon_hours, settings.index) == ("icu_mortality", "death", 48, "end")
    assert (task.windows["input"].has, task.windows_after_the_question()) == ({"_ANY_EVENT": [5, None]}, [])
