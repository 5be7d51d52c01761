"""Between the wire and numpy: requests are read strictly, so that what a client got wrong is told to the client."""

import io
import struct
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import pandas as pd
from kserve import InferInput, InferOutput, InferRequest, InferResponse
from kserve.errors import InvalidInput
from kserve.protocol.infer_type import RequestedOutput, deserialize_bytes_tensor
from kserve.utils.numpy_codec import from_np_dtype, to_np_dtype

BINARY_HEADER = "inference-header-content-length"
MAIN_OUTPUT = "output-0"
_MOST_DIMENSIONS = 32  # of an array, in every numpy
_NUMERIC = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}


def read_request(body: bytes, headers: Mapping[str, str], model: str) -> InferRequest:
    """Decode an infer request, JSON or with the binary tensor extension; raise `InvalidInput` for what is wrong."""
    head, tensors = _split(body, headers.get(BINARY_HEADER))
    try:
        message = orjson.loads(head)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is not JSON: {error}") from error
    if not isinstance(message, dict) or not isinstance(message.get("inputs"), list) or not message["inputs"]:
        raise InvalidInput("expected a JSON object with a list `inputs` of at least one tensor")
    _expect(message, "id", str)
    _expect(message, "parameters", dict)
    inputs = [_read_input(tensor, tensors) for tensor in message["inputs"]]
    if tensors.read():
        raise InvalidInput("the body has more bytes than its tensors")
    return InferRequest(
        model_name=model,
        infer_inputs=inputs,
        request_id=message.get("id"),
        parameters=message.get("parameters") or {},
        request_outputs=_read_outputs(message),
    )


def _split(body: bytes, length: str | None) -> tuple[bytes, io.BytesIO]:
    """The JSON part of a body, and the bytes of binary tensors after it."""
    if length is None:
        return body, io.BytesIO()
    if not length.isdecimal() or int(length) > len(body):
        raise InvalidInput(f"`{BINARY_HEADER}` is not the length of the body's JSON part")
    return body[: int(length)], io.BytesIO(body[int(length) :])


def _expect(message: Mapping[str, Any], key: str, kind: type) -> None:
    if message.get(key) is not None and not isinstance(message[key], kind):
        raise InvalidInput(f"`{key}` must be a {'string' if kind is str else 'JSON object'}")


def _read_outputs(message: Mapping[str, Any]) -> list[RequestedOutput] | None:
    outputs = message.get("outputs")
    if outputs is None or outputs == []:
        return None
    if not isinstance(outputs, list) or not all(_has_name(output) for output in outputs):
        raise InvalidInput("`outputs` must be a list of objects with a `name`")
    if len({output["name"] for output in outputs}) != len(outputs):  # a short request for an answer without end
        raise InvalidInput("`outputs` asks for an output twice")
    return [_read_output(output) for output in outputs]


def _has_name(output: object) -> bool:
    return isinstance(output, dict) and isinstance(output.get("name"), str)


def _read_output(output: Mapping[str, Any]) -> RequestedOutput:
    _expect(output, "parameters", dict)
    return RequestedOutput(name=output["name"], parameters=output.get("parameters") or {})


def _read_input(tensor: object, tensors: io.BytesIO) -> InferInput:
    if not isinstance(tensor, dict):
        raise InvalidInput("each input must be a JSON object")
    name, shape, datatype = (tensor.get(key) for key in ("name", "shape", "datatype"))
    if not isinstance(name, str) or not isinstance(datatype, str):
        raise InvalidInput("each input needs a `name` and a `datatype`")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise InvalidInput(f"the `shape` of input `{name}` must be a list of sizes")
    if len(shape) > _MOST_DIMENSIONS:
        raise InvalidInput(
            f"the `shape` of input `{name}` has {len(shape)} dimensions, at most {_MOST_DIMENSIONS} are taken"
        )
    _expect(tensor, "parameters", dict)
    parameters = tensor.get("parameters") or {}
    array = _array(name, datatype, tensor.get("data"), parameters.get("binary_data_size"), tensors)
    if array.size != np.prod(shape, dtype=object):
        raise InvalidInput(f"input `{name}` has {array.size} values, its shape {shape} asks for another number")
    try:
        return InferInput(name, shape, datatype, data=array.reshape(shape), parameters=parameters)
    except (ValueError, OverflowError) as error:  # no values, and a size beyond what an array can have
        raise InvalidInput(f"input `{name}` cannot have the shape {shape}: {error}") from error


def _array(name: str, datatype: str, data: object, size: object, tensors: io.BytesIO) -> np.ndarray:
    dtype = to_np_dtype(datatype)
    if dtype is None or (datatype == "FP16" and size is None):
        raise InvalidInput(f"input `{name}`: `{datatype}` is not a datatype of such data")
    try:
        array = _binary(datatype, size, tensors) if data is None else _plain_data(datatype, data)
    except (ValueError, TypeError, OverflowError, struct.error) as error:
        raise InvalidInput(f"the data of input `{name}` is not {datatype}: {error}") from error
    return array


def _binary(datatype: str, size: object, tensors: io.BytesIO) -> np.ndarray:
    if type(size) is not int or size < 0:
        raise ValueError("there is neither `data` nor a `binary_data_size`")
    raw = tensors.read(size)
    if len(raw) != size:
        raise ValueError(f"the body ends {size - len(raw)} bytes early")
    return deserialize_bytes_tensor(raw) if datatype == "BYTES" else np.frombuffer(raw, to_np_dtype(datatype))


