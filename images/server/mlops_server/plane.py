"""KServe's data plane with honest answers: ready means loaded, metadata names the version, no repository extension."""

from typing import Any

from kserve import ModelRepository
from kserve.protocol.dataplane import DataPlane

from mlops_server.model import ServedModel


class HonestDataPlane(DataPlane):
    """One model; REST and gRPC both ask here."""

    def __init__(self, model: ServedModel) -> None:
        registry = ModelRepository()
        registry.update(model)
        super().__init__(model_registry=registry)
        self._model = model

    async def ready(self) -> bool:
        """Whether the model is loaded."""
        return bool(self._model.ready)

    def metadata(self) -> dict[str, Any]:
        """The server's name, KServe's version and the extensions that are open."""
        return {**super().metadata(), "name": "mlops-server", "extensions": ["binary_tensor_data"]}

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        """KServe's answer and the one version there is."""
        return {**await super().model_metadata(model_name), "versions": [self._model.version]}
