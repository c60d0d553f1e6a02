"""The Hugging Face Hub as far as an upload and a download need it, on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["FakeHub"]

COMMIT = "c0ffee" * 6 + "c0ff"


class FakeHub:
    """A server that takes commits and keeps them.

    Attributes:
        token: the only one that it lets in.
        repos: name -> whether it is private.
        branches: those that were made.
        files: name in the repository -> bytes, after the commits.
        commits: name of the branch, and names of the files, of each.
        fail: what to answer instead, by a word in the path: status and message.
        asked: method and path of every request.
    """

    def __init__(self, token: str = "hf_of_the_test") -> None:
        self.token = token
        self.repos: dict[str, bool] = {}
        self.branches: list[str] = []
        self.files: dict[str, bytes] = {}
        self.commits: list[tuple[str, list[str]]] = []
        self.fail: dict[str, tuple[int, str]] = {}
        self.remarks: list[str] = []
        self.asked: list[str] = []
        self._objects: dict[str, bytes] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self, b"")

            def do_HEAD(self) -> None:
                hub.answer(self, b"")

            def do_POST(self) -> None:
                hub.answer(self, self._body())

            def do_PUT(self) -> None:
                hub.answer(self, self._body())

            def _body(self) -> bytes:
                if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            def log_message(self, format: str, *values: Any) -> None:
                return None

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, to: BaseHTTPRequestHandler, body: bytes) -> None:
        path = to.path.partition("?")[0]
        self.asked.append(f"{to.command} {path}")
        for word, (status, message) in self.fail.items():
            if word in path:
                _send(to, status, {"error": message})
                return
        if to.command == "PUT":
            self._objects[path.rpartition("/")[2]] = body
            _send(to, 200, {})
            return
        if to.headers.get("Authorization") != f"Bearer {self.token}":
            _send(to, 401, {"error": "Invalid username or password."})
            return
        if "/resolve/" in path:
            self._serve(to, path.partition("/resolve/")[2].partition("/")[2])
            return
        steps: dict[str, Callable[[str, bytes], tuple[int, Any]]] = {
            "/repos/create": self._create,
            "/branch/": self._branch,
            "/validate-yaml": self._validate,
            "/preupload/": self._preupload,
            "/objects/batch": self._batch,
            "/commit/": self._commit,
            "/api/models/": self._info,
        }
        for word, step in steps.items():
            if word in path:
                _send(to, *step(path, body))
                return
        _send(to, 404, {"error": f"the fake hub knows no {path}"})

    def _create(self, path: str, body: bytes) -> tuple[int, Any]:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] != "me":
            return 403, {"error": "You don't have the rights to create a model here"}
        there = name in self.repos
        self.repos.setdefault(name, asked.get("visibility") == "private")
        return (409 if there else 200), {"url": f"{self.url}/{name}", "error": "exists"}

    def _branch(self, path: str, body: bytes) -> tuple[int, Any]:
        self.branches.append(path.rpartition("/")[2])
        return 200, {}

    def _validate(self, path: str, body: bytes) -> tuple[int, Any]:
        content = json.loads(body)["content"]
        assert content.startswith("---\n")
        if "license: nonsense" in content:
            return 400, {"errors": [{"message": '"license" must be one of the known ones'}]}
        return 200, {"warnings": [{"message": one} for one in self.remarks]}

    def _preupload(self, path: str, body: bytes) -> tuple[int, Any]:
        files = []
        for one in json.loads(body)["files"]:
            large = one["path"].endswith((".safetensors", ".parquet", ".png", ".onnx"))
            mode = "lfs" if large else "regular"
            files.append({"path": one["path"], "uploadMode": mode, "shouldIgnore": False})
        return 200, {"files": files}

    def _batch(self, path: str, body: bytes) -> tuple[int, Any]:
        wanted = json.loads(body)["objects"]
        return 200, {
            "transfer": "basic",
            "objects": [
                {**one, "actions": {"upload": {"href": f"{self.url}/store/{one['oid']}"}}}
                for one in wanted
            ],
        }

    def _commit(self, path: str, body: bytes) -> tuple[int, Any]:
        names = []
        for line in body.splitlines():
            value = json.loads(line)
            if value["key"] == "file":
                one = value["value"]
                self.files[one["path"]] = base64.b64decode(one["content"])
                names.append(one["path"])
            elif value["key"] == "lfsFile":
                one = value["value"]
                found = self._objects[one["oid"]]
                assert hashlib.sha256(found).hexdigest() == one["oid"]
                assert len(found) == one["size"]
                self.files[one["path"]] = found
                names.append(one["path"])
        self.commits.append((path.rpartition("/")[2], sorted(names)))
        name = path.removeprefix("/api/models/").partition("/commit/")[0]
        return 200, {
            "success": True,
            "commitOid": COMMIT,
            "commitUrl": f"{self.url}/{name}/commit/{COMMIT}",
            "hookOutput": "",
        }

    def _info(self, path: str, body: bytes) -> tuple[int, Any]:
        name = path.removeprefix("/api/models/").partition("/revision/")[0]
        if name not in self.repos:
            return 404, {"error": "Repository not found"}
        return 200, {"id": name, "private": self.repos[name], "sha": COMMIT, "tags": []}

    def _serve(self, to: BaseHTTPRequestHandler, name: str) -> None:
        found = self.files.get(name)
        if found is None:
            _send(to, 404, {}, {"X-Error-Code": "EntryNotFound"})
            return
        tag = hashlib.sha256(found).hexdigest()
        _send(to, 200, found, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})


def _send(
    to: BaseHTTPRequestHandler, status: int, value: Any, headers: dict[str, str] | None = None
) -> None:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    to.send_response(status)
    kind = "application/octet-stream" if isinstance(value, bytes) else "application/json"
    for key, text in {"Content-Type": kind, **(headers or {})}.items():
        to.send_header(key, text)
    to.send_header("Content-Length", str(len(content)))
    to.end_headers()
    if to.command != "HEAD":
        to.wfile.write(content)