def _plain_data(datatype: str, data: object) -> np.ndarray:
    if not isinstance(data, list):
        raise TypeError("`data` must be a list")
    array = np.array(data, dtype=to_np_dtype(datatype))
    given = array if datatype == "BYTES" else np.asarray(data)
    if array.size and not _fits(given, array.dtype.kind):
        raise ValueError("values of another kind")
    return array


def _fits(given: np.ndarray, kind: str) -> bool:
    """Whether values as they stood in the JSON text are of the kind that the datatype says; null is a missing float."""
    if kind == "O":
        return all(isinstance(value, str) for value in given.flat)
    if kind == "f" and given.dtype.kind == "O":
        return all(value is None or type(value) in (int, float) for value in given.flat)
    return given.dtype.kind in _NUMERIC[kind]


def matrix(request: InferRequest) -> Any:  # noqa: ANN401 - an array or a data frame
    """What an estimator is given: the one tensor as an array, several as the columns of a data frame."""
    arrays = {tensor.name: _as_array(tensor) for tensor in request.inputs}
    if len(arrays) != len(request.inputs):
        raise InvalidInput("two inputs have the same name")
    if len(arrays) == 1 and _content_type(request) != "pd":
        return next(iter(arrays.values()))
    if any(array.shape[:1] != (array.size,) for array in arrays.values()) or len({a.size for a in arrays.values()}) > 1:
        raise InvalidInput("inputs are the columns of one table here: each must have one value per row")
    return pd.DataFrame({name: array.reshape(-1) for name, array in arrays.items()})


def _content_type(request: InferRequest) -> str | None:
    given = (request.parameters or {}).get("content_type")
    return getattr(given, "string_param", given)


def _as_array(tensor: InferInput) -> np.ndarray:
    try:
        array = tensor.as_numpy()
        return _as_text(array) if tensor.datatype == "BYTES" else array
    except InvalidInput:
        raise
    except Exception as error:
        raise InvalidInput(f"input `{tensor.name}` is no {tensor.datatype} tensor {tensor.shape}: {error}") from error


def _as_text(array: np.ndarray) -> np.ndarray:
    texts = [value.decode() if isinstance(value, bytes) else value for value in array.flat]
    return np.array(texts, dtype=object).reshape(array.shape)


def respond(request: InferRequest, results: Mapping[str, Any], version: str) -> InferResponse:
    """The answer to `request`, its tensors in the order of `results`."""
    binary = bool(request.use_binary_outputs)
    outputs = [_output(name, result) for name, result in results.items()]
    if request.from_grpc:
        for output in outputs:
            output.set_data_from_numpy(output.data, binary_data=binary)
    return InferResponse(
        response_id=request.id or str(uuid.uuid4()),
        model_name=request.model_name,
        model_version=version,
        infer_outputs=outputs,
        use_binary_outputs=binary,
        requested_outputs=request.request_outputs,
    )


def _output(name: str, result: Any) -> InferOutput:  # noqa: ANN401 - whatever a model returns
    array = np.atleast_1d(result.toarray() if hasattr(result, "toarray") else np.asarray(result))
    if array.dtype.kind in "USO":
        array = _as_text(array.astype(object))
    datatype = from_np_dtype(array.dtype)
    if datatype is None:
        raise TypeError(f"output `{name}` is of type `{array.dtype}`, which the protocol cannot carry")
    return InferOutput(name, list(array.shape), datatype, data=array)


def named(result: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever a model returns
    """Results by output name: a mapping's keys, a data frame's columns, otherwise `output-0`."""
    if isinstance(result, Mapping):
        return dict(result)
    if isinstance(result, pd.DataFrame):
        return {str(column): result[column].to_numpy() for column in result.columns}
    return {MAIN_OUTPUT: result}


def write_response(response: InferResponse) -> tuple[bytes, dict[str, str]]:
    """The body and its headers; binary tensors where the request asked for them."""
    wanted = response._requested_outputs  # noqa: SLF001 - kserve keeps it private and hands it to nobody
    if response._use_binary_outputs or any(output.binary_data for output in wanted or ()):  # noqa: SLF001 - as above
        return _write_binary(response)
    outputs = [response.get_output_by_name(output.name) for output in wanted] if wanted else response.outputs
    message = {
        "model_name": response.model_name,
        "model_version": response.model_version,
        "id": response.id,
        "outputs": [_plain(output) for output in outputs],
    }
    if response.parameters:
        message["parameters"] = response.parameters
    return orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY), {"content-type": "application/json"}


def _write_binary(response: InferResponse) -> tuple[bytes, dict[str, str]]:
    body, length = response.to_rest()
    if length is None:
        return orjson.dumps(body), {"content-type": "application/json"}
    return body, {"content-type": "application/octet-stream", BINARY_HEADER: str(length)}


def _plain(output: InferOutput) -> dict[str, Any]:
    array = output.data if isinstance(output.data, np.ndarray) else output.as_numpy()
    numeric = array.dtype.kind != "O"
    data = np.ascontiguousarray(array).reshape(-1) if numeric else [str(value) for value in array.flat]
    return {"name": output.name, "shape": list(array.shape), "datatype": output.datatype, "data": data}
