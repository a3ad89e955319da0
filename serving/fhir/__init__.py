"""FHIR R4 (4.0.1, https://hl7.org/fhir/R4): resources that arrive, as the observations that every door hands over.

The mapping reads parsed JSON. It checks the elements that it reads, and refuses what it does not understand.
"""
