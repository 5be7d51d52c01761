"""The server contract against the real image: chosen by environment, honestly ready, strict with its clients."""

import hashlib
import http.client
import json
import re
import signal
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.routers import until

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]

# Runs in the image: models of every format, each in `v/<id>` behind a link of its name.
MAKE = """
import hashlib, pathlib, pickle, sys, time
import joblib, skops.io
import sklearn.base
from sklearn.datasets import load_digits, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

volume = pathlib.Path("/model")

def put(name, file, save):
    stage = volume / "stage"
    stage.mkdir()
    save(stage / file)
    content = hashlib.sha256(name.encode()).hexdigest()
    (volume / "v").mkdir(exist_ok=True)
    stage.rename(volume / "v" / content)
    (volume / name).symlink_to(f"v/{content}")

class Wait:
    def __reduce__(self):
        return exec, ("import os, time\\nwhile not os.path.exists('/tmp/go'): time.sleep(0.05)", {})

class Leave:
    def __reduce__(self):
        return sys.exit, (3,)

digits, wine = load_digits(), load_wine()
classifier = LogisticRegression(max_iter=300).fit(digits.data / 16, digits.target)
named = make_pipeline(StandardScaler(), LogisticRegression()).fit(wine.data, wine.target_names[wine.target])
put("digits", "model.joblib", lambda path: joblib.dump(classifier, path))
put("digits-xz", "weights", lambda path: joblib.dump(classifier, path, compress=("xz", 3)))
put("wine", "wine.pkl", lambda path: path.write_bytes(pickle.dumps(named)))
put("wine-skops", "wine.skops", lambda path: skops.io.dump(named, path))
put("stranger", "odd.skops", lambda path: skops.io.dump({"a": time.sleep}, path))
put("broken", "model.joblib", lambda path: path.write_bytes(pickle.dumps(classifier)[:200]))
put("useless", "model.pkl", lambda path: path.write_bytes(pickle.dumps({"no": "predict"})))
put("old-way", "model.pkl", lambda path: path.write_bytes(pickle.dumps(classifier, protocol=0)))
put("leaver", "model.pkl", lambda path: path.write_bytes(pickle.dumps(Leave())))
put("nothing", "notes.txt", lambda path: path.write_text("hello"))
classifier.delay = Wait()
put("late", "model.joblib", lambda path: joblib.dump(classifier, path))
sklearn.base.__version__ = "1.0.2"
put("aged", "model.joblib", lambda path: joblib.dump(named, path))
(volume / "loop").symlink_to("loop")
(volume / "v" / ("c" * 64)).symlink_to("/tmp")
"""

SLOW_HOOK = """
import pathlib, time
def predict(model, inputs):
    pathlib.Path("/hook/begun").touch()
    while not pathlib.Path("/hook/go").exists():
        time.sleep(0.05)
    return model.predict(inputs)
"""

GRPC = """
import json, sys
import grpc
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb, grpc_predict_v2_pb2_grpc as service

stub = service.GRPCInferenceServiceStub(grpc.insecure_channel("localhost:8081"))

def infer(name, shape, data, **more):
    tensor = {"name": "x", "datatype": "FP64", "shape": shape, "contents": {"fp64_contents": data}}
    return stub.ModelInfer(pb.ModelInferRequest(model_name=name, inputs=[tensor], **more))

def code(call, *message, **more):
    try:
        call(*message, **more)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"

answer = infer("digits", [1, 64], [0.5] * 64)
print(json.dumps({
    "version": answer.model_version,
    "output": [answer.outputs[0].name, answer.outputs[0].datatype, list(answer.outputs[0].contents.int64_contents)],
    "ready": stub.ModelReady(pb.ModelReadyRequest(name="digits")).ready,
    "metadata": list(stub.ModelMetadata(pb.ModelMetadataRequest(name="digits")).versions),
    "features": code(infer, "digits", [1, 3], [0.5] * 3),
    "shape": code(infer, "digits", [1, 64], [0.5] * 3),
    "name": code(infer, "wine", [1, 64], [0.5] * 64),
    "another version": code(infer, "digits", [1, 64], [0.5] * 64, model_version="0" * 12),
    "load": code(stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="digits")),
    "large": code(infer, "digits", [1, 64], [0.5] * (3 << 20)),
    "dimensions": code(infer, "digits", [1] * 70 + [64], [0.5] * 64),
    "unload": code(stub.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name="digits")),
}))
"""


