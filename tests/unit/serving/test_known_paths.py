"""The paths of the server: what is not among them is answered with 404 before the application sees it."""

import pytest

from vigil.serving.api.known_paths import KnownPaths
from vigil.serving.app import create_app, known_paths
from vigil.serving.fhir.interactions import RESOURCES

KNOWN = known_paths(create_app())


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/v1/risk", "/v1/risk"),
        ("/fhir", "/fhir"),
        ("/fhir/", "/fhir/"),
        ("/fhir/metadata", "/fhir/metadata"),
        ("/fhir/Observation/4711", "/fhir/Observation/{id}"),
        ("/cds-services/vigil-patient-view/feedback", "/cds-services/{id}/feedback"),
        ("/fhir/Observation/4711/5", None),
        ("/fhir/Medication", None),
        ("/v1/risk/4711", None),
    ],
)
def test_path_is_known_by_its_template_which_holds_nothing_of_the_caller(path, template):
    assert KNOWN.template(path) == template


@pytest.mark.parametrize("offered", RESOURCES, ids=lambda offered: offered.type)
def test_every_resource_that_is_offered_has_a_path(offered):
    assert (KNOWN.template(f"/fhir/{offered.type}") is not None) == bool({"create", "search-type"} & set(offered.interactions))
    assert (KNOWN.template(f"/fhir/{offered.type}/x") is not None) == bool({"read", "update"} & set(offered.interactions))
    if "search-type" in offered.interactions:
        assert KNOWN.template(f"/fhir/{offered.type}/_search") is not None


def test_an_exact_path_comes_before_one_with_a_parameter():
    assert KnownPaths(["/a/{id}", "/a/b"]).template("/a/b") == "/a/b"
