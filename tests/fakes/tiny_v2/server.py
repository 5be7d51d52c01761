"""A v2 prediction server of the standard library alone, in the container shape of the real one: for tests and load.

The model is `model.json` in `MODEL_PATH`: `{"weights": [...], "bias": b}`; a prediction is weights · row + bias.
`MODEL_NAME`, `MODEL_ID` and `PORT` mean what they mean to the real server. What can go wrong with a server is asked for
by variables: `LOAD_SECONDS` makes loading slow, `LOADS_UNTIL` as long as that file is not there, `NEVER_READY`
endless; `SAYS_VERSION` is the version that it claims to be; `ADDS` is added to every prediction; after `CRASH_AFTER`
seconds, or once the file `CRASHES_AT` is there, which it takes away, it ends with 70; `EATS_MIB` is the memory that it
wants; `SAYS` is what it writes to begin with.
"""

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(os.environ["MODEL_PATH"])
NAME = os.environ["MODEL_NAME"]
VERSION = os.environ.get("SAYS_VERSION") or FOLDER.name[:12]
ADDS = float(os.environ.get("ADDS", "0"))
MODEL = {}
READY = {"/v2/health/ready", f"/v2/models/{NAME}/ready", f"/v2/models/{NAME}/versions/{VERSION}/ready"}
ANSWERED = {"ok": 0, "refused": 0}
COUNTING = threading.Lock()


def load():
    eaten = bytearray(int(os.environ.get("EATS_MIB", "0")) << 20)
    time.sleep(float(os.environ.get("LOAD_SECONDS", "0")))
    while "LOADS_UNTIL" in os.environ and not os.path.exists(os.environ["LOADS_UNTIL"]):  # noqa: PTH110
        time.sleep(0.05)
    while "NEVER_READY" in os.environ:
        time.sleep(1)
    del eaten
    try:
        MODEL.update(json.loads((FOLDER / "model.json").read_bytes()))
    except (OSError, ValueError) as wrong:
        sys.stderr.write(f"error: the model cannot be loaded: {wrong}\n")
        sys.stderr.flush()
        os._exit(65)


def crash():
    time.sleep(float(os.environ.get("CRASH_AFTER", "0")))
    if told := os.environ.get("CRASHES_AT"):
        while not os.path.exists(told):  # noqa: PTH110
            time.sleep(0.05)
        os.remove(told)  # noqa: PTH107
    sys.stderr.write("error: crashed, as asked\n")
    sys.stderr.flush()
    os._exit(70)


def flattened(data):
    for item in data:
        yield from item if isinstance(item, list) else [item]


def weighed(row):
    return sum(weight * value for weight, value in zip(MODEL["weights"], row, strict=True)) + MODEL["bias"] + ADDS


def predict(request):
    tensor = request["inputs"][0]
    rows, width = tensor["shape"]
    flat = list(flattened(tensor["data"]))
    if len(flat) != rows * width or width != len(MODEL["weights"]):
        raise ValueError("data and shape do not fit the model")
    answers = [weighed(flat[start : start + width]) for start in range(0, len(flat), width)]
    return {"name": "predict", "shape": [rows], "datatype": "FP64", "data": answers}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        match self.path:
            case "/v2/health/live":
                self.answer(200, {"live": True})
            case "/metrics":
                self.answer_text(200, "".join(f'tiny_answers_total{{kind="{k}"}} {n}\n' for k, n in ANSWERED.items()))
            case path if path == f"/v2/models/{NAME}":
                self.answer(200, {"name": NAME, "versions": [VERSION], "platform": "tiny"})
            case path if path in READY:
                self.answer(200 if MODEL else 503, {"name": NAME, "ready": bool(MODEL), "model_version": VERSION})
            case _:
                self.answer(404, {"error": f"{self.path} is not here"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != f"/v2/models/{NAME}/infer":
            self.answer(404, {"error": f"{self.path} is not here"})
        elif not MODEL:
            self.answer(503, {"error": "the model is loading"})
        else:
            self.infer(body)

    def infer(self, body):
        try:
            outputs = [predict(json.loads(body))]
        except (ValueError, KeyError, IndexError, TypeError) as wrong:
            count("refused")
            self.answer(400, {"error": f"{type(wrong).__name__}: {wrong}"})
        else:
            count("ok")
            self.answer(200, {"model_name": NAME, "model_version": VERSION, "outputs": outputs})

    def answer(self, status, document):
        self.answer_text(status, json.dumps(document), "application/json")

    def answer_text(self, status, text, kind="text/plain"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


def count(kind):
    with COUNTING:
        ANSWERED[kind] += 1


class Server(ThreadingHTTPServer):
    daemon_threads = False  # a request that was taken is answered before the process ends
    request_queue_size = 1024


def main():
    if os.environ.get("MODEL_ID", FOLDER.name) != FOLDER.name:
        sys.exit(f"MODEL_ID is {os.environ['MODEL_ID']}, but {FOLDER} was given")
    sys.stderr.write(os.environ.get("SAYS", ""))
    sys.stderr.flush()
    server = Server(("", int(os.environ.get("PORT", "8080"))), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    threading.Thread(target=load, daemon=True).start()
    if {"CRASH_AFTER", "CRASHES_AT"} & os.environ.keys():
        threading.Thread(target=crash, daemon=True).start()
    server.serve_forever(poll_interval=0.05)
    server.server_close()


if __name__ == "__main__":
    main()
