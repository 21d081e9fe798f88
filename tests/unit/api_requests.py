"""Requests to an API server in a test, one connection each."""

from __future__ import annotations

import http.client
import json
from typing import Any

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


class Answer:
    """What came back; ``body`` is decoded when it is JSON."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.code, self.headers, payload = response.status, response.headers, response.read()
        is_json = (response.headers.get("Content-Type") or "").startswith("application/json")
        self.body: Any = json.loads(payload) if is_json else payload


def request(
    tcp_port: int, method: str, path: str, body: Any = None, media: str = "application/json", **headers: str
) -> Answer:
    """Send one request; ``Content_Type`` and the like are named with underscores."""
    connection = http.client.HTTPConnection("127.0.0.1", tcp_port, timeout=10)
    payload = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    sent = {name.replace("_", "-"): text for name, text in headers.items()}
    if payload is not None:
        sent["Content-Type"] = media
    try:
        connection.request(method, path, payload, sent)
        return Answer(connection.getresponse())
    finally:
        connection.close()
