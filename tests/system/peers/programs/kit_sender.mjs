// A gateway that sends Observations with fhir-kit-client until it is told to stop, and sends again what had no answer.
// Arguments and output are those of fhirpy_sender.py.
import { existsSync, readFileSync } from "node:fs";
import { Client } from "fhir-kit-client";

const [folder, name] = process.argv.slice(2);
const pause = () => new Promise((resolve) => setTimeout(resolve, 50));
let last = 0;

const deliver = async (send) => {
  for (;;) {
    try {
      const baseUrl = `${readFileSync(`${folder}/url`, "utf8")}/fhir`;
      return await send(new Client({ baseUrl, bearerToken: process.env.TOKEN }));
    } catch (error) {
      const status = error.response?.status ?? 0;
      if (status >= 400 && status < 500 && status !== 429) throw error;
      await pause();
    }
  }
};

const observation = (number, more = {}) => {
  last = Math.max(last + 1, Date.now());
  return {
    resourceType: "Observation",
    status: "final",
    identifier: [{ system: "urn:soak", value: `${name}-${number}` }],
    code: { coding: [{ system: "http://loinc.org", code: "8867-4" }] },
    subject: { identifier: { system: "urn:soak:patients", value: name } },
    effectiveDateTime: new Date(last).toISOString(),
    valueQuantity: { value: Math.round(600 + Math.random() * 600) / 10, system: "http://unitsofmeasure.org", code: "/min" },
    ...more,
  };
};

const acknowledged = (...sent) => {
  for (const each of sent) console.log(JSON.stringify({ at: each.effectiveDateTime, value: each.valueQuantity.value }));
};

for (let number = 0; !existsSync(`${folder}/stop`); number += 10) {
  const single = observation(number);
  const headers = { "If-None-Exist": `identifier=urn:soak|${name}-${number}` };
  await deliver((client) => client.create({ resourceType: "Observation", body: single, options: { headers } }));
  acknowledged(single);

  const entries = [1, 2, 3, 4, 5].map((position) => observation(number + position));
  const entry = entries.map((resource) => ({ resource, request: { method: "POST", url: "Observation" } }));
  const type = number % 20 ? "batch" : "transaction";
  const answer = await deliver((client) => client[type]({ body: { resourceType: "Bundle", type, entry } }));
  const statuses = answer.entry.map((each) => each.response.status);
  if (!statuses.every((status) => ["200", "201"].includes(status))) throw new Error(JSON.stringify(answer));
  acknowledged(...entries);

  const id = `${name}-own-${number}`;
  const first = observation(number + 6, { id });
  const changed = { ...first, status: "corrected", valueQuantity: { ...first.valueQuantity, value: 130.5 } };
  for (const body of [first, changed]) {
    await deliver((client) => client.update({ resourceType: "Observation", id, body }));
  }
  acknowledged(changed);
}
