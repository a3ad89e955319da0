// The walk of a record system through the FHIR routes, with fhir-kit-client. Prints what it got as JSON.
import { Client } from "fhir-kit-client";

const sent = JSON.parse(process.argv[2]);
const client = new Client({ baseUrl: `${process.env.URL}/fhir`, bearerToken: process.env.TOKEN });
const statusOf = (answer) => Client.httpFor(answer).response.status;
const create = (body, headers = {}) => client.create({ resourceType: body.resourceType, body, options: { headers } });
const said = { fhir_version: (await client.capabilityStatement()).fhirVersion };

const patient = await create(sent.patient);
said.patient = patient.id;
said.encounter = (await create(sent.encounter)).id;
const observation = await create(sent.observations[0]);
said.observation = observation.id;
const again = await create(sent.observations[0], { "If-None-Exist": `identifier=${sent.identifier}` });
said.created_again = statusOf(again) === 201;
const update = await client.update({
  resourceType: "Patient", searchParams: { identifier: sent.patient_identifier }, body: sent.patient,
});
said.patient_created_again = statusOf(update) === 201;

const body = { ...observation, status: "corrected" };
body.valueQuantity.value += 1;
const options = { headers: { "If-Match": `W/"${observation.meta.versionId}"` } };
const updated = await client.update({ resourceType: "Observation", id: observation.id, body, options });
said.version_after_update = updated.meta.versionId;
const mistaken = await create(sent.mistaken);
await client.delete({ resourceType: "Observation", id: mistaken.id });

try {
  await create(sent.refused);
} catch (error) {
  said.refused = error.response.data.issue[0].details.text;
}
for (const kind of ["batch", "transaction"]) {
  said[kind] = (await client[kind]({ body: sent[kind] })).entry.map((entry) => entry.response.status);
}

const deadline = Date.now() + 30_000;
let found = [];
while (Date.now() < deadline) {
  const answer = await client.search({
    resourceType: "RiskAssessment",
    searchParams: { "patient.identifier": sent.patient_identifier },
    options: { postSearch: true },
  });
  found = (answer.entry ?? []).map((entry) => entry.resource);
  if (found.length && found[0].prediction[0].qualitativeRisk.text === sent.band) break;
  await new Promise((resolve) => setTimeout(resolve, 200));
}
said.risks = found.map((risk) => risk.prediction[0].qualitativeRisk.text);
said.subject = found[0]?.subject.reference ?? null;
console.log(JSON.stringify(said));
