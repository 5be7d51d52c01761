"""The model as KServe sees it: preprocess, predict, postprocess, and never ready before it is loaded."""

import asyncio
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from kserve import InferRequest, InferResponse, Model
from kserve.errors import InvalidInput, ModelNotReady

from mlops_server.choice import Choice
from mlops_server.formats import ModelFileError
from mlops_server.hook import Hook
from mlops_server.tensors import MAIN_OUTPUT, matrix, named, respond

PROBABILITIES = "predict_proba"


class NotReadyError(ModelNotReady):
    """The model is still being loaded; KServe's gRPC layer asks for a `reason`."""

    @property
    def reason(self) -> str:
        """The message."""
        return str(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What `preprocess` hands to `predict`: the request, and what the model is to be given."""

    request: InferRequest
    inputs: Any


class ServedModel(Model):
    """One model under one name; `model_version` of its answers is the beginning of its content id."""

    def __init__(self, choice: Choice, hook: Hook) -> None:
        super().__init__(choice.name)
        self.version = choice.version
        self._hook = hook
        self._estimator: Any = None
        self._pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="predict")
        self._main = PROBABILITIES if os.environ.get("PREDICT_PROBA", "").lower() == "true" else "predict"

    def take(self, estimator: Any) -> None:  # noqa: ANN401 - an estimator has no type of its own
        """Serve `estimator` from now on; raise `ModelFileError` when it cannot predict."""
        if self._hook.predict is None and not hasattr(estimator, self._main):
            kind = type(estimator).__name__
            raise ModelFileError(f"the model is a `{kind}`, which has no `{self._main}`: a hook can define one")
        self._estimator = estimator
        self.ready = True

    def load(self) -> bool:
        """KServe asks a model that is not ready to load; ours is being loaded already."""
        raise NotReadyError(self.name)

    def get_input_types(self) -> list[dict[str, Any]]:
        """The features that the estimator says it wants, as one tensor; nothing where a hook comes before it."""
        features = getattr(self._estimator, "n_features_in_", None)
        if features is None or self._hook.preprocess or self._hook.predict:
            return []
        return [{"name": "input-0", "datatype": "FP64", "shape": [-1, int(features)]}]

    def preprocess(self, payload: InferRequest, headers: dict[str, str] | None = None) -> Prepared:
        """Apply the hook's step; what it leaves a request becomes an array or a data frame."""
        inputs: Any = payload
        if self._hook.preprocess is not None:
            try:
                inputs = self._hook.preprocess(payload, headers or {})
            except ValueError as error:
                raise InvalidInput(str(error)) from error
        return Prepared(request=payload, inputs=matrix(inputs) if isinstance(inputs, InferRequest) else inputs)

    async def predict(
        self,
        payload: Prepared,
        headers: dict[str, str] | None = None,  # noqa: ARG002 - KServe's signature
        response_headers: dict[str, str] | None = None,  # noqa: ARG002 - as above
    ) -> InferResponse:
        """Run the model in a thread, so that a slow prediction does not silence the health check."""
        loop = asyncio.get_running_loop()
        results = await loop.run_in_executor(self._pool, self._results, payload)
        return respond(payload.request, results, self.version)

    def postprocess(
        self,
        result: InferResponse,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,  # noqa: ARG002 - KServe's signature
    ) -> InferResponse:
        """Apply the hook's step, and refuse a request for outputs that there are not."""
        if self._hook.postprocess is not None:
            result = self._hook.postprocess(result, headers or {})
            result.model_version = self.version
        there = [output.name for output in result.outputs]
        for output in result._requested_outputs or ():  # noqa: SLF001 - kserve keeps it private and hands it to nobody
            if output.name not in there:
                raise InvalidInput(f"there is no output `{output.name}`: the model gives {', '.join(there)}")
        return result

    def _results(self, payload: Prepared) -> Mapping[str, Any]:
        if self._hook.predict is not None:
            try:
                return named(self._hook.predict(self._estimator, payload.inputs))
            except ValueError as error:
                raise InvalidInput(str(error)) from error
        wanted = {output.name for output in payload.request.request_outputs or ()}
        results: dict[str, Any] = {}
        if not wanted or MAIN_OUTPUT in wanted or PROBABILITIES not in wanted:
            results |= named(self._call(self._main, payload.inputs))
        if PROBABILITIES in wanted:
            results[PROBABILITIES] = self._call(PROBABILITIES, payload.inputs)
        return results

    def _call(self, method: str, inputs: Any) -> Any:  # noqa: ANN401 - whatever the estimator takes and gives
        call = getattr(self._estimator, method, None)
        if call is None:
            raise InvalidInput(f"there is no output `{method}`: the model is a `{type(self._estimator).__name__}`")
        try:
            return call(inputs)
        except (ValueError, TypeError) as error:  # how scikit-learn refuses input: features, types, missing values
            raise InvalidInput(str(error)) from error
