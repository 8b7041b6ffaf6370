"""A hub of one machine: the few HTTP endpoints that publishing and fetching a model repository need, on loopback.

    with HubStandIn() as hub:                 # hub.address is what HF_ENDPOINT would be
        hub.repos["me/x"] = {"main": {"README.md": b"..."}}

Safetensors go by Git LFS and everything else inside the commit, as on the real one. Requests are kept in `hub.log`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


class HubStandIn:
    """Repositories by id, branches by name, files by path; `denied` maps a repository to the error code it answers."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, Files]] = {}
        self.denied: dict[str, tuple[int, str]] = {}
        self.large: Files = {}
        self.log: list[str] = []
        self.tokens: set[str | None] = set()
        self.messages: list[str] = []
        self.created: list[dict[str, Any]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> HubStandIn:
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def commit_of(self, files: Files) -> str:
        """A commit's name, from what it holds."""
        return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()

    def files_at(self, repo: str, revision: str) -> Files | None:
        """The files of a branch or commit."""
        branches = self.repos[repo]
        return branches.get(revision) or next((f for f in branches.values() if self.commit_of(f) == revision), None)


class _Handler(BaseHTTPRequestHandler):
    hub: HubStandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self._chunks()
        path = unquote(urlsplit(self.path).path)
        self.hub.log.append(f"{self.command} {path}")
        self.hub.tokens.add(self.headers.get("Authorization"))
        for pattern, answer in self.routes.items():
            method, _, form = pattern.partition(" ")
            match = re.fullmatch(form, path)
            if match and self.command in method.split("|"):
                repo = match.groupdict().get("repo")
                if repo in self.hub.denied:
                    return self._error(*self.hub.denied[repo])
                if repo is not None and repo not in self.hub.repos:
                    return self._error(404, "RepoNotFound")
                return answer(self, body, **match.groupdict())
        return self._error(404, "EntryNotFound")

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def _chunks(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return b""
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, raw: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(json.dumps(value).encode(), status, Content_Type="application/json")

    def _error(self, status: int, code: str) -> None:
        self._send(json.dumps({"error": code}).encode(), status, X_Error_Code=code, Content_Type="application/json")

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        repo = f"{asked['organization']}/{asked['name']}"
        if repo in self.hub.denied:
            return self._error(*self.hub.denied[repo])
        self.hub.created.append(asked)
        new = repo not in self.hub.repos
        self.hub.repos.setdefault(repo, {"main": {".gitattributes": b""}})
        return self._json({"url": f"{self.hub.address}/{repo}"}, 200 if new else 409)

    def info(self, body: bytes, repo: str, revision: str | None = None) -> None:
        files = self.hub.files_at(repo, revision or "main")
        if files is None:
            return self._error(404, "RevisionNotFound")
        names = [{"rfilename": name} for name in files]
        return self._json(
            {"id": repo, "sha": self.hub.commit_of(files), "siblings": names, "private": False, "tags": []}
        )

    def branch(self, body: bytes, repo: str, revision: str) -> None:
        branches = self.hub.repos[repo]
        if revision in branches:
            return self._error(409, "Conflict")
        branches[revision] = dict(branches["main"])
        return self._json({})

    def tree(self, body: bytes, repo: str, revision: str) -> None:
        files = self.hub.files_at(repo, revision)
        if files is None:
            return self._error(404, "RevisionNotFound")
        entries = []
        for name, raw in files.items():
            entry: dict[str, Any] = {
                "type": "file",
                "path": name,
                "size": len(raw),
                "oid": hashlib.sha1(raw).hexdigest(),
            }
            if name.endswith(".safetensors"):
                entry["lfs"] = {"oid": hashlib.sha256(raw).hexdigest(), "size": len(raw), "pointerSize": 100}
            entries.append(entry)
        return self._json(entries)

    def preupload(self, body: bytes, repo: str, revision: str) -> None:
        def mode(name: str) -> str:
            return "lfs" if name.endswith(".safetensors") else "regular"

        files = json.loads(body)["files"]
        self._json(
            {"files": [{"path": f["path"], "uploadMode": mode(f["path"]), "shouldIgnore": False} for f in files]}
        )

    def batch(self, body: bytes, repo: str) -> None:
        asked = json.loads(body)["objects"]
        objects = [
            {**o, "authenticated": True, "actions": {"upload": {"href": f"{self.hub.address}/large/{o['oid']}"}}}
            for o in asked
        ]
        self._json({"transfer": "basic", "objects": objects})

    def large(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.large[oid] = body
        self._send(b"")

    def commit(self, body: bytes, repo: str, revision: str) -> None:
        files = dict(self.hub.repos[repo].get(revision) or {})
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                self.hub.messages.append(value["summary"])
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
        self.hub.repos[repo][revision] = files
        oid = self.hub.commit_of(files)
        self._json({"success": True, "commitOid": oid, "commitUrl": f"{self.hub.address}/{repo}/commit/{oid}"})

    def resolve(self, body: bytes, repo: str, revision: str, name: str) -> None:
        files = self.hub.files_at(repo, revision)
        if files is None or name not in files:
            return self._error(404, "EntryNotFound")
        raw, commit = files[name], self.hub.commit_of(files)
        return self._send(raw, ETag=f'"{hashlib.sha256(raw).hexdigest()}"', X_Repo_Commit=commit)

    def valid(self, body: bytes) -> None:
        self._json({"errors": [], "warnings": []})

    _REPO, _REV = r"(?P<repo>[^/]+/[^/]+?)", r"(?P<revision>[^/]+)"
    routes = {  # noqa: RUF012 - functions, not methods: they are called with the handler
        "POST /api/repos/create": create,
        "POST /api/validate-yaml": valid,
        f"GET /api/models/{_REPO}/revision/{_REV}": info,
        f"GET /api/models/{_REPO}/tree/{_REV}": tree,
        f"POST /api/models/{_REPO}/branch/{_REV}": branch,
        f"POST /api/models/{_REPO}/preupload/{_REV}": preupload,
        f"POST /api/models/{_REPO}/commit/{_REV}": commit,
        f"GET /api/models/{_REPO}": info,
        rf"POST /{_REPO}\.git/info/lfs/objects/batch": batch,
        r"POST|PUT /large/(?P<oid>\w+)": large,
        f"GET|HEAD /{_REPO}/resolve/{_REV}/(?P<name>.+)": resolve,
    }
