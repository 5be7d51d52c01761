"""What `/metrics` says beyond KServe's own latencies: requests by protocol and status code."""

from prometheus_client import Counter, Histogram

REQUESTS = Counter(
    "mlops_server_requests", "Inference requests by protocol and status code", ["model_name", "protocol", "code"]
)
SECONDS = Histogram(
    "mlops_server_request_seconds", "Inference requests from body read to answer ready", ["model_name", "protocol"]
)
