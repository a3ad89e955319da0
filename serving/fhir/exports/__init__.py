"""Exports of many resources at once: Bulk Data Access 2.0 of HL7 (https://hl7.org/fhir/uv/bulkdata/STU2/export.html)."""
