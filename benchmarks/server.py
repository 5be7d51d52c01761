"""The server image beside the bare KServe SDK in the same image: requests, the way to ready, size."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from benchmarks.table import NotMeasuredError, Row

# Runs in the image: both servers beside each other, asked in turn by the same client.
INSIDE = r'''
import hashlib, http.client, json, os, pathlib, statistics, subprocess, sys, threading, time
import joblib
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

PLAIN = """
import sys, joblib
from kserve import Model, ModelServer
from kserve.utils.utils import get_predict_input, get_predict_response

class Plain(Model):
    def load(self):
        self.estimator = joblib.load(sys.argv[1])
        self.ready = True

    def predict(self, payload, headers=None):
        return get_predict_response(payload, self.estimator.predict(get_predict_input(payload)), self.name)

model = Plain("digits")
model.load()
ModelServer(http_port=8090, grpc_port=8091, enable_latency_logging=False).start([model])
"""
folder = pathlib.Path("/tmp/v") / hashlib.sha256(b"digits").hexdigest()
folder.mkdir(parents=True)
images, labels = load_digits(return_X_y=True)
joblib.dump(LogisticRegression(max_iter=300).fit(images / 16, labels), folder / "model.joblib")
tensor = {"name": "x", "shape": [1, 64], "datatype": "FP64", "data": (images[0] / 16).tolist()}
body = json.dumps({"inputs": [tensor]}).encode()

def start(port, *command, **environ):
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], env={**os.environ, **environ}, stderr=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL)
    while True:
        try:
            if ask(http.client.HTTPConnection("127.0.0.1", port)) == 200:
                return process, time.perf_counter() - begun
        except OSError:
            pass
        time.sleep(0.02)

def ask(connection):
    connection.request("POST", "/v2/models/digits/infer", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    return answer.status

def per_request(port, connections, seconds=2.0):
    counts, end = [0] * connections, time.perf_counter() + seconds
    def work(index):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while time.perf_counter() < end:
            if ask(connection) != 200:
                raise SystemExit("a request failed")
            counts[index] += 1
    threads = [threading.Thread(target=work, args=(index,)) for index in range(connections)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return seconds / sum(counts)

def ours():
    return start(8080, "-m", "mlops_server", MODEL_PATH=str(folder), MODEL_NAME="digits")

def plain():
    return start(8090, "-c", PLAIN, str(folder / "model.joblib"))

def end(process):
    process.kill()
    process.wait()

ready = []
for _ in range(3):
    (one, mine), (other, theirs) = ours(), plain()
    ready.append((mine, theirs))
    end(one), end(other)
processes = ours()[0], plain()[0]
measured = {"ready": ready}
for connections in (1, 16):
    measured[str(connections)] = [(per_request(8080, connections), per_request(8090, connections)) for _ in range(5)]
[end(process) for process in processes]
measured = {name: [statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs),
                   statistics.median(a / b for a, b in pairs)] for name, pairs in measured.items()}
print(json.dumps(measured))
'''


def rows() -> Iterator[Row]:
    image, base = built()
    measured = json.loads(docker("run", "--rm", "-i", "--network", "none", image, "python", "-", stdin=INSIDE))
    yield timed("server: first answer after the start, to bare KServe", measured["ready"], "s", 1, "<= 1.2")
    yield timed("server: per request, 1 connection, to bare KServe", measured["1"], "ms", 1e3, "<= 1.0")
    yield timed("server: per request, 16 connections, to bare KServe", measured["16"], "ms", 1e3, "<= 1.0")
    size, below = (int(docker("image", "inspect", "--format", "{{.Size}}", name)) for name in (image, base))
    yield Row("server image, to its base", f"{size / 1e6:.0f} MB", f"{below / 1e6:.0f} MB", size / below, "published")


def timed(name: str, figures: list[float], unit: str, scale: float, goal: str) -> Row:
    ours, peer, ratio = figures
    return Row(name, f"{ours * scale:.2f} {unit}", f"{peer * scale:.2f} {unit}", ratio, goal)


def built() -> tuple[str, str]:
    """The default server image and its base."""
    command = [sys.executable, "-m", "mlops_deploy", "build-server", "--output", "json"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotMeasuredError(done.stderr.strip().splitlines()[-1])
    result: dict[str, Any] = json.loads(done.stdout)
    return str(result["tag"]), str(result["base"])


def docker(*arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotMeasuredError(done.stderr.strip().splitlines()[-1])
    return done.stdout.strip()
