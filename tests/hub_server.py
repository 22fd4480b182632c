"""A small local Hub: the HTTP calls that `huggingface_hub` and `datasets` make, answered from a folder.

For tests and demonstrations of pushing to and loading from the Hub where the Hub is out of reach:

    with HubServer(folder, tokens={"hf_alice": "alice"}) as server:
        subprocess.run([...], env=server.environment(token="hf_alice"))

or `python tests/hub_server.py --folder hub --port 8000 --token hf_alice=alice`, then `HF_ENDPOINT=http://127.0.0.1:8000`.

It keeps repositories of models and datasets with every revision, branches, tags, large files (LFS, in one piece or in
parts), private repositories and tokens, and it fails on demand (`HubServer.fail`). Files are stored by their hash and
sent in blocks, never held in memory; what is committed is forgotten when the process ends. `ROUTES` lists the calls.

It is not the Hub: no pull requests, spaces, gated repositories, quotas or dataset viewer; a repository belongs to the
user who created it; a card's metadata is checked for the commonest errors only. It has no Xet storage, which the
client decides on its own to use wherever `hf_xet` is installed: clients need HF_HUB_DISABLE_XET=1.
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections import namedtuple
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

import yaml

# Method, path, method of `Handler`, who may call it: "anyone", a "user" (valid token), who may "read" or "write" the
# repository, or the bearer of a "signed" URL.
ROUTES = (
    ("GET", "/api/whoami-v2", "whoami", "user"),
    ("POST", "/api/validate-yaml", "validate_yaml", "anyone"),
    ("POST", "/api/repos/create", "create_repo", "user"),
    ("DELETE", "/api/repos/delete", "delete_repo", "user"),
    ("PUT", "/api/{repo}/settings", "settings", "write"),
    ("GET", "/api/{repo}", "info", "read"),
    ("GET", "/api/{repo}/revision/{rev}", "info", "read"),
    ("GET", "/api/{repo}/tree/{rev}(?:/{path})?", "tree", "read"),
    ("POST", "/api/{repo}/paths-info/{rev}", "paths_info", "read"),
    ("GET", "/api/{repo}/commits/{rev}", "commits", "read"),
    ("GET", "/api/{repo}/refs", "refs", "read"),
    ("POST", "/api/{repo}/branch/{rev}", "create_branch", "write"),
    ("DELETE", "/api/{repo}/branch/{rev}", "delete_branch", "write"),
    ("POST", "/api/{repo}/tag/{rev}", "create_tag", "write"),
    ("DELETE", "/api/{repo}/tag/{rev}", "delete_tag", "write"),
    ("POST", "/api/{repo}/preupload/{rev}", "preupload", "write"),
    ("POST", "/api/{repo}/commit/{rev}", "commit", "write"),
    ("GET", "/api/{repo}/xet-(?:read|write)-token/{rev}", "no_xet", "read"),
    ("GET|HEAD", "/{web}/resolve/{rev}/{path}", "resolve", "read"),
    ("POST", "/{web}[.]git/info/lfs/objects/batch", "lfs_batch", "write"),
    ("GET|HEAD", "/lfs/{repo}/{oid}", "lfs_get", "signed"),
    ("PUT", "/lfs/{repo}/{oid}", "lfs_put", "signed"),
    ("POST", "/lfs/{repo}/{oid}", "lfs_join_parts", "signed"),
    ("POST", "/lfs/{repo}/{oid}/verify", "lfs_verify", "signed"),
)
PLACEHOLDERS = {
    "{repo}": r"(?P<kind>models|datasets)/(?P<name>\w[\w.-]*/\w[\w.-]*)",
    "{web}": r"(?:(?P<kind>datasets)/)?(?P<name>\w[\w.-]*/\w[\w.-]*)",
    "{rev}": "(?P<rev>[^/]+)",
    "{path}": "(?P<path>.+)",
    "{oid}": "(?P<oid>[0-9a-f]{64})",
}
BLOCK = 1 << 20
LFS_SIZE = 10 << 20  # bytes from which any file is a large file, as on the Hub
LFS_SUFFIXES = tuple(
    ".7z .arrow .bin .bz2 .ckpt .gz .h5 .jpeg .jpg .mp4 .npy .npz .onnx .parquet .pickle .pkl .png .pt .pth"
    " .safetensors .tar .tflite .tif .tiff .webp .xz .zip .zst".split()
)
LICENSES = (  # https://huggingface.co/docs/hub/repositories-licenses
    "afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0"
    " bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5"
    " cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0"
    " cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0"
    " cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0"
    " etalab-2.0 eupl-1.1 eupl-1.2 gemma gfdl gpl gpl-2.0 gpl-3.0 h-research intel-research isc lgpl lgpl-2.1 lgpl-3.0"
    " lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1"
    " openmdw-1.0 openrail openrail++ osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib"
).split()

File = namedtuple("File", "oid size sha256")  # git's hash of the file, or of its pointer where sha256 is not None
Commit = namedtuple("Commit", "sha parent title message author date tree")  # tree: {path: File}
Upload = namedtuple("Upload", "oid received stored")  # one PUT: hash, bytes that arrived, whether they were kept


class HubError(Exception):
    def __init__(self, status, message, code=None, **headers):
        super().__init__(message)
        named = {
            "X-Error-Code": code,
            "X-Error-Message": message,
            **{k.replace("_", "-"): v for k, v in headers.items()},
        }
        self.status, self.headers = status, {key: value for key, value in named.items() if value is not None}


@dataclass
class Fault:
    method: str
    path: str
    status: int | None
    times: int | None
    headers: dict
    cut_after: int | None
    delay: float


@dataclass
class Repo:
    kind: str  # "models" or "datasets"
    name: str  # "namespace/name"
    owner: str
    private: bool
    objects: Path  # files by their hash: sha256 of large files, git's hash of the others
    history: dict = field(default_factory=dict)  # {sha: Commit}
    branches: dict = field(default_factory=dict)
    tags: dict = field(default_factory=dict)

    @property
    def web(self):
        return self.name if self.kind == "models" else f"{self.kind}/{self.name}"

    def at(self, revision):
        """The commit of a branch, a tag or a (shortened) hash."""
        sha = self.branches.get(revision.removeprefix("refs/heads/")) or self.tags.get(revision)
        found = [c for c in self.history if c == sha or (not sha and len(revision) > 6 and c.startswith(revision))]
        if not found:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.history[found[0]]

    def log(self, commit):
        while commit is not None:
            yield commit
            commit = self.history.get(commit.parent)

    def add(self, branch, tree, title, message, author):
        parent, date = self.branches.get(branch), datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        sha = hashlib.sha1(repr((parent, sorted(tree.items()), title, time.time_ns())).encode()).hexdigest()
        self.history[sha] = Commit(sha, parent, title, message, author, date.replace("+00:00", "Z"), tree)
        self.branches[branch] = sha
        return sha

    def store(self, content):
        """A small file."""
        file = File(git_hash(content), len(content), None)
        (self.objects / file.oid).write_bytes(content)
        return file


def git_hash(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def pointer(sha256, size):
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def read_card(text):
    """Metadata of a README and the errors that the Hub would find in it."""
    block = re.match(r"\s*---[\r\n]+(.*?)[\r\n]+---\s*([\r\n]|$)", text, re.DOTALL)
    try:
        data = yaml.safe_load(block[1]) if block else {}
    except yaml.YAMLError as error:
        return {}, [f"Invalid YAML: {error}"]
    if not isinstance(data or {}, dict):
        return {}, ["The metadata must be a mapping"]
    data, errors = data or {}, []
    for value in as_list(data.get("license", [])):
        if value not in LICENSES:
            errors.append(f'"license" must be one of [{", ".join(LICENSES)}]')
    for key in ("tags", "task_categories", "size_categories", "metrics", "datasets"):
        if not all(isinstance(value, str) for value in as_list(data.get(key, []))):
            errors.append(f'"{key}" must be a string or an array of strings')
    for value in as_list(data.get("datasets", [])):
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(value)):
            errors.append(
                f'"datasets" with value "{value}" is not valid. Use a dataset id from https://hf.co/datasets.'
            )
    for key in ("library_name", "pipeline_tag", "license_name", "license_link", "pretty_name"):
        if not isinstance(data.get(key, ""), str):
            errors.append(f'"{key}" must be a string')
    models = data.get("model-index", [])
    if not isinstance(models, list):
        return data, [*errors, '"model-index" must be an array']
    for i, model in enumerate(models):
        where = f"model-index[{i}]"
        errors += missing(model, where, "name", "results")
        for j, result in enumerate(model.get("results") or []):
            errors += missing(result, f"{where}.results[{j}]", "task.type", "dataset.name", "dataset.type", "metrics")
            for k, metric in enumerate(result.get("metrics") or []):
                errors += missing(metric, f"{where}.results[{j}].metrics[{k}]", "type", "value")
    return data, errors


def as_list(value):
    return value if isinstance(value, list) else [value]


def missing(mapping, where, *keys):
    for key in keys:
        value = mapping
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            yield f'"{where}.{key}" is required'


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    routes = [
        (method, re.compile(re.sub(r"\{\w+\}", lambda m: PLACEHOLDERS[m[0]], path)), name, access)
        for method, path, name, access in ROUTES
    ]

    # Requests and replies

    def handle_request(self):
        url = urlsplit(self.path)
        self.query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        self.fault = self.hub.take_fault(self.command, unquote(self.path))
        self.body = self.read_body()
        try:
            if self.fault:
                time.sleep(self.fault.delay)
            if self.fault and self.fault.status:
                phrase = HTTPStatus(self.fault.status).phrase
                raise HubError(self.fault.status, f"{phrase}: a fault of this test server", **self.fault.headers)
            for method, pattern, name, access in self.routes:
                match = pattern.fullmatch(url.path) if self.command in method.split("|") else None
                if match:
                    arguments = {key: unquote(value) for key, value in match.groupdict().items() if value is not None}
                    self.authorize(access, arguments)
                    return getattr(self, name)(**arguments)
            raise HubError(404, f"No such call: {self.command} {url.path}")
        except HubError as error:
            self.send({"error": str(error)}, error.status, error.headers)
        except ConnectionError:  # the client left, or a fault cut the connection
            self.hub.requests.append((self.command, self.path, 0))
            self.cut()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_request

    @property
    def hub(self):
        return self.server.hub

    def setup(self):
        super().setup()
        self.hub.connections.add(self.connection)

    def finish(self):
        self.hub.connections.discard(self.connection)
        super().finish()

    def log_message(self, *arguments):
        """Nothing on stderr: `HubServer.requests` is the log."""

    def authorize(self, access, arguments):
        """Sets `user` and, where the call names one, `repo`; refuses with the statuses of the Hub."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in {**self.hub.tokens, **self.hub.read_tokens}:
            raise HubError(401, "Invalid credentials in Authorization header")
        self.user = self.hub.tokens.get(token) or self.hub.read_tokens.get(token)
        self.may_write = token in self.hub.tokens
        if access == "signed":
            if not hmac.compare_digest(self.query.get("signature", ""), self.hub.signature):
                raise HubError(403, "SignatureDoesNotMatch")
        elif access in ("user", "write") and not self.user:
            raise HubError(401, "Invalid username or password.", "RepoNotFound" if access == "write" else None)
        if "name" in arguments:
            self.repo = self.hub.repos.get((arguments.pop("kind", "models"), arguments.pop("name")))
            if access != "signed" and (self.repo is None or (self.repo.private and self.user != self.repo.owner)):
                status = 404 if self.user else 401
                message = "Repository not found" if self.user else "Invalid username or password."
                raise HubError(status, message, "RepoNotFound")
            if access == "write":
                self.require_write(self.repo.owner)

    def require_write(self, owner):
        if not self.may_write:
            raise HubError(403, "Forbidden: you must use a write token to upload to a repository.")
        if self.user != owner:
            raise HubError(403, "Forbidden: you don't have the rights to write to this repository or namespace")

    def read_body(self):
        """Blocks of the request's body, cut off where a fault says so."""
        chunked = self.headers.get("Transfer-Encoding", "").lower() == "chunked"
        left = 0 if chunked else int(self.headers.get("Content-Length") or 0)
        allowed = self.fault.cut_after if self.fault and self.fault.cut_after is not None else None
        while True:
            if chunked and not left:
                left = int(self.rfile.readline().split(b";")[0].strip() or b"0", 16)
                if not left:
                    self.rfile.readline()
            if not left:
                return
            wanted = min(left, BLOCK) if allowed is None else min(left, BLOCK, allowed)
            block = self.rfile.read(wanted)
            left -= len(block)
            if block:
                yield block
            if allowed is not None:
                allowed -= len(block)
            if len(block) < wanted or allowed == 0:
                raise ConnectionError
            if chunked and not left:
                self.rfile.readline()

    def json(self):
        return json.loads(b"".join(self.body) or b"{}")

    def cut(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def send(self, content=b"", status=200, headers=(), path=None):
        """Replies with `content`, JSON unless bytes, or with the file at `path` or the range of it asked for."""
        for _ in self.body:  # what was not read would be taken for the next request
            pass
        headers = dict(headers)
        if path is None:
            if not isinstance(content, bytes):
                content, headers["Content-Type"] = json.dumps(content).encode(), "application/json; charset=utf-8"
            start, stop = 0, len(content)
        else:
            size = path.stat().st_size
            start, stop = 0, size
            headers["Accept-Ranges"] = "bytes"
            asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            if asked:
                first, last = asked.groups()
                start = int(first) if first else max(0, size - int(last))
                stop = min(size, int(last) + 1) if first and last else size
                if start >= stop:
                    raise HubError(416, "Range not satisfiable", Content_Range=f"bytes */{size}")
                status, headers["Content-Range"] = 206, f"bytes {start}-{stop - 1}/{size}"
        self.hub.requests.append((self.command, self.path, status))
        self.send_response(status)
        for key, value in {**headers, "Content-Length": stop - start}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = self.command == "GET" and self.fault and self.fault.cut_after is not None
        if cut:
            stop = min(stop, start + self.fault.cut_after)
        if path is None:
            self.wfile.write(content[start:stop])
        else:
            with open(path, "rb") as file:
                file.seek(start)
                while start < stop:
                    block = file.read(min(BLOCK, stop - start))
                    start += len(block)
                    self.wfile.write(block)
        if cut:
            self.cut()

    # Users, repositories and cards

    def whoami(self):
        role = {"accessToken": {"displayName": "test", "role": "write" if self.may_write else "read"}}
        user = {"type": "user", "id": self.user, "name": self.user, "fullname": self.user, "isPro": False}
        self.send({**user, "orgs": [], "auth": {"type": "access_token", **role}})

    def validate_yaml(self):
        data, errors = read_card(self.json()["content"])
        warnings = [] if data or errors else ["empty or missing yaml metadata in repo card"]
        reply = {"errors": [{"message": e} for e in errors], "warnings": [{"message": w} for w in warnings]}
        if errors:
            reply["error"] = "\n".join(errors)
        self.send(reply, 400 if errors else 200)

    def named_repo(self):
        body = self.json()
        return (f"{body.get('type') or 'model'}s", f"{body.get('organization') or self.user}/{body['name']}"), body

    def create_repo(self):
        (kind, name), body = self.named_repo()
        namespace = name.split("/")[0]
        others = {*self.hub.tokens.values(), *self.hub.read_tokens.values()} - {self.user}
        self.require_write(None if namespace in others else self.user)
        with self.hub.lock:
            found = (kind, name) in self.hub.repos
            if not found:
                private = body.get("private") or body.get("visibility") == "private"
                objects = self.hub.folder / kind / name
                repo = self.hub.repos[kind, name] = Repo(kind, name, self.user, bool(private), objects)
                objects.mkdir(parents=True)
                attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES)
                repo.add("main", {".gitattributes": repo.store(attributes.encode())}, "initial commit", "", self.user)
        reply = {"url": f"{self.hub.endpoint}/{self.hub.repos[kind, name].web}", "name": name, "id": name}
        if found:
            return self.send({**reply, "error": f"You already created this {kind[:-1]} repo"}, 409)
        self.send(reply)

    def delete_repo(self):
        (kind, name), _ = self.named_repo()
        self.authorize("write", {"kind": kind, "name": name})
        shutil.rmtree(self.hub.repos.pop((kind, name)).objects)
        self.send({})

    def settings(self):
        body = self.json()
        self.repo.private = body.get("private", body.get("visibility") == "private")
        self.send({"private": self.repo.private})

    def info(self, rev="main"):
        repo, commit = self.repo, self.repo.at(rev)
        readme = commit.tree.get("README.md")
        card = read_card((repo.objects / readme.oid).read_text())[0] if readme and not readme.sha256 else {}
        tags = [*as_list(card.get("tags") or []), *(card[k] for k in ("library_name", "pipeline_tag") if k in card)]
        tags += [f"license:{value}" for value in as_list(card.get("license", []))]
        siblings = [{"rfilename": path} for path in sorted(commit.tree)]
        if self.query.get("blobs", "").lower() == "true":
            for sibling in siblings:
                file = commit.tree[sibling["rfilename"]]
                sibling |= {"size": file.size, "blobId": file.oid}
                if file.sha256:
                    size = len(pointer(file.sha256, file.size))
                    sibling["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": size}
        reply = {"_id": repo.name, "id": repo.name, "author": repo.name.split("/")[0], "sha": commit.sha}
        reply |= {"lastModified": commit.date, "createdAt": [*repo.log(commit)][-1].date, "private": repo.private}
        reply |= {"gated": False, "disabled": False, "downloads": 0, "likes": 0, "tags": list(dict.fromkeys(tags))}
        reply |= {"cardData": card, "siblings": siblings, "usedStorage": sum(f.size for f in commit.tree.values())}
        if repo.kind == "models":
            reply |= {"modelId": repo.name, **{k: card[k] for k in ("library_name", "pipeline_tag") if k in card}}
        wanted = parse_qs(urlsplit(self.path).query).get("expand")
        self.send({k: v for k, v in reply.items() if k in wanted or k in ("_id", "id")} if wanted else reply)

    # Trees and revisions

    def entry(self, commit, path, expand):
        """What the tree lists for a file or a folder; None if there is neither."""
        file = commit.tree.get(path)
        if file:
            entry = {"type": "file", "oid": file.oid, "size": file.size, "path": path}
            if file.sha256:
                size = len(pointer(file.sha256, file.size))
                entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": size}
        elif any(name.startswith(f"{path}/") for name in commit.tree):
            entry = {"type": "directory", "oid": git_hash(f"{commit.sha} {path}".encode()), "size": 0, "path": path}
        else:
            return None
        if expand:
            states = [
                (c, {n: f for n, f in c.tree.items() if f"{n}/".startswith(f"{path}/")}) for c in self.repo.log(commit)
            ]
            last = next(
                c for (c, state), (_, older) in zip(states, [*states[1:], (None, {})], strict=True) if state != older
            )
            entry["lastCommit"] = {"id": last.sha, "title": last.title, "date": last.date}
        return entry

    def tree(self, rev, path=""):
        commit, prefix = self.repo.at(rev), f"{path}/" if path else ""
        inside = [name[len(prefix) :].split("/") for name in commit.tree if name.startswith(prefix)]
        if not inside:
            raise HubError(404, f"{path} does not exist on {rev}", "EntryNotFound")
        deepest = max(map(len, inside)) if self.query.get("recursive", "").lower() == "true" else 1
        names = {prefix + "/".join(parts[:n]) for parts in inside for n in range(1, min(len(parts), deepest) + 1)}
        self.send([self.entry(commit, name, self.query.get("expand", "").lower() == "true") for name in sorted(names)])

    def paths_info(self, rev):
        body, commit = b"".join(self.body).decode(), self.repo.at(rev)
        form = json.loads(body) if body.startswith("{") else parse_qs(body)
        expand = str(as_list(form.get("expand", False))[0]).lower() == "true"
        entries = [self.entry(commit, path.strip("/"), expand) for path in as_list(form.get("paths", []))]
        self.send([entry for entry in entries if entry])

    def commits(self, rev):
        keys = [(c, {"id": c.sha, "title": c.title, "message": c.message}) for c in self.repo.log(self.repo.at(rev))]
        self.send([{**key, "date": c.date, "authors": [{"user": c.author}]} for c, key in keys])

    def refs(self):
        def listed(where, refs):
            return [{"name": name, "ref": f"refs/{where}/{name}", "targetCommit": sha} for name, sha in refs.items()]

        reply = {"branches": listed("heads", self.repo.branches), "tags": listed("tags", self.repo.tags)}
        self.send({**reply, "converts": [], "pullRequests": []})

    def create_ref(self, refs, name, start):
        if name in refs:
            raise HubError(409, f"Reference already exists: {name}")
        refs[name] = self.repo.at(start).sha
        self.send({})

    def create_branch(self, rev):
        self.create_ref(self.repo.branches, rev, self.json().get("startingPoint", "main"))

    def create_tag(self, rev):
        self.create_ref(self.repo.tags, self.json()["tag"], rev)

    def delete_ref(self, refs, name):
        if refs.pop(name, None) is None:
            raise HubError(404, f"No such reference: {name}", "RevisionNotFound")
        self.send({})

    def delete_branch(self, rev):
        if rev == "main":
            raise HubError(403, "Cannot delete the default branch")
        self.delete_ref(self.repo.branches, rev)

    def delete_tag(self, rev):
        self.delete_ref(self.repo.tags, rev)

    # Uploads

    def preupload(self, rev):
        tree, files = self.repo.at(rev).tree, []
        for file in self.json()["files"]:
            large = file["size"] >= LFS_SIZE or file["path"].lower().endswith(LFS_SUFFIXES)
            entry = {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            if file["path"] in tree:
                entry["oid"] = tree[file["path"]].sha256 or tree[file["path"]].oid
            files.append(entry)
        self.send({"files": files})

    def commit(self, rev):
        lines = [json.loads(line) for line in b"".join(self.body).splitlines() if line.strip()]
        header, operations = lines[0]["value"], [(line["key"], line["value"]) for line in lines[1:]]
        if "create_pr" in self.query:
            raise HubError(501, "This server has no pull requests")
        with self.hub.lock:
            if rev not in self.repo.branches:
                raise HubError(404, f"Invalid rev id: {rev}", "RevisionNotFound")
            head = self.repo.at(rev)
            if not head.sha.startswith(header.get("parentCommit", "")):
                raise HubError(412, "A commit has happened since. Please refresh and try again.")
            tree = dict(head.tree)
            for key, value in operations:
                path = value["path"]
                if key == "file":
                    content = base64.b64decode(value["content"])
                    errors = read_card(content.decode())[1] if path == "README.md" else []
                    if errors:
                        raise HubError(400, "; ".join(errors))
                    tree[path] = self.repo.store(content)
                elif key == "lfsFile":
                    stored = self.repo.objects / value["oid"]
                    if not stored.exists():
                        raise HubError(400, f"LFS pointer pointed to a file that does not exist: {path}")
                    size = stored.stat().st_size
                    tree[path] = File(git_hash(pointer(value["oid"], size)), size, value["oid"])
                elif key in ("deletedFile", "deletedFolder"):
                    folder = path.rstrip("/") + "/"
                    gone = [
                        name for name in tree if (name.startswith(folder) if key == "deletedFolder" else name == path)
                    ]
                    if not gone:
                        raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
                    for name in gone:
                        del tree[name]
                else:
                    raise HubError(400, f"Unknown operation: {key}")
            sha = self.repo.add(rev, tree, header["summary"], header.get("description", ""), self.user)
        url = f"{self.hub.endpoint}/{self.repo.web}/commit/{sha}"
        self.send({"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def no_xet(self, rev):
        raise HubError(404, "This server has no Xet storage: set HF_HUB_DISABLE_XET=1")

    def lfs_url(self, oid, suffix="", **query):
        # `localhost` is another host than the endpoint's 127.0.0.1, as the Hub's storage is: the client reads a file's
        # metadata from the redirect and sends its token no further.
        query = "&".join(
            f"{key}={quote(str(value))}" for key, value in {**query, "signature": self.hub.signature}.items()
        )
        return f"http://localhost:{self.hub.port}/lfs/{self.repo.kind}/{self.repo.name}/{oid}{suffix}?{query}"

    def lfs_batch(self):
        body, objects = self.json(), []
        for wanted in body["objects"]:
            entry = {"oid": wanted["oid"], "size": wanted["size"]}
            if not (self.repo.objects / wanted["oid"]).exists():
                upload, part = {"href": self.lfs_url(wanted["oid"])}, self.hub.part_size
                if part and wanted["size"] > part and "multipart" in body["transfers"]:
                    numbers = range(1, -(-wanted["size"] // part) + 1)
                    urls = {str(number): self.lfs_url(wanted["oid"], part=number) for number in numbers}
                    upload["header"] = {"chunk_size": str(part), **urls}
                entry["actions"] = {"upload": upload, "verify": {"href": self.lfs_url(wanted["oid"], "/verify")}}
            objects.append(entry)
        self.send({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid):
        part, received, digest = self.query.get("part"), 0, hashlib.sha256()
        number, incoming = tempfile.mkstemp(dir=self.hub.incoming)
        stored = False
        try:
            with open(number, "wb") as file:
                for block in self.body:
                    received += len(block)
                    digest.update(block)
                    file.write(block)
            if part is None and digest.hexdigest() != oid:
                raise HubError(400, "The content is not the one announced")
            os.replace(incoming, self.hub.incoming / f"{oid}.{part}" if part else self.repo.objects / oid)
            stored = True
        finally:
            Path(incoming).unlink(missing_ok=True)
            self.hub.uploads.append(Upload(oid, received, stored))
        self.send(b"", headers={"ETag": f'"{digest.hexdigest()}"'})

    def lfs_join_parts(self, oid):
        parts = [self.hub.incoming / f"{oid}.{part['partNumber']}" for part in self.json()["parts"]]
        digest, joined = hashlib.sha256(), self.hub.incoming / oid
        with open(joined, "wb") as file:
            for part in parts:
                content = part.read_bytes()
                digest.update(content)
                file.write(content)
        if digest.hexdigest() != oid:
            raise HubError(400, "The parts do not make the file announced")
        os.replace(joined, self.repo.objects / oid)
        for part in parts:
            part.unlink()
        self.send({})

    def lfs_verify(self, oid):
        stored = self.repo.objects / oid
        if not stored.exists() or stored.stat().st_size != self.json()["size"]:
            raise HubError(404, "Object not found")
        self.send({})

    # Downloads

    def resolve(self, rev, path):
        commit = self.repo.at(rev)
        file = commit.tree.get(path)
        if file is None:
            raise HubError(404, "Entry not found", "EntryNotFound", X_Repo_Commit=commit.sha)
        headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{file.sha256 or file.oid}"'}
        if file.sha256 is None:
            return self.send(headers=headers, path=self.repo.objects / file.oid)
        headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": file.size, "Accept-Ranges": "bytes"}
        self.send(b"", 302, {**headers, "Location": self.lfs_url(file.sha256, filename=path)})

    def lfs_get(self, oid):
        if not (self.repo.objects / oid).exists():
            raise HubError(404, "Object not found")
        self.send(headers={"ETag": f'"{oid}"'}, path=self.repo.objects / oid)


class HubServer:
    """A Hub at `endpoint` while in its `with` block; entered again, it is back with what it held.

    `tokens` and `read_tokens` map tokens to users; only the first may write. A namespace that is no user's name is an
    organisation, open to every user. Files above `part_size` bytes are uploaded in parts. `requests` lists (method,
    path, status), status 0 where the connection broke before a reply; `uploads` lists an `Upload` per PUT of a file.
    """

    def __init__(self, folder, tokens, read_tokens=None, port=0, part_size=None):
        self.folder, self.tokens, self.read_tokens = Path(folder), dict(tokens), dict(read_tokens or {})
        self.port, self.part_size = port, part_size
        self.incoming = self.folder / "incoming"
        self.incoming.mkdir(parents=True, exist_ok=True)
        self.signature, self.lock = secrets.token_hex(16), threading.RLock()
        self.repos, self.faults, self.requests, self.uploads, self.connections = {}, [], [], [], set()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        self.httpd = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.httpd.hub, self.port = self, self.httpd.server_port
        threading.Thread(target=self.httpd.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self.httpd.shutdown()
        self.httpd.server_close()
        for connection in list(self.connections):  # a client keeps its connections open and would still be served
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def fail(self, method, path, status=None, times=1, headers=None, cut_after=None, delay=0.0):
        """From now on, `times` requests (None: all) whose method and path match these regular expressions go wrong.

        They wait `delay` seconds, then are answered `status` with `headers`, or, where `cut_after` is given, lose the
        connection after that many bytes: of the reply to a GET, of the body of a PUT or POST; or else go on as usual.
        The path is searched in decoded form with its query: files that LFS stores pass under `/lfs/`.
        """
        self.faults.append(Fault(method, path, status, times, headers or {}, cut_after, delay))

    def take_fault(self, method, path):
        with self.lock:
            for fault in self.faults:
                if fault.times != 0 and re.fullmatch(fault.method, method) and re.search(fault.path, path):
                    fault.times = fault.times and fault.times - 1
                    return fault

    def environment(self, token=None, home=None):
        """This process's environment with the Hub at `endpoint` and an empty cache, in `home` if given."""
        ours = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "TRANSFORMERS_OFFLINE"))}
        ours |= {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(home or tempfile.mkdtemp(dir=self.folder))}
        ours |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0"}
        ours |= dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
        return {**ours, "HF_TOKEN": token} if token else ours


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", required=True, help="where the files are kept")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--token", action="append", default=[], metavar="TOKEN=USER", help="may be repeated")
    options = parser.parse_args()
    with HubServer(options.folder, dict(pair.split("=", 1) for pair in options.token), port=options.port) as running:
        print(running.endpoint, flush=True)
        threading.Event().wait()
