"""A scripted server for OpenAI's chat completions, which can also produce faults."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Script = Callable[[dict[str, Any], int], Any]
"""Takes the request and how many came before it; returns a reply text, a number (an HTTP status), a status with the
server's message, or a fault."""
GARBAGE, HALF, SLOW = "garbage", "half", "slow"
RETRY_AFTER_S = 1


@dataclass
class Scripted:
    """The address of the server, and the requests that it received."""

    url: str
    requests: list[dict[str, Any]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        seen = self.server.seen
        with self.server.lock:
            before = len(seen.requests)
            seen.requests.append(body)
            seen.at_once += 1
            seen.most_at_once = max(seen.most_at_once, seen.at_once)
        try:
            self._answer(self.server.script(body, before))
        finally:
            with self.server.lock:
                seen.at_once -= 1

    def _answer(self, told: Any) -> None:
        if isinstance(told, int):
            told = told, f"told so; key {self.headers['Authorization'].split()[1]}"
        if isinstance(told, tuple) and isinstance(told[0], int):
            self._send(told[0], json.dumps({"error": {"message": told[1]}}).encode())
        elif told == (GARBAGE,):
            self._send(200, b'{"hello": "there"}')
        elif told == (HALF,):
            self._send(200, b'{"id": "x", "cho', length=500)
            self.close_connection = True
        elif told == (SLOW,):
            time.sleep(3)
            self._send(200, b"{}")
        else:
            self._send(200, json.dumps(_completion(told)).encode())

    def _send(self, status: int, body: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length or len(body)))
        if status != 200:
            self.send_header("Retry-After", str(RETRY_AFTER_S))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.lock = threading.Lock()
        self.seen = Scripted(f"http://127.0.0.1:{self.server_address[1]}/v1")


def _completion(text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return {
        "id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage,
    }  # fmt: skip


@contextmanager
def serve(script: Script) -> Iterator[Scripted]:
    """Run the server on a free port of the loopback address."""
    with _Server(script) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.seen
        finally:
            server.shutdown()
