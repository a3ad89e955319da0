"""What the FHIR doors promise, as a page: every test of them by its name, which says what holds.

``python -m tests.support.conformance`` writes docs/conformance.md again.
"""

import ast

from tests.support import ROOT

PAGE = ROOT / "docs" / "conformance.md"
AREAS = {
    "FHIR in": (
        "tests/unit/serving/fhir/test_observations.py",
        "tests/integration/serving/fhir/test_inbound.py",
        "tests/integration/serving/fhir/test_observation_versions.py",
        "tests/integration/serving/fhir/test_encounters.py",
        "tests/integration/serving/fhir/test_one_patient.py",
        "tests/integration/serving/fhir/test_devices.py",
        "tests/integration/serving/fhir/test_unidentified.py",
        "tests/integration/serving/fhir/test_synthea.py",
    ),
    "FHIR out": (
        "tests/unit/serving/fhir/test_readings.py",
        "tests/integration/serving/fhir/test_reads.py",
        "tests/integration/serving/fhir/test_risk_assessments.py",
        "tests/integration/serving/fhir/test_past_risks.py",
        "tests/integration/serving/fhir/test_news2.py",
        "tests/integration/serving/fhir/test_detected_issues.py",
        "tests/system/peers/test_validation.py",
    ),
    "Bulk export": (
        "tests/integration/serving/fhir/test_exports.py",
        "tests/integration/serving/fhir/test_export_chains.py",
    ),
    "Subscriptions": (
        "tests/integration/serving/fhir/test_subscriptions.py",
        "tests/integration/serving/fhir/test_numbering.py",
    ),
    "SMART and CDS Hooks": (
        "tests/integration/serving/smart/test_token_endpoint.py",
        "tests/integration/serving/cds_hooks/test_cards.py",
    ),
    "Every route": (
        "tests/integration/serving/fhir/test_base.py",
        "tests/integration/serving/fhir/test_every_scope.py",
        "tests/integration/serving/fhir/test_generated.py",
    ),
    "Peers": (
        "tests/system/peers/test_clients.py",
        "tests/system/peers/test_sekmet.py",
        "tests/system/peers/test_sekmet_subscriptions.py",
        "tests/system/peers/test_bulk.py",
        "tests/system/peers/test_cds_hooks.py",
        "tests/system/peers/test_killed.py",
    ),
}
HEAD = """# What the FHIR doors promise

Each line is a test that continuous integration runs, by its name. This page is made of the tests, and never edited:
`python -m tests.support.conformance` writes it. What is offered, and how to use it, is in [FHIR](fhir.md).
"""


def page():
    """Return the page."""
    parts = [HEAD]
    for area, files in AREAS.items():
        parts.append(f"## {area}\n")
        for file in files:
            module = ast.parse((ROOT / file).read_text())
            names = [node.name for node in module.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
            about = ast.get_docstring(module).partition("\n")[0]
            parts.append(f"**{about}** `{file}`\n")
            parts.append("".join(f"- {sentence(name)}\n" for name in names))
    return "\n".join(parts)


def sentence(name):
    """Return the name of a test as a sentence."""
    words = name.removeprefix("test_").replace("_", " ")
    return words[:1].upper() + words[1:]


if __name__ == "__main__":
    PAGE.write_text(page())
