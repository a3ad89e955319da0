"""Requests and answers about merges: two patient identifiers of one person."""

from typing import Annotated

from pydantic import BaseModel, Field

from vigil.serving.api.schemas.request import PatientId, Request, example


class MergeIn(Request):
    """The identifier that is replaced, and the one that survives."""

    model_config = example({"patient_id": "emergency-0042", "into": "sim-000017"})

    patient_id: PatientId
    into: PatientId


class UnmergeIn(Request):
    """The identifier that was replaced, and is of a person of their own after all."""

    model_config = example({"patient_id": "emergency-0042"})

    patient_id: PatientId


class MergeAnswer(BaseModel):
    """The patient that an identifier stands for from now on."""

    patient_id: str
    merged_into: Annotated[
        str | None, Field(description="The surviving identifier, at the end of all merges; null: it counts for itself.")
    ]
    changed: Annotated[bool, Field(description="False: it was so already, and nothing was stored.")]
    ward: Annotated[
        str | None,
        Field(
            description="Where the patient is from now on: age, sex, admission and ward are those of the surviving identifier. "
            "Null: it is not registered, so that the patient is in no ward's list. Register it."
        ),
    ]
    discharged: Annotated[bool, Field(description="True: the patient is in no ward's list. Are they here? Register them.")]
