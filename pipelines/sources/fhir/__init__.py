"""A cohort of FHIR R4: the folder of a bulk export, or Bundles. :mod:`vigil.serving.fhir` says what its Observations mean."""

from vigil.pipelines.sources.fhir.cohort import FhirCohort

__all__ = ["FhirCohort"]
