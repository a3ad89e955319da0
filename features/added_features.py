"""What a package adds by an entry point ``vigil.features``: a view of features, and the services that read them."""

from dataclasses import dataclass
from importlib.resources.abc import Traversable

from vigil.features.derived import DerivedFeatures
from vigil.features.windows import WindowFeature


@dataclass(frozen=True)
class AddedFeatures:
    """A view of an installed package. It has the name of its entry point, and is computed where a model reads it.

    Attributes:
        declarations: of its features, which no view of Vigil has.
        services: folder of feature services that never change, as :func:`vigil.features.services.store_service` writes them;
            None: it has none. Each holds the view ``scores``, because an answer shows NEWS2.
    """

    declarations: tuple[WindowFeature | DerivedFeatures, ...]
    services: Traversable | None = None
