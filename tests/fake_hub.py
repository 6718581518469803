"""As much of a hub's HTTP interface as fetching one model or data set takes; counts requests by method and file."""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub(ThreadingHTTPServer):
    """Serves the files of a folder as one repository; ``with`` starts and stops it."""

    daemon_threads = True

    def __init__(self, folder: Path, repo: str, is_dataset: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.api = f"/api/{'datasets' if is_dataset else 'models'}/{repo}"
        self.files = f"{'/datasets' if is_dataset else ''}/{repo}/resolve/"
        self.repo = repo
        self.branches = {"main": COMMIT}
        self.extra_names: list[str] = []
        self.slow_name = "model.safetensors"
        self.requests: Counter[str] = Counter()
        self.tokens: set[str | None] = set()
        self.gated = False
        self.down = False
        self.seconds_per_chunk = 0.0

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.requests[f"{self.command} {path.rpartition('/')[2]}"] += 1
        self.server.tokens.add(self.headers.get("authorization"))
        if self.server.down:
            self._answer(503, b"")
        elif path.startswith(self.server.api):
            self._answer_api(path.removeprefix(self.server.api))
        elif path.startswith(self.server.files):
            commit, _, name = path.removeprefix(self.server.files).partition("/")
            self._answer_file(commit, name)
        else:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _answer_api(self, rest: str) -> None:
        kind, _, revision = rest.strip("/").partition("/")
        branches = self.server.branches
        commit = branches.get(revision or "main", revision if revision in branches.values() else None)
        if commit is None:
            self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif kind == "tree":
            found = [path for path in self.server.folder.rglob("*") if path.is_file()]
            sizes = {str(path.relative_to(self.server.folder)): path.stat().st_size for path in found}
            sizes |= dict.fromkeys(self.server.extra_names, 3)
            files = [{"type": "file", "path": name, "size": size, "oid": "0"} for name, size in sizes.items()]
            self._answer(200, json.dumps(files).encode())
        else:
            told = {"id": self.server.repo, "sha": commit, "siblings": [], "tags": []}
            self._answer(200, json.dumps(told).encode())

    def _answer_file(self, commit: str, name: str) -> None:
        if self.server.gated:
            self._answer(401, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."})
            return
        content = (self.server.folder / name).read_bytes()
        headers = {"X-Repo-Commit": commit, "ETag": f'"{zlib.crc32(name.encode()):08x}"'}
        self._answer(200, content, headers, slowly=name == self.server.slow_name)

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, slowly: bool = False) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        for start in range(0, len(body) if self.command == "GET" else 0, 1 << 16):
            time.sleep(self.server.seconds_per_chunk * slowly)
            self.wfile.write(body[start : start + (1 << 16)])