def docker(*argv, check=True, stdin=None):
    done = subprocess.run(["docker", *argv], capture_output=True, text=True, input=stdin, check=False, timeout=300)
    assert not check or done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
    return done


def content(name):
    return hashlib.sha256(name.encode()).hexdigest()


@pytest.fixture(scope="module")
def volume(server_image):
    name = f"mlops-test-server-{uuid.uuid4().hex[:8]}"
    docker("volume", "create", name)
    try:
        docker("run", "--rm", "-i", "--user", "0", "-v", f"{name}:/model", server_image, "python", "-", stdin=MAKE)
        yield name
    finally:
        docker("volume", "rm", "-f", name)


class Running:
    """A server container, as hardened as a rendered job makes it, and a client of it."""

    def __init__(self, container):
        self.container = container
        self.base = f"http://{docker('port', container, '8080/tcp').stdout.splitlines()[0]}"

    def ask(self, path, body=None, headers=None):
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data=data, headers=headers or {})  # noqa: S310 - our own
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - as above
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except (urllib.error.URLError, ConnectionError):
            return 0, b""

    def infer(self, body, model="digits", **more):
        status, answer = self.ask(f"/v2/models/{model}/infer", body, **more)
        return status, json.loads(answer)

    def wait(self, path, seconds=60):
        """Every status that `path` had until it was 200."""
        seen = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            seen.append(self.ask(path)[0])
            if seen[-1] == 200:
                return seen
            time.sleep(0.05)
        raise AssertionError(docker("logs", self.container).stderr)


@contextmanager
def container(image, volume, *more, **environ):
    name = f"mlops-test-server-{uuid.uuid4().hex[:8]}"
    options = [*more, *(part for key, value in environ.items() for part in ("-e", f"{key}={value}"))]
    hardened = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]  # noqa: S108
    docker(
        "run", "-d", "--name", name, *hardened, "-v", f"{volume}:/model:ro", "-p", "127.0.0.1::8080", *options, image
    )
    try:
        yield Running(name)
    finally:
        docker("rm", "-f", name)


def refusal(image, volume, **environ):
    """Exit code and last words of a server that does not start."""
    options = [part for key, value in environ.items() for part in ("-e", f"{key}={value}")]
    done = docker("run", "--rm", "-v", f"{volume}:/model:ro", *options, image, check=False)
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def digits(server_image, volume):
    with container(server_image, volume, MODEL="digits") as running:
        running.wait("/v2/models/digits/ready")
        yield running


def let_load(running):
    """What the model `late` waits for."""
    docker("exec", running.container, "touch", "/tmp/go")  # noqa: S108 - in the container


def rows(values=None, shape=None, datatype="FP64", **more):
    values = [0.5] * 64 if values is None else values
    return {"inputs": [{"name": "x", "shape": shape or [1, 64], "datatype": datatype, "data": values}], **more}


def test_every_answer_says_which_version_gave_it(digits):
    status, answer = digits.infer(rows(id="mine"))
    assert status == 200
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("digits", content("digits")[:12], "mine")
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("output-0", "INT64", [1])


def test_probabilities_are_a_second_output(digits):
    both = rows(outputs=[{"name": "output-0"}, {"name": "predict_proba"}])
    status, answer = digits.infer(both)
    assert status == 200
    label, probabilities = answer["outputs"]
    assert probabilities["shape"] == [1, 10]
    assert sum(probabilities["data"]) == pytest.approx(1)
    assert label["data"] == [max(range(10), key=probabilities["data"].__getitem__)]


def test_the_model_says_what_it_takes(digits):
    status, answer = digits.ask("/v2/models/digits")
    assert status == 200
    answer = json.loads(answer)
    assert answer["versions"] == [content("digits")[:12]]
    assert answer["inputs"] == [{"name": "input-0", "datatype": "FP64", "shape": [-1, 64]}]


