"""A cluster's task API on a socket, as a router's task sees it: what is at a path, and a wait until it is another."""

import json
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

TOKEN = "the-identity-of-the-task"
PROJECT = "svc"
VARIABLE = f"nomad/jobs/{PROJECT}-router"


class TaskApi(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Documents by path; `fault` is a status to answer with instead, or `hang`."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder):
        self.secrets = folder
        self.index, self.documents, self.changed = 100, {}, threading.Condition()
        self.fault, self.asked = None, []
        super().__init__(str(folder / "api.sock"), Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def put(self, path, document):
        """Say what is at `path`, None for nothing; its index."""
        with self.changed:
            self.index += 1
            self.documents[path] = (document, self.index)
            self.changed.notify_all()
            return self.index

    def route(self, share_b, generation, *, closed=False, config=None, created=50):
        """Write the variable as a release would."""
        route = {"share_b": share_b, "closed": closed, "generation": generation, "token": 1}
        config = config or self.documents[f"var/{VARIABLE}"][0]["Items"]["config"]
        items = {"route": json.dumps(route), "config": config, "shelf": "{}"}
        self.put(f"var/{VARIABLE}", {"Path": VARIABLE, "CreateIndex": created, "Items": items})

    def serve(self, slot, *ports, job=None):
        """Register a slot's server at each of `ports`, the newest last; without any it has no registration."""
        name = f"{PROJECT}-{slot}"
        found = [
            {"Address": "127.0.0.1", "Port": port, "JobID": job or name, "CreateIndex": 60 + order, "ServiceName": name}
            for order, port in enumerate(ports)
        ]
        self.put(f"service/{name}", found[::-1])

    def environment(self):
        """What a router's task is started with."""
        return {
            "NOMAD_SECRETS_DIR": str(self.secrets),
            "NOMAD_TOKEN": TOKEN,
            "NOMAD_NAMESPACE": "apart",
            "ROUTER_VARIABLE": VARIABLE,
            "ROUTER_SLOT_A": f"{PROJECT}-a",
            "ROUTER_SLOT_B": f"{PROJECT}-b",
        }

    def handle_error(self, request, client_address):
        pass

    def end(self):
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self):
        return "socket"

    def do_GET(self):
        api, asked = self.server, urlsplit(self.path)
        path, query = asked.path.removeprefix("/v1/"), {name: one for name, (one,) in parse_qs(asked.query).items()}
        api.asked.append((path, query))
        if self.headers["Authorization"] != f"Bearer {TOKEN}" or query["namespace"] != "apart":
            return self.say(403, "Permission denied")
        if api.fault == "hang":
            return time.sleep(30)
        if api.fault:
            return self.say(api.fault, "No cluster leader")
        document, index = self.awaited(path, int(query["index"]), float(query["wait"].removesuffix("s")))
        if document is None:
            return self.say(404, "variable not found", index)
        return self.say(200, json.dumps(document), index)

    def awaited(self, path, index, wait):
        api, until = self.server, time.monotonic() + wait
        with api.changed:
            while True:
                absent = [] if path.startswith("service/") else None
                document, present = api.documents.get(path, (absent, 1))
                if present > index or index == 0 or present < index or time.monotonic() >= until:
                    return document, present
                api.changed.wait(max(0.0, until - time.monotonic()))

    def say(self, status, text, index=1):
        body = text.encode()
        self.send_response(status)
        self.send_header("X-Nomad-Index", str(index))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass
