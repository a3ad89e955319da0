"""Exports of a home's cohort in formats that other programs read: MEDS and the OMOP common data model.

Only what counts leaves the home, under pseudonyms: no identifier of a patient, and nothing of the quarantine.
"""

from vigil.pipelines.exports.cohort import FORMATS, Exported, export_cohort

__all__ = ["FORMATS", "Exported", "export_cohort"]