def test_one_request_tells_readiness_and_version(digits):
    assert digits.ask(f"/v2/models/digits/versions/{content('digits')[:12]}/ready")[0] == 200
    assert digits.ask(f"/v2/models/digits/versions/{content('wine')[:12]}/ready")[0] == 404
    assert digits.ask("/v2/models/wine/ready")[0] == 404


MISTAKES = {
    "no JSON": b"{",
    "nothing": b"",
    "a list": [],
    "no inputs": {},
    "empty inputs": {"inputs": []},
    "an input that is a number": {"inputs": [1]},
    "too few features": rows([0.5] * 3, [1, 3]),
    "a shape that does not fit": rows([0.5] * 3),
    "an unknown size": rows(shape=[-1, 64]),
    "text for numbers": rows(["0.5"] * 64),
    "truth for numbers": rows([True] * 64),
    "fractions for whole numbers": rows(datatype="INT64"),
    "numbers out of range": rows([300] * 64, datatype="UINT8"),
    "an unknown datatype": rows(datatype="FLOAT"),
    "an uneven list": rows([[1.0], [1.0, 2.0]], [3]),
    "one dimension": rows(shape=[64]),
    "an unknown output": rows(outputs=[{"name": "odds"}]),
    "no text as id": rows(id=5),
    "missing values": rows([None] * 64),
    "two inputs of one name": {"inputs": rows()["inputs"] * 2},
    "no rows": rows([], [0, 64]),
    "more dimensions than an array has": rows(shape=[1] * 70 + [64]),
    "no values of a size that no array has": rows([], [2**63, 0]),
    "an output twice": rows(outputs=[{"name": "output-0"}] * 2),
    "an output with a number of parameters": rows(outputs=[{"name": "output-0", "parameters": 1}]),
}


