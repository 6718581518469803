"""As much of a hub's HTTP interface as fetching one model or data set takes; counts requests by method and file.

Answers as huggingface.co does: a listing with directories and, for weights, LFS facts; ``resolve`` gives git's digest
as the etag of a small file and redirects weights to a second host, which is sent no token and serves ranges.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LFS_SUFFIXES = (".safetensors", ".parquet", ".bin")
CDN = "/cdn/"


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
        self.ranges: list[str] = []
        self.tokens: set[str | None] = set()
        self.cdn_tokens: set[str | None] = set()
        self.gated = False
        self.down = False
        self.cdn_down = False
        self.cut_off_once = False
        """Close the connection in the middle of the next file of the second host."""
        self.seconds_per_chunk = 0.0

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """Say nothing of a client that was killed."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def cdn_address(self) -> str:
        return f"http://localhost:{self.server_address[1]}{CDN}"


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
        tokens = self.server.cdn_tokens if path.startswith(CDN) else self.server.tokens
        tokens.add(self.headers.get("authorization"))
        if self.server.down or (self.server.cdn_down and path.startswith(CDN)):
            self._answer(503, b"")
        elif path.startswith(CDN):
            self._answer_content(path.removeprefix(CDN))
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
            self._answer(200, json.dumps(self._tree()).encode())
        else:
            told = {"id": self.server.repo, "sha": commit, "siblings": [], "tags": []}
            self._answer(200, json.dumps(told).encode())

    def _tree(self) -> list[dict[str, object]]:
        entries: list[dict[str, object]] = []
        for path in self.server.folder.rglob("*"):
            name = str(path.relative_to(self.server.folder))
            if path.is_dir():
                entries.append({"type": "directory", "path": name, "size": 0, "oid": "0" * 40})
                continue
            content = path.read_bytes()
            entry = {"type": "file", "path": name, "size": len(content), "oid": _etag("", content)}
            if name.endswith(LFS_SUFFIXES):
                entry["lfs"] = {"oid": _etag(name, content), "size": len(content), "pointerSize": 134}
            entries.append(entry)
        extra = [{"type": "file", "path": name, "size": 3, "oid": "0" * 40} for name in self.server.extra_names]
        return entries + extra

    def _answer_file(self, commit: str, name: str) -> None:
        if self.server.gated:
            self._answer(401, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."})
            return
        content = (self.server.folder / name).read_bytes()
        etag = _etag(name, content)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag}"'}
        if name.endswith(LFS_SUFFIXES):
            linked = {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
            self._answer(302, b"", headers | linked | {"Location": self.server.cdn_address + name})
        else:
            self._answer(200, content, headers)

    def _answer_content(self, name: str) -> None:
        content, wanted = (self.server.folder / name).read_bytes(), self.headers.get("range")
        slowly = name == self.server.slow_name
        if wanted is None:
            self._answer(200, content, {"ETag": f'"{_etag(name, content)}"'}, slowly, may_cut_off=True)
            return
        self.server.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").partition("-")[0])
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        self._answer(206, content[start:], headers, slowly)

    def _answer(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        slowly: bool = False,
        may_cut_off: bool = False,
    ) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if may_cut_off and self.server.cut_off_once:
            self.server.cut_off_once, body = False, body[: len(body) // 2]
            self.close_connection = True
        for start in range(0, len(body), 1 << 16):
            time.sleep(self.server.seconds_per_chunk * slowly)
            self.wfile.write(body[start : start + (1 << 16)])


def _etag(name: str, content: bytes) -> str:
    """Return what names a content: its SHA-256 for a file in LFS, git's digest of a blob for another one."""
    if name.endswith(LFS_SUFFIXES):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
