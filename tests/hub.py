"""A stand-in for the Hugging Face hub: a folder of checkpoints, served on this machine as the hub serves them.

    python -m tests.published FOLDER                # tiny checkpoints under their published names
    python -m tests.hub FOLDER --port=8123
    HF_ENDPOINT=http://127.0.0.1:8123 HF_HOME=/some/empty/folder python -m mer_jax.train ...

`FOLDER/user/name` is the model `user/name`, `FOLDER/user/name@v1` its revision `v1`. A commit's hash is that of its
content. Answers what huggingface_hub asks: information on a model, the tree, heads and ranges of files, and uploads.
"""

import argparse
import base64
import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

API = re.compile(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+))?/?")
UPLOAD = re.compile(r"/api/(?:repos/create|validate-yaml|models/([^/]+/[^/]+)/(preupload|commit)/main)")
RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@cache
def sha1(file: Path, changed: int) -> str:
    """Hash of a file's content, once for each time of change."""
    return hashlib.sha1(file.read_bytes()).hexdigest()


@dataclass
class Commit:
    """The files of a revision of a model."""

    folder: Path

    @cached_property
    def files(self) -> dict[str, Path]:
        return {
            str(path.relative_to(self.folder)): path for path in sorted(self.folder.rglob("*")) if not path.is_dir()
        }

    def blob(self, name: str) -> str:
        return sha1(self.files[name], self.files[name].stat().st_mtime_ns)

    @property
    def hash(self) -> str:
        return hashlib.sha1("\n".join(f"{name} {self.blob(name)}" for name in self.files).encode()).hexdigest()


@dataclass
class Hub:
    """Serves `folder` while its `with` block lasts, at `endpoint`.

    Attributes:
        folder: of checkpoints, see above.
        faults: what is wrong with a model: "gated", a status such as 404 or 500, or "slow", which answers never.
        cuts: of a file's name, after how many bytes its first download breaks off.
        asked: requests so far, such as "GET /user/name/resolve/main/config.json".
    """

    folder: Path
    faults: dict[str, str | int] = field(default_factory=dict)
    cuts: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    port: int = 0
    closing: Event = field(default_factory=Event)

    def __enter__(self) -> "Hub":
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), type("Bound", (Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    def serve_this_process(self, patch: pytest.MonkeyPatch, cache: Path) -> None:
        """What HF_ENDPOINT and HF_HUB_CACHE do for a process that starts."""
        patch.setattr(constants, "ENDPOINT", self.endpoint)
        template = f"{self.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))

    def commit(self, model: str, revision: str) -> Commit | None:
        """By branch or hash; None if there is none."""
        for folder in (self.folder / model, *(self.folder / model).parent.glob(f"{Path(model).name}@*")):
            name = folder.name.partition("@")[2] or "main"
            if folder.is_dir() and revision in (name, Commit(folder).hash):
                return Commit(folder)
        return None


class Handler(BaseHTTPRequestHandler):
    """The hub's answers."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        self.send(json.dumps({"error": code}).encode(), status, X_Error_Code=code, X_Error_Message=code)

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.hub.asked.append(f"{self.command} {path}")
        match = API.fullmatch(path) or RESOLVE.fullmatch(path)
        if match is None:
            return self.refuse(404, "NotFound")
        model = match[1]
        fault = self.hub.faults.get(model)
        if fault == "slow":
            self.hub.closing.wait(60)
            return None
        if fault == "gated":
            return self.refuse(403, "GatedRepo")
        if isinstance(fault, int):
            return self.refuse(fault, "RepoNotFound" if fault == 404 else "Broken")
        if not (self.hub.folder / model).is_dir():
            return self.refuse(401, "RepoNotFound")
        is_file = match.re is RESOLVE
        commit = self.hub.commit(model, unquote(match[2] if is_file else match[3] or "main"))
        if commit is None:
            return self.refuse(404, "RevisionNotFound")
        if is_file:
            return self.send_file(commit, unquote(match[3]))
        files = [(name, file.stat().st_size, commit.blob(name)) for name, file in commit.files.items()]
        if match[2] in ("tree", "paths-info"):
            content: Any = [{"type": "file", "path": name, "size": size, "oid": oid} for name, size, oid in files]
        else:
            siblings = [{"rfilename": name, "size": size, "blobId": oid} for name, size, oid in files]
            content = {"id": model, "modelId": model, "sha": commit.hash, "siblings": siblings, "private": False}
        return self.send(json.dumps(content).encode(), Content_Type="application/json")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        match = UPLOAD.fullmatch(path)
        if match is None:
            return self.do_GET()
        self.hub.asked.append(f"POST {path}")
        lines = [json.loads(line) for line in self.rfile.read(int(self.headers["Content-Length"])).splitlines()]
        if self.hub.faults.get("upload"):
            return self.refuse(403, "Forbidden")
        content: dict[str, Any] = {"errors": [], "warnings": []}
        if match[0].endswith("/create"):
            name = "/".join(filter(None, (lines[0].get("organization"), lines[0]["name"])))
            (self.hub.folder / name).mkdir(parents=True, exist_ok=True)
            content = {"url": f"{self.hub.endpoint}/{name}"}
        elif match[2] == "preupload":
            names = [each["path"] for each in lines[0]["files"]]
            content = {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
        elif match[2] == "commit":
            for value in (line["value"] for line in lines if line["key"] == "file"):
                target = self.hub.folder / match[1] / value["path"]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(base64.b64decode(value["content"]))
            commit = Commit(self.hub.folder / match[1]).hash
            content = {"commitOid": commit, "commitUrl": f"{self.hub.endpoint}/{match[1]}/commit/{commit}"}
        return self.send(json.dumps(content).encode(), Content_Type="application/json")

    def send_file(self, commit: Commit, name: str) -> None:
        if name not in commit.files:
            return self.refuse(404, "EntryNotFound")
        content = commit.files[name].read_bytes()
        headers = {"ETag": f'"{commit.blob(name)}"', "X_Repo_Commit": commit.hash, "Accept_Ranges": "bytes"}
        start = int((re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0, 0])[1])
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut = self.hub.cuts.pop(name, None) if self.command == "GET" else None
        if cut is None:
            return self.send(content[start:], 206 if start else 200, **headers)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:cut])
        self.close_connection = True
        return None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    with Hub(options.folder, port=options.port) as hub, suppress(KeyboardInterrupt):
        print(f"export HF_ENDPOINT={hub.endpoint}", flush=True)
        Event().wait()