@pytest.mark.parametrize("body", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_clients_mistake_is_a_400(digits, body):
    status, answer = digits.infer(body)
    assert (status, list(answer)) == (400, ["error"])
    assert "Traceback" not in answer["error"]


def binary(array_bytes, size, **more):
    tensor = {"name": "x", "shape": [1, 64], "datatype": "FP64", "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [tensor], **more}).encode()
    return {"body": head + array_bytes, "headers": {"Inference-Header-Content-Length": str(len(head))}}


def test_binary_tensors_are_taken_and_given(digits):
    request = binary(struct.pack("<64d", *[0.5] * 64), 512, parameters={"binary_data_output": True})
    status, body = digits.ask("/v2/models/digits/infer", **request)
    assert status == 200
    head, (label,) = json.loads(body[:-8]), struct.unpack("<q", body[-8:])
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert [label] == digits.infer(rows())[1]["outputs"][0]["data"]


@pytest.mark.parametrize(("bytes_sent", "size"), [(511, 512), (513, 512), (504, 504), (512, -1), (512, "512"), (3, 3)])
def test_binary_tensors_of_another_size_are_a_400(digits, bytes_sent, size):
    assert digits.infer(**binary(b"\0" * bytes_sent, size))[0] == 400


@pytest.mark.parametrize("length", ["x", "-1", "99999", "10"])
def test_a_broken_binary_request_is_a_400(digits, length):
    assert digits.infer(rows(), headers={"Inference-Header-Content-Length": length})[0] == 400


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)
SIZES = st.sampled_from([0, 1, 2, 64, 2**31, 2**62, 2**63 - 1, 2**63, 2**64 - 1])
DATATYPES = ["BOOL", "BYTES", "FP16", "FP32", "FP64", "INT8", "INT64", "UINT8", "UINT64"]
KEYS = st.sampled_from(["binary_data_size", "binary_data", "binary_data_output", "content_type"])
PARAMETERS = st.dictionaries(KEYS, st.just("pd") | st.sampled_from([8, 512]) | JSON, min_size=1) | JSON
DATA = st.lists(SCALARS) | st.lists(st.text(), min_size=64, max_size=64) | JSON
SHAPES = st.lists(SIZES, max_size=5) | st.integers(0, 80).map(lambda ones: [1] * ones + [64]) | JSON


def changes(**parts):
    """One part of what a sound request says there replaced, or two that belong together."""
    return st.one_of(*(st.fixed_dictionaries({key: strategy}) for key, strategy in parts.items()))


CHANGES = {
    "input": changes(
        name=JSON, shape=SHAPES, datatype=st.sampled_from(DATATYPES) | JSON, data=DATA, parameters=PARAMETERS
    )
    | st.fixed_dictionaries({"shape": st.lists(SIZES, max_size=5).map(lambda sizes: [*sizes, 0]), "data": st.just([])})
    | st.fixed_dictionaries({"data": st.none(), "parameters": PARAMETERS}),
    "output": changes(name=st.just("predict_proba") | JSON, parameters=PARAMETERS),
    "request": changes(id=JSON, parameters=PARAMETERS, inputs=JSON, outputs=JSON),
}


def changed(input=(), output=(), request=()):  # noqa: A002 - the protocol's own word
    inputs, outputs = [{**rows()["inputs"][0], **dict(input)}], [{"name": "output-0", **dict(output)}]
    return {"inputs": inputs, "outputs": outputs, **dict(request)}


REQUESTS = st.one_of(*(st.builds(changed, **{place: what}) for place, what in CHANGES.items())) | st.builds(
    changed, **CHANGES
)


@settings(max_examples=800, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(request=REQUESTS, tensors=st.sampled_from([None] * 4 + [b"", b"\0" * 8, b"\0" * 512]))
def test_no_request_is_a_fault_of_the_server(digits, request, tensors):
    head = json.dumps(request).encode()
    headers = {} if tensors is None else {"Inference-Header-Content-Length": str(len(head))}
    assert digits.ask("/v2/models/digits/infer", head + (tensors or b""), headers)[0] in {200, 400}


LIMIT = 16 << 20


def ask_in_chunks(running, chunks):
    connection = http.client.HTTPConnection(running.base.removeprefix("http://"), timeout=30)
    try:
        connection.request("POST", "/v2/models/digits/infer", body=iter(chunks), encode_chunked=True)
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_request_that_is_too_large_is_a_413(digits):
    before = counted(digits, 413)
    sound = json.dumps(rows()).encode()
    assert digits.infer(sound.ljust(LIMIT))[0] == 200
    status, answer = digits.infer(sound.ljust(LIMIT + 1))
    assert (status, "at most 16777216 bytes" in answer["error"]) == (413, True)
    assert ask_in_chunks(digits, [sound, *[b" " * (1 << 20)] * 15]) == 200
    assert ask_in_chunks(digits, [sound, *[b" " * (1 << 20)] * 16]) == 413
    assert counted(digits, 413) == before + 2


def test_a_body_that_is_announced_too_large_is_refused_unread(digits):
    connection = http.client.HTTPConnection(digits.base.removeprefix("http://"), timeout=9)
    try:
        connection.putrequest("POST", "/v2/models/digits/infer")
        connection.putheader("Content-Length", str(LIMIT + 1))
        connection.endheaders()
        assert connection.getresponse().status == 413
    finally:
        connection.close()


def test_requests_without_end_do_not_fill_the_memory(server_image, volume):
    with container(server_image, volume, "--memory", "512m", "--memory-swap", "512m", MODEL="digits") as running:
        running.wait("/v2/models/digits/ready")
        assert ask_in_chunks(running, [b"[" * (1 << 20)] * 512) == 413
        assert running.infer(rows())[0] == 200


def test_the_largest_request_is_for_the_job_to_say(server_image, volume):
    with container(server_image, volume, MODEL="digits", MAX_REQUEST_BYTES="1000") as running:
        running.wait("/v2/models/digits/ready")
        sound = json.dumps(rows()).encode()
        assert [running.infer(sound.ljust(size))[0] for size in (1000, 1001)] == [200, 413]


def test_another_version_of_scikit_learn_is_logged_once_with_both(server_image, volume):
    with container(server_image, volume, MODEL="aged") as running:
        running.wait("/v2/models/aged/ready")
        log = docker("logs", running.container).stderr
        script = "import sklearn; print(sklearn.__version__)"
        here = docker("exec", running.container, "python", "-c", script).stdout.strip()
    (line,) = (line for line in log.splitlines() if "1.0.2" in line)
    assert line.startswith(
        f"WARNING the model was written with scikit-learn 1.0.2, this server has {here}: predictions"
    )


@pytest.mark.parametrize("step", ["", "def predict(model, inputs): return model.predict(inputs)\n"])
def test_a_hook_that_leaves_while_it_is_loaded(server_image, volume, tmp_path, step):
    (tmp_path / "hook.py").write_text(f"{step}import sys\nsys.exit(3)\n")
    tmp_path.chmod(0o755)
    options = [
        "-v",
        f"{tmp_path}:/hook:ro",
        "-v",
        f"{volume}:/model:ro",
        "-e",
        "MODEL=digits",
        "-e",
        "HOOK=/hook/hook.py",
    ]
    done = docker("run", "--rm", *options, server_image, check=False)
    assert (done.returncode, "SystemExit: 3" in done.stderr, "Traceback" in done.stderr) == (78, True, False)


def test_a_hook_that_leaves_at_a_request_fails_this_request_alone(server_image, volume, tmp_path):
    (tmp_path / "hook.py").write_text("import sys\ndef preprocess(request, headers):\n    sys.exit(3)\n")
    tmp_path.chmod(0o755)
    with container(server_image, volume, "-v", f"{tmp_path}:/hook:ro", MODEL="digits", HOOK="/hook/hook.py") as running:
        running.wait("/v2/models/digits/ready")
        assert running.infer(rows())[0] == 500
        assert running.ask("/v2/models/digits/ready")[0] == 200


def test_an_unknown_model_is_a_404(digits):
    assert digits.infer(rows(), model="wine")[0] == 404


@pytest.mark.parametrize("action", ["load", "unload"])
@pytest.mark.parametrize(
    "path", ["/v2/repository/models/digits", "/v2/%72epository/models/digits", "/v2/repository/index"]
)
def test_there_is_no_repository_to_change(digits, path, action):
    assert digits.ask(f"{path}/{action}", {})[0] in {404, 405}
    assert digits.ask("/v2/models/digits/ready")[0] == 200


def test_grpc(digits):
    told = json.loads(docker("exec", "-i", digits.container, "python", "-", stdin=GRPC).stdout)
    version = content("digits")[:12]
    name, datatype, data = told.pop("output")
    assert (name, datatype, len(data)) == ("output-0", "INT64", 1)
    assert told == {
        "version": version,
        "ready": True,
        "metadata": [version],
        "features": "INVALID_ARGUMENT",
        "shape": "INVALID_ARGUMENT",
        "name": "NOT_FOUND",
        "another version": "NOT_FOUND",
        "load": "UNIMPLEMENTED",
        "unload": "UNIMPLEMENTED",
        "large": "RESOURCE_EXHAUSTED",
        "dimensions": "INVALID_ARGUMENT",
    }


def counted(running, code):
    for line in running.ask("/metrics")[1].decode().splitlines():
        if line.startswith("mlops_server_requests_total") and f'code="{code}"' in line and 'protocol="rest"' in line:
            return float(line.rpartition(" ")[2])
    return 0.0


def test_requests_are_counted_by_status_code(digits):
    before = counted(digits, 200), counted(digits, 400), counted(digits, 404)
    for body, model in ((rows(), "digits"), ({}, "digits"), (rows(), "wine")):
        digits.infer(body, model=model)
    assert (counted(digits, 200), counted(digits, 400), counted(digits, 404)) == tuple(count + 1 for count in before)


def test_the_health_check_proves_the_model_in_a_tenth_of_a_second(digits):
    golden = [{"request": rows(), "expect": digits.infer(rows())[1]["outputs"], "tolerance": 0}]
    wrong = [{**golden[0], "expect": [{"name": "output-0", "data": [-1]}]}]

    def check(requests, **environ):
        options = [part for key, value in environ.items() for part in ("-e", f"{key}={value}")]
        options += ["-e", f"GOLDEN={json.dumps(requests)}"]
        return docker("exec", *options, digits.container, "python", "-m", "mlops_server.ready", check=False)

    assert check(golden).stdout == f"ready: digits@{content('digits')[:12]}, 1 golden request\n"
    assert check([]).stdout.endswith("golden requests: not checked\n")
    assert (check(wrong).returncode, check(wrong).stdout.split(":")[0]) == (1, "not ready (golden)")
    other = check(golden, MODEL_ID=content("wine"))
    assert (other.returncode, other.stdout.split(":")[0]) == (1, "not ready (identity)")


@pytest.mark.parametrize("name", ["digits-xz", "wine", "wine-skops"])
def test_one_image_serves_whichever_model_the_environment_names(server_image, volume, name):
    with container(server_image, volume, MODEL=name) as running:
        running.wait(f"/v2/models/{name}/ready")
        body = rows() if name.startswith("digits") else rows([13.0] * 13, [1, 13])
        status, answer = running.infer(body, model=name)
        assert (status, answer["model_version"]) == (200, content(name)[:12])
        assert answer["outputs"][0]["datatype"] == ("INT64" if name.startswith("digits") else "BYTES")


def test_exactly_as_a_rendered_job_asks(server_image, volume):
    identity = content("wine")
    environ = {"MODEL_NAME": "wine", "MODEL_ID": identity, "MODEL_PATH": f"/model/v/{identity}"}
    with container(server_image, volume, **environ) as running:
        running.wait(f"/v2/models/wine/versions/{identity[:12]}/ready")


def test_ready_is_503_until_the_model_is_loaded(server_image, volume):
    with container(server_image, volume, MODEL="late") as running:
        running.wait("/v2/health/live")
        assert running.ask("/v2/models/late/ready")[0] == 503
        assert running.ask("/v2/health/ready")[0] == 503
        assert running.infer(rows(), model="late")[0] == 503
        let_load(running)
        assert set(running.wait("/v2/models/late/ready")) <= {503, 200}
        assert running.ask("/v2/health/ready")[0] == 200


def test_a_slow_prediction_does_not_silence_the_health_check(server_image, volume, tmp_path):
    (tmp_path / "hook.py").write_text(SLOW_HOOK)
    tmp_path.chmod(0o777)
    with (
        container(server_image, volume, "-v", f"{tmp_path}:/hook", MODEL="digits", HOOK="/hook/hook.py") as running,
        ThreadPoolExecutor(1) as pool,
    ):
        running.wait("/v2/models/digits/ready")
        slow = pool.submit(running.infer, rows())
        until((tmp_path / "begun").exists)
        begun = time.monotonic()
        assert running.ask("/v2/models/digits/ready")[0] == 200
        assert time.monotonic() - begun < 10
        assert not slow.done()
        (tmp_path / "go").touch()
        assert slow.result()[0] == 200


def test_a_request_under_way_is_answered_before_the_end(server_image, volume, tmp_path):
    (tmp_path / "hook.py").write_text(SLOW_HOOK)
    tmp_path.chmod(0o777)
    with (
        container(server_image, volume, "-v", f"{tmp_path}:/hook", MODEL="digits", HOOK="/hook/hook.py") as running,
        ThreadPoolExecutor(1) as pool,
    ):
        running.wait("/v2/models/digits/ready")
        slow = pool.submit(running.infer, rows())
        until((tmp_path / "begun").exists)
        threading.Timer(2, (tmp_path / "go").touch).start()
        docker("stop", "--time", "20", running.container)
        assert slow.result()[0] == 200
        assert exit_code(running.container) == 0


@pytest.mark.parametrize("moment", ["/v2/health/live", "/v2/models/late/ready", None])
def test_a_signal_ends_it_cleanly_and_quickly_at_any_moment(server_image, volume, moment):
    with container(server_image, volume, MODEL="late") as running:
        if moment == "/v2/models/late/ready":
            let_load(running)
        if moment:
            running.wait(moment)
        else:
            until(lambda: hears_sigterm(running.container))
        begun = time.monotonic()
        docker("stop", "--time", "60", running.container)
        assert time.monotonic() - begun < 30
        assert exit_code(running.container) == 0


def hears_sigterm(name):
    """Whether it has begun so far: until then the kernel keeps signals from process 1 of a container."""
    pid = docker("inspect", "--format", "{{.State.Pid}}", name).stdout.strip()
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())[1]
    return int(caught, 16) >> (signal.SIGTERM - 1) & 1


def exit_code(name):
    return int(docker("inspect", "--format", "{{.State.ExitCode}}", name).stdout)


@pytest.mark.parametrize(
    ("environ", "code", "said"),
    [
        ({"MODEL": "foo"}, 78, "`foo`, which is not there"),
        ({}, 78, "no model is chosen"),
        ({"MODEL": "digits", "MODEL_ID": content("wine")}, 78, "`MODEL_ID` is"),
        ({"MODEL": "digits", "PORT": "http"}, 78, "`PORT` is `http`"),
        ({"MODEL": "digits", "HOOK": "/nowhere.py"}, 78, "hook `/nowhere.py` cannot be loaded"),
        ({"MODEL": "digits", "GRPC_PORT": "8080"}, 78, "cannot listen on port 8080 (gRPC)"),
        ({"MODEL_PATH": "/model"}, 78, "64 hex digits"),
        ({"MODEL_PATH": "/model/wine"}, 78, "is a link"),
        ({"MODEL": "loop"}, 78, "`loop`, which is not there"),
        ({"MODEL": "digits@cccc"}, 78, "no content id"),
        ({"MODEL_PATH": f"/model/v/{'c' * 64}", "MODEL_NAME": "x"}, 78, "64 hex digits"),
        ({"MODEL": "digits", "MAX_REQUEST_BYTES": "64MiB"}, 78, "`MAX_REQUEST_BYTES` is `64MiB`"),
        ({"MODEL": "old-way"}, 65, "protocol 0 or 1: write it again"),
        ({"MODEL": "leaver"}, 65, "SystemExit: 3"),
        ({"MODEL": "broken"}, 65, "cannot be read"),
        ({"MODEL": "useless"}, 65, "has no `predict`"),
        ({"MODEL": "nothing"}, 65, "no file of a known format"),
        ({"MODEL": "stranger"}, 65, "not trusted: `time.sleep`"),
    ],
    ids=str,
)
def test_what_cannot_be_served_ends_with_one_clear_error(server_image, volume, environ, code, said):
    ended, words = refusal(server_image, volume, **environ)
    assert ended == code
    assert said in words
    assert "Traceback" not in words


def test_an_unknown_name_gets_a_list_of_what_is_there(server_image, volume):
    _, words = refusal(server_image, volume, MODEL="foo")
    assert f"digits@{content('digits')[:12]}" in words
    assert f"wine@{content('wine')[:12]}" in words


def test_it_runs_as_nobody_in_particular(digits):
    assert docker("exec", digits.container, "id", "-u").stdout.strip() == "65532"
    assert docker("exec", digits.container, "touch", "/opt/x", check=False).returncode != 0


def test_there_is_no_model_in_the_image(server_image):
    find = r"find / -xdev -type f -name '*.joblib' -o -name '*.pkl' -o -name '*.pickle' -o -name '*.skops'"
    found = docker("run", "--rm", "--user", "0", server_image, "sh", "-c", find).stdout
    assert found == ""
    assert docker("run", "--rm", server_image, "sh", "-c", "ls -d /model /models", check=False).stdout == ""


def test_the_labels_say_what_the_image_provides(server_image):
    labels = json.loads(docker("image", "inspect", "--format", "{{json .Config.Labels}}", server_image).stdout)
    provides = json.loads(labels["io.mlops-deploy.provides"])
    assert labels["io.mlops-deploy.preset"] == "kserve-sklearn"
    assert provides["protocols"] == ["v2-rest", "v2-grpc"]
    assert provides["formats"] == ["joblib", "pickle", "skops"]
    assert provides == json.loads(docker("run", "--rm", server_image, "python", "-m", "mlops_server.provides").stdout)
    script = "import sklearn, platform; print(sklearn.__version__, platform.python_version())"
    really = docker("run", "--rm", server_image, "python", "-c", script).stdout.split()
    assert [provides["packages"]["scikit-learn"], provides["python"]] == really


def test_the_image_has_exactly_the_packages_of_the_constraints(server_image):
    frozen = (ROOT / "images" / "server" / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in frozen if "==" in line)
    labels = docker("image", "inspect", "--format", '{{index .Config.Labels "io.mlops-deploy.provides"}}', server_image)
    packages = json.loads(labels.stdout)["packages"]
    assert packages == {name.lower().replace("_", "-"): version for name, version in pins.items()}
