"""Settings that a search proposes for training, as ``vigil tune`` writes them or people do."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vigil.features.errors import VigilError


class ProposalError(VigilError):
    """A file that holds no settings, or settings that were found for other features."""


@dataclass(frozen=True)
class Proposal:
    """Settings for the registered variant.

    Attributes:
        parameters: by the names that ``vigil train --set`` takes.
        feature_service: that they were found for; None: people wrote them.
        run_id: of the search in MLflow, for the run of the training; None: people wrote them.
    """

    parameters: Mapping[str, Any]
    feature_service: str | None = None
    run_id: str | None = None

    @classmethod
    def read(cls, path: Path) -> "Proposal":
        """Read the file of ``vigil tune``, or settings by name.

        Raises:
            ProposalError: the file holds neither.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise ProposalError(
                f"--params {path}: not readable as JSON; expected what vigil tune wrote: reports/tuning.json"
            ) from None
        if not isinstance(content, dict) or not isinstance(content.get("parameters", {}), dict):
            raise ProposalError(f'--params {path}: holds no settings; expected {{"num_leaves": 8}}, or what vigil tune wrote')
        if "parameters" not in content:
            return cls(content)
        return cls(content["parameters"], content.get("feature_service"), content.get("run_id"))

    def require_service(self, service: str) -> None:
        """Check that the settings were found for a feature service.

        Raises:
            ProposalError: they were found for another one.
        """
        if self.feature_service not in {None, service}:
            raise ProposalError(
                f"--params: found for the feature service {self.feature_service}; expected {service}, which this training "
                f"reads; name the other one, --service {self.feature_service}, or search again: vigil tune"
            )
