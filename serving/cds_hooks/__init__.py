"""CDS Hooks 2.0 (https://cds-hooks.hl7.org/2.0/): a card in the chart, where a clinician opens a patient."""
