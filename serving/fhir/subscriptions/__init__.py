"""Topic-based subscriptions for R4 (HL7, Subscriptions R5 Backport 1.1, https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/)."""
