// A record system that asks for cards about a patient, with Medplum's client of CDS Hooks. Prints what it got as JSON.
globalThis.WebSocket ??= class {}; // Node 20 has none, and Medplum's client asks for one when it is loaded
const { MedplumClient } = await import("@medplum/core");

const { patient, patient_id: patientId } = JSON.parse(process.argv[2]);
const client = new MedplumClient({ baseUrl: `${process.env.URL}/`, accessToken: process.env.TOKEN, fetch });
const { services } = await client.getCdsServices();
const call = async (hook, prefetch) => {
  const context = { userId: "Practitioner/1", patientId };
  const body = { hook, hookInstance: crypto.randomUUID(), context, ...(prefetch ? { prefetch } : {}) };
  const service = services.find((each) => each.hook === hook);
  try {
    return (await client.callCdsService(service.id, body)).cards;
  } catch (error) {
    return error.message;
  }
};
const said = {
  services: services.map((service) => [service.id, service.hook, service.prefetch]),
  view: await call("patient-view", { patient }),
  unknown: await call("patient-view", { patient: null }),
};
const start = services.find((each) => each.hook === "encounter-start");
said.start = start ? await call("encounter-start", { patient }) : null;
const [card] = said.view;
const path = `${process.env.URL}/cds-services/${services[0].id}/feedback`;
const headers = { "Content-Type": "application/json", Authorization: `Bearer ${process.env.TOKEN}` };
const outcome = { card: card.uuid, outcome: "overridden", overrideReason: { reason: card.overrideReasons[0] } };
const feedback = { feedback: [{ ...outcome, outcomeTimestamp: new Date().toISOString() }] };
said.feedback = (await fetch(path, { method: "POST", headers, body: JSON.stringify(feedback) })).status;
console.log(JSON.stringify(said));
