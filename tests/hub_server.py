"""A small local Hub: the HTTP calls that `huggingface_hub` and `datasets` make, answered from a folder.

For tests and demonstrations of pushing to and loading from the Hub where the Hub is out of reach:

    with HubServer(folder, tokens={"hf_alice": "alice"}) as server:
        subprocess.run([...], env=server.environment(token="hf_alice"))

or `python tests/hub_server.py --folder hub --port 8000 --token hf_alice=alice`, then `HF_ENDPOINT=http://127.0.0.1:8000`.

It has repositories of models and datasets with all their revisions, branches, tags, large files (LFS, in one piece or
in parts), private repositories and tokens, and it fails on demand (`HubServer.fail`). `ROUTES` lists the calls. Files
are kept by their hash and pass in blocks; the commits are forgotten when the process ends.

It is not the Hub: no pull requests, Spaces, gated repositories, quotas or dataset viewer; a repository is its creator's
alone; of a card's metadata only the commonest errors are found. It has no Xet storage, and a client with `hf_xet` does
not ask before it uploads to it: clients need `HF_HUB_DISABLE_XET=1`, which `HubServer.environment` sets.
"""

import argparse
import base64
import contextlib
import hashlib
import io
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
from itertools import takewhile
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import yaml

# Method, path, the method of `Handler` that answers, and who may call it: "anyone", a "user" (valid token), who may
# "read" or "write" the repository, or who has a "signed" URL, as for the Hub's storage.
ROUTES = (
    ("GET", "/api/whoami-v2", "whoami", "user"),
    ("POST", "/api/validate-yaml", "validate_yaml", "anyone"),
    ("POST", "/api/repos/create", "create_repo", "user"),
    ("DELETE", "/api/repos/delete", "delete_repo", "user"),
    ("GET", "/api/{repo}(?:/revision/{rev})?", "info", "read"),
    ("GET", "/api/{repo}/tree/{rev}(?:/{path})?", "tree", "read"),
    ("POST", "/api/{repo}/paths-info/{rev}", "paths_info", "read"),
    ("GET", "/api/{repo}/commits/{rev}", "commits", "read"),
    ("GET", "/api/{repo}/refs", "refs", "read"),
    ("POST", "/api/{repo}/branch/{rev}", "create_branch", "write"),
    ("POST", "/api/{repo}/tag/{rev}", "create_tag", "write"),
    ("POST", "/api/{repo}/preupload/{rev}", "preupload", "write"),
    ("GET", "/api/{repo}/xet-(?:read|write)-token/{rev}", "no_xet", "read"),
    ("POST", "/{web}[.]git/info/lfs/objects/batch", "lfs_batch", "write"),
    ("PUT", "/lfs/{repo}/{oid}", "lfs_put", "signed"),
    ("POST", "/lfs/{repo}/{oid}", "lfs_join_parts", "signed"),
    ("POST", "/{web}[.]git/info/lfs/objects/verify", "lfs_verify", "write"),
    ("POST", "/api/{repo}/commit/{rev}", "commit", "write"),
    ("GET|HEAD", "/{web}/resolve/{rev}/{path}", "resolve", "read"),
    ("GET|HEAD", "/lfs/{repo}/{oid}", "lfs_get", "signed"),
)
PLACEHOLDERS = {
    "{repo}": r"(?P<kind>models|datasets)/(?P<name>\w[\w.-]*/\w[\w.-]*)",
    "{web}": r"(?:(?P<kind>datasets)/)?(?P<name>\w[\w.-]*/\w[\w.-]*)",
    "{rev}": "(?P<rev>[^/]+)",
    "{path}": "(?P<path>.+)",
    "{oid}": "(?P<oid>[0-9a-f]{64})",
}
BLOCK = 1 << 20  # bytes read or sent at once
LFS_SIZE = 10 << 20  # bytes from which every file is a large file; so are binary files and these
LFS_SUFFIXES = (".arrow", ".bin", ".gz", ".jpg", ".npy", ".npz", ".parquet", ".png", ".pt", ".safetensors", ".zip")
CHOICES = {  # https://huggingface.co/docs/hub/repositories-licenses
    "license": (
        "afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0"
        " bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5"
        " cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0"
        " cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0"
        " cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0"
        " etalab-2.0 eupl-1.1 eupl-1.2 gemma gfdl gpl gpl-2.0 gpl-3.0 h-research intel-research isc lgpl lgpl-2.1"
        " lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by"
        " ofl-1.1 openmdw-1.0 openrail openrail++ osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib"
    ).split(),
    "size_categories": (
        "n<1K 1K<n<10K 10K<n<100K 100K<n<1M 1M<n<10M 10M<n<100M 100M<n<1B 1B<n<10B 10B<n<100B 100B<n<1T n>1T".split()
    ),
}

Commit = namedtuple("Commit", "sha parent title message author date tree")  # tree: {path: File}
Upload = namedtuple("Upload", "oid received stored")  # a PUT: sha256 of the file, bytes that came, whether all did


class HubError(Exception):
    """Any reply but success, with the headers by which the client tells one from the other."""

    def __init__(self, status, message, code=None, headers=()):
        super().__init__(message)
        self.status, self.headers = status, {"X-Error-Message": message, **dict(headers)}
        if code:
            self.headers["X-Error-Code"] = code


@dataclass
class Fault:
    """What befalls the next `times` requests (None: all) whose method and path match the regular expressions.

    They wait `delay` seconds; then, with a `status`, that is the answer, with these `headers`; with `cut_after`, the
    connection breaks after that many bytes of the body of a POST or PUT or of the reply to a GET; with `lose_reply`,
    the request is carried out and the connection breaks instead of the reply.
    """

    method: str = ".*"
    path: str = ""  # searched in the decoded path and query; what LFS stores comes and goes under /lfs/
    times: int | None = 1
    status: int | None = None
    headers: dict = field(default_factory=dict)
    cut_after: int | None = None
    lose_reply: bool = False
    delay: float = 0.0


def pointer(sha256, size):
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def git_hash(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class File(namedtuple("File", "oid size sha256")):
    """Git's hash of the file, or of its pointer if `sha256` says that it is a large one."""

    def lfs(self, name):
        size = len(pointer(self.sha256, self.size))
        return {"lfs": {name: self.sha256, "size": self.size, "pointerSize": size}} if self.sha256 else {}


@dataclass
class Repo:
    kind: str  # "models" or "datasets"
    name: str  # "namespace/name"
    owner: str
    private: bool
    objects: Path  # files by their hash: sha256 of large files, git's of the others
    history: dict = field(default_factory=dict)  # {sha: Commit}
    branches: dict = field(default_factory=dict)  # {name: sha}, as the tags
    tags: dict = field(default_factory=dict)

    @property
    def web(self):
        return self.name if self.kind == "models" else f"{self.kind}/{self.name}"

    def at(self, revision):
        """The commit of a branch, a tag or a hash, of which 7 digits suffice."""
        sha = self.branches.get(revision) or self.tags.get(revision) or revision
        found = [commit for known, commit in self.history.items() if known.startswith(sha) and len(sha) >= 7]
        if not found:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found[0]

    def log(self, commit):
        while commit:
            yield commit
            commit = self.history.get(commit.parent)

    def add(self, branch, tree, title, message, author):
        date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        parent = self.branches.get(branch)
        sha = hashlib.sha1(repr((date, parent, title, sorted(tree.items()))).encode()).hexdigest()
        self.history[sha] = Commit(sha, parent, title, message, author, date, tree)
        self.branches[branch] = sha
        return sha

    def store(self, content):
        file = File(git_hash(content), len(content), None)
        (self.objects / file.oid).write_bytes(content)
        return file


def as_list(value):
    return [] if value is None else value if isinstance(value, list) else [value]


def read_card(text):
    """Metadata of a README and what the Hub refuses in it."""
    block = re.match(r"\s*---\r?\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    try:
        data = (yaml.safe_load(block[1]) if block else None) or {}
    except yaml.YAMLError as error:
        return {}, [f"invalid YAML: {error}"]
    if not isinstance(data, dict):
        return {}, ["the metadata must be a mapping"]
    errors = []
    for key, choices in CHOICES.items():
        if not set(map(str, as_list(data.get(key)))) <= set(choices):
            errors.append(f'"{key}" must be one of [{", ".join(choices)}]')
    for key in ("library_name", "pipeline_tag", "license_name", "license_link", "pretty_name"):
        if not isinstance(data.get(key, ""), str):
            errors.append(f'"{key}" must be a string')
    for key in ("tags", "metrics", "datasets", "task_categories"):
        if not all(isinstance(value, str) for value in as_list(data.get(key))):
            errors.append(f'"{key}" must be an array of strings')
    for value in as_list(data.get("datasets")):
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(value)):
            errors.append(f'"datasets" with value "{value}" is not valid')

    def require(mapping, where, *keys):
        for key in keys:
            value = mapping
            for part in key.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            if value is None:
                errors.append(f'"{where}.{key}" is required')
        return mapping if isinstance(mapping, dict) else {}

    for i, model in enumerate(as_list(data.get("model-index"))):
        for j, result in enumerate(require(model, f"model-index[{i}]", "name", "results").get("results") or []):
            where = f"model-index[{i}].results[{j}]"
            result = require(result, where, "task.type", "dataset.name", "dataset.type", "metrics")
            for k, metric in enumerate(result.get("metrics") or []):
                require(metric, f"{where}.metrics[{k}]", "type", "value")
    return data, errors


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    routes = [
        (method.split("|"), re.compile(re.sub(r"\{\w+\}", lambda m: PLACEHOLDERS[m[0]], path)), name, access)
        for method, path, name, access in ROUTES
    ]

    # Requests and replies

    def setup(self):
        super().setup()
        self.hub, self.replied = self.server.hub, True
        self.hub.connections.add(self.connection)

    def handle(self):
        try:
            super().handle()
        except ConnectionError:  # the client left, or a fault
            if not self.replied:
                self.hub.requests.append((self.command, self.path, 0))

    def finish(self):
        self.hub.connections.discard(self.connection)
        super().finish()

    def handle_request(self):
        self.replied, self.fault = False, self.hub.take_fault(self.command, unquote(self.path))
        self.body = self.read_body()
        time.sleep(self.fault.delay)
        try:
            if self.fault.status:
                message = f"{HTTPStatus(self.fault.status).phrase} (asked for by a test)"
                raise HubError(self.fault.status, message, headers=self.fault.headers)
            self.answer()
        except HubError as error:
            self.send({"error": str(error)}, error.status, error.headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_request

    def answer(self):
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        for methods, pattern, name, access in self.routes:
            match = pattern.fullmatch(url.path)
            if match and self.command in methods:
                arguments = {key: unquote(value) for key, value in match.groupdict().items() if value}
                self.authorize(access, arguments)
                return getattr(self, name)(**arguments)
        raise HubError(404, f"This server does not know {self.command} {url.path}")

    def log_message(self, *arguments):
        """Nothing: `HubServer.requests` is the log."""

    def authorize(self, access, arguments):
        """Sets `user`, `may_write` and, for a call about one, `repo`, or refuses with the statuses of the Hub."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.user = self.hub.tokens.get(token) or self.hub.read_tokens.get(token)
        self.may_write = token in self.hub.tokens
        if token and not self.user:
            raise HubError(401, "Invalid credentials in Authorization header")
        if access == "user" and not self.user:
            raise HubError(401, "Invalid username or password.")
        if access == "signed" and (token or self.query.get("signature") != [self.hub.signature]):
            raise HubError(403, "Storage takes signed URLs, and no tokens")
        if "name" in arguments:
            self.repo = self.hub.repos.get((arguments.pop("kind", "models"), arguments.pop("name")))
            hidden = self.repo is None or (self.repo.private and access != "signed" and self.user != self.repo.owner)
            if not self.user and (hidden or access == "write"):
                raise HubError(401, "Invalid username or password.", "RepoNotFound")
            if hidden:
                raise HubError(404, "Repository not found", "RepoNotFound")
            if access == "write":
                self.require_write(self.repo.owner == self.user)

    def require_write(self, own):
        if not self.may_write:
            raise HubError(403, "Forbidden: you must use a write token to upload to a repository.")
        if not own:
            raise HubError(403, "Forbidden: you don't have the rights to write to this repository or namespace.")

    def read_body(self):
        """Blocks of the request's body."""
        left = int(self.headers.get("Content-Length") or 0)
        allowed = left + 1 if self.fault.cut_after is None else self.fault.cut_after
        while left:
            block = self.rfile.read(min(left, allowed, BLOCK))
            left, allowed = left - len(block), allowed - len(block)
            if block:
                yield block
            if not block or not allowed:
                raise ConnectionError

    def json(self):
        return json.loads(b"".join(self.body))

    def flag(self, name):
        return self.query.get(name, [""])[0].lower() == "true"

    def send(self, content=None, status=200, headers=(), file=None):
        """Replies with `content` as JSON, or with `file`, of which the client may have asked for a range."""
        for _ in self.body:  # what is left would be taken for the next request
            pass
        if self.fault.lose_reply:
            raise ConnectionError
        headers = dict(headers)
        if file:
            start, stop = 0, file.stat().st_size
            headers["Accept-Ranges"] = "bytes"
            asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            if asked:
                size, (first, last) = stop, asked.groups()
                start = int(first) if first else max(0, size - int(last))
                stop = min(size, int(last) + 1) if first and last else size
                if start >= stop:
                    raise HubError(416, "Range not satisfiable", headers={"Content-Range": f"bytes */{size}"})
                status, headers["Content-Range"] = 206, f"bytes {start}-{stop - 1}/{size}"
        else:
            content = b"" if content is None else json.dumps(content).encode()
            start, stop, headers["Content-Type"] = 0, len(content), "application/json"
        self.hub.requests.append((self.command, self.path, status))
        self.replied = True
        self.send_response(status)
        for key, value in {**headers, "Content-Length": stop - start}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = self.command == "GET" and self.fault.cut_after is not None
        left = min(stop - start, self.fault.cut_after) if cut else stop - start
        with open(file, "rb") if file else io.BytesIO(content) as source:
            source.seek(start)
            while left:
                block = source.read(min(left, BLOCK))
                left -= len(block)
                self.wfile.write(block)
        if cut:
            raise ConnectionError

    # Users, cards and repositories

    def whoami(self):
        token = {"displayName": "test", "role": "write" if self.may_write else "read"}
        auth = {"type": "access_token", "accessToken": token}
        self.send({"type": "user", "id": self.user, "name": self.user, "fullname": self.user, "orgs": [], "auth": auth})

    def validate_yaml(self):
        data, errors = read_card(self.json()["content"])
        warnings = [] if data or errors else [{"message": "empty or missing yaml metadata in repo card"}]
        self.send({"errors": [{"message": e} for e in errors], "warnings": warnings}, 400 if errors else 200)

    def named_repo(self):
        body = self.json()
        kind, namespace = f"{body.get('type', 'model')}s", body.get("organization") or self.user
        return body, kind, namespace, f"{namespace}/{body['name']}"

    def create_repo(self):
        body, kind, namespace, name = self.named_repo()
        users = {*self.hub.tokens.values(), *self.hub.read_tokens.values()}
        self.require_write(namespace == self.user or namespace not in users)
        with self.hub.lock:
            exists = (kind, name) in self.hub.repos
            if not exists:
                private = body.get("visibility") == "private" or bool(body.get("private"))
                repo = Repo(kind, name, self.user, private, self.hub.folder / kind / name)
                repo.objects.mkdir(parents=True)
                attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES)
                repo.add("main", {".gitattributes": repo.store(attributes.encode())}, "initial commit", "", self.user)
                self.hub.repos[kind, name] = repo
        reply = {"url": f"{self.hub.endpoint}/{self.hub.repos[kind, name].web}", "name": name}
        self.send({**reply, "error": "You already created this repo"} if exists else reply, 409 if exists else 200)

    def delete_repo(self):
        _, kind, _, name = self.named_repo()
        self.authorize("write", {"kind": kind, "name": name})
        shutil.rmtree(self.hub.repos.pop((kind, name)).objects)
        self.send()

    def info(self, rev="main"):
        repo, commit = self.repo, self.repo.at(rev)
        readme = commit.tree.get("README.md")
        card = read_card((repo.objects / readme.oid).read_text())[0] if readme and not readme.sha256 else {}
        named = {key: card[key] for key in ("library_name", "pipeline_tag") if key in card}
        tags = [*as_list(card.get("tags")), *named.values(), *(f"license:{v}" for v in as_list(card.get("license")))]
        siblings = [{"rfilename": path} for path in sorted(commit.tree)]
        for sibling in siblings if self.flag("blobs") else []:
            file = commit.tree[sibling["rfilename"]]
            sibling |= {"size": file.size, "blobId": file.oid, **file.lfs("sha256")}
        reply = {"id": repo.name, "author": repo.name.split("/")[0], "sha": commit.sha, "lastModified": commit.date}
        reply |= {"createdAt": [*repo.log(commit)][-1].date, "private": repo.private, "gated": False, "disabled": False}
        reply |= {"cardData": card, "tags": list(dict.fromkeys(tags)), "siblings": siblings, "downloads": 0, "likes": 0}
        reply |= named if repo.kind == "models" else {}
        wanted = ["id", *self.query.get("expand", reply)]
        self.send({key: value for key, value in reply.items() if key in wanted})

    # Revisions and trees

    def entry(self, commit, path):
        """A file or folder as the tree lists it; None if there is neither."""
        if path in commit.tree:
            file = commit.tree[path]
            return {"type": "file", "path": path, "oid": file.oid, "size": file.size, **file.lfs("oid")}
        inside = sorted((name, file.oid) for name, file in commit.tree.items() if name.startswith(f"{path}/"))
        if inside:
            return {"type": "directory", "path": path, "oid": git_hash(repr(inside).encode()), "size": 0}

    def send_entries(self, commit, paths, expand):
        entries = [entry for entry in (self.entry(commit, path) for path in paths) if entry]
        for entry in entries if expand else []:
            same = takewhile(lambda c, e=dict(entry): self.entry(c, e["path"]) == e, self.repo.log(commit))
            last = [*same][-1]
            entry["lastCommit"] = {"id": last.sha, "title": last.title, "date": last.date}
        self.send(entries)

    def tree(self, rev, path=""):
        commit, prefix = self.repo.at(rev), f"{path}/" if path else ""
        inside = [name.removeprefix(prefix).split("/") for name in commit.tree if name.startswith(prefix)]
        if not inside:
            raise HubError(404, f"{path} does not exist on {rev}", "EntryNotFound")
        depth = max(map(len, inside)) if self.flag("recursive") else 1
        paths = {prefix + "/".join(parts[:n]) for parts in inside for n in range(1, min(len(parts), depth) + 1)}
        self.send_entries(commit, sorted(paths), self.flag("expand"))

    def paths_info(self, rev):
        form = parse_qs(b"".join(self.body).decode())
        self.send_entries(self.repo.at(rev), form.get("paths", []), form.get("expand") == ["true"])

    def commits(self, rev):
        log = [(c, {"id": c.sha, "title": c.title, "message": c.message}) for c in self.repo.log(self.repo.at(rev))]
        self.send([{**entry, "date": c.date, "authors": [{"user": c.author}]} for c, entry in log])

    def refs(self):
        reply = {"converts": []}
        for key, where, refs in (("branches", "heads", self.repo.branches), ("tags", "tags", self.repo.tags)):
            reply[key] = [{"name": n, "ref": f"refs/{where}/{n}", "targetCommit": sha} for n, sha in refs.items()]
        self.send(reply)

    def create_ref(self, refs, name, revision):
        if name in refs:
            raise HubError(409, f"Reference already exists: {name}")
        refs[name] = self.repo.at(revision).sha
        self.send()

    def create_branch(self, rev):
        self.create_ref(self.repo.branches, rev, self.json().get("startingPoint", "main"))

    def create_tag(self, rev):
        self.create_ref(self.repo.tags, self.json()["tag"], rev)

    # Uploads

    def preupload(self, rev):
        tree, reply = self.repo.at(rev).tree, []
        for file in self.json()["files"]:
            path, binary = file["path"], b"\0" in base64.b64decode(file["sample"])
            large = binary or file["size"] >= LFS_SIZE or path.lower().endswith(LFS_SUFFIXES)
            known = {"oid": tree[path].sha256 or tree[path].oid} if path in tree else {}
            reply.append({"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, **known})
        self.send({"files": reply})

    def no_xet(self, rev):
        raise HubError(404, "This server has no Xet storage: set HF_HUB_DISABLE_XET=1")

    def storage_url(self, oid, **query):
        # At another host than the endpoint, as the Hub's storage: the client then reads a file's metadata from the
        # redirect, and must keep its token to itself.
        query = urlencode({**query, "signature": self.hub.signature})
        return f"http://localhost:{self.hub.port}/lfs/{self.repo.kind}/{self.repo.name}/{oid}?{query}"

    def lfs_batch(self):
        body, objects, part_size = self.json(), [], self.hub.part_size
        verify = {"href": f"{self.hub.endpoint}/{self.repo.web}.git/info/lfs/objects/verify"}
        for oid, size in ((wanted["oid"], wanted["size"]) for wanted in body["objects"]):
            objects.append({"oid": oid, "size": size})
            if not (self.repo.objects / oid).exists():
                upload = {"href": self.storage_url(oid)}
                if part_size and size > part_size and "multipart" in body["transfers"]:
                    parts = {str(n): self.storage_url(oid, part=n) for n in range(1, -(-size // part_size) + 1)}
                    upload["header"] = {"chunk_size": str(part_size), **parts}
                objects[-1]["actions"] = {"upload": upload, "verify": verify}
        self.send({"transfer": "basic", "objects": objects})

    def keep(self, oid, blocks, target, is_part=False):
        """Writes `blocks` to `target`, unless they end early or are not the file promised; returns their hash."""
        descriptor, name = tempfile.mkstemp(dir=self.hub.incoming)
        received, digest, kept = 0, hashlib.sha256(), False
        try:
            with open(descriptor, "wb") as file:
                for block in blocks:
                    file.write(block)
                    digest.update(block)
                    received += len(block)
            kept = is_part or digest.hexdigest() == oid
            if not kept:
                raise HubError(400, f"The content is not that of {oid}")
            os.replace(name, target)
        finally:
            Path(name).unlink(missing_ok=True)
            if self.command == "PUT":
                self.hub.uploads.append(Upload(oid, received, kept))
        return digest.hexdigest()

    def lfs_put(self, oid):
        part = self.query.get("part")
        target = self.hub.incoming / f"{oid}.{part[0]}" if part else self.repo.objects / oid
        self.send(headers={"ETag": f'"{self.keep(oid, self.body, target, bool(part))}"'})

    def lfs_join_parts(self, oid):
        parts = [self.hub.incoming / f"{oid}.{part['partNumber']}" for part in self.json()["parts"]]
        self.keep(oid, (part.read_bytes() for part in parts), self.repo.objects / oid)
        for part in parts:
            part.unlink()
        self.send({})

    def lfs_verify(self):
        body = self.json()
        stored = self.repo.objects / body["oid"]
        if not stored.exists() or stored.stat().st_size != body["size"]:
            raise HubError(404, "Object not found")
        self.send({})

    def commit(self, rev):
        lines = [json.loads(line) for line in b"".join(self.body).splitlines()]
        header = lines[0]["value"]
        if "create_pr" in self.query:
            raise HubError(501, "This server has no pull requests")
        with self.hub.lock:
            head = self.repo.at(rev)
            if self.repo.branches.get(rev) != head.sha:
                raise HubError(404, f"Invalid rev id: {rev}", "RevisionNotFound")
            if not head.sha.startswith(header.get("parentCommit", "")):
                raise HubError(412, "A commit has happened since. Please refresh and try again.")
            tree = dict(head.tree)
            for line in lines[1:]:
                self.change(tree, line["key"], **line["value"])
            sha = self.repo.add(rev, tree, header["summary"], header.get("description", ""), self.user)
        url = f"{self.hub.endpoint}/{self.repo.web}/commit/{sha}"
        self.send({"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def change(self, tree, operation, path, content=None, oid=None, **unused):
        if operation == "file":
            content = base64.b64decode(content)
            errors = read_card(content.decode())[1] if path == "README.md" else []
            if errors:
                raise HubError(400, "; ".join(errors))
            tree[path] = self.repo.store(content)
        elif operation == "lfsFile":
            if not (self.repo.objects / oid).exists():
                raise HubError(400, f"LFS pointer pointed to a file that does not exist: {path}")
            size = (self.repo.objects / oid).stat().st_size
            tree[path] = File(git_hash(pointer(oid, size)), size, oid)
        else:
            folder = path.rstrip("/") + "/" if operation == "deletedFolder" else None
            gone = [name for name in tree if (name.startswith(folder) if folder else name == path)]
            if not gone:
                raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            for name in gone:
                del tree[name]

    # Downloads

    def resolve(self, rev, path):
        commit = self.repo.at(rev)
        file = commit.tree.get(path)
        headers = {"X-Repo-Commit": commit.sha}
        if file is None:
            raise HubError(404, "Entry not found", "EntryNotFound", headers)
        if not file.sha256:
            return self.send(headers={**headers, "ETag": f'"{file.oid}"'}, file=self.repo.objects / file.oid)
        headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": file.size, "Accept-Ranges": "bytes"}
        self.send(None, 302, {**headers, "Location": self.storage_url(file.sha256, filename=path)})

    def lfs_get(self, oid):
        if not (self.repo.objects / oid).exists():
            raise HubError(404, "Object not found")
        self.send(headers={"ETag": f'"{oid}"'}, file=self.repo.objects / oid)


class HubServer:
    """A Hub at `endpoint` within its `with` block, or from `start` to `stop`; started again, it has what it had.

    `tokens` and `read_tokens` map tokens to users, who may write with the former only. A namespace that is not a
    user's is an organization, where every user may create. Files above `part_size` bytes are uploaded in parts.
    `requests` lists (method, path, status), status 0 where the connection broke instead of a reply; `uploads` has an
    `Upload` for every file, or part of one, that was sent to the storage.
    """

    def __init__(self, folder, tokens, read_tokens=None, port=0, part_size=None):
        self.folder, self.tokens, self.read_tokens = Path(folder), dict(tokens), dict(read_tokens or {})
        self.port, self.part_size = port, part_size
        self.incoming = self.folder / "incoming"
        self.incoming.mkdir(parents=True, exist_ok=True)
        self.signature, self.lock = secrets.token_hex(16), threading.Lock()
        self.repos, self.faults, self.requests, self.uploads, self.connections = {}, [], [], [], set()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        self.httpd = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.httpd.hub, self.port = self, self.httpd.server_port
        threading.Thread(target=self.httpd.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self):
        self.httpd.shutdown()
        self.httpd.server_close()
        for connection in list(self.connections):  # a connection kept open would still be served
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self.start()

    def __exit__(self, *error):
        self.stop()

    def fail(self, method, path, **fault):
        """Adds a `Fault`, whose other fields are the keywords; the first that matches a request is used."""
        self.faults.append(Fault(method, path, **fault))

    def take_fault(self, method, path):
        with self.lock:
            for fault in self.faults:
                if fault.times != 0 and re.fullmatch(fault.method, method) and re.search(fault.path, path):
                    fault.times = fault.times and fault.times - 1
                    return fault
        return Fault()

    def environment(self, token=None, home=None):
        """Environment for a subprocess: this one's, with this Hub and an empty cache, or the one in `home`."""
        kept = {
            key: text
            for key, text in os.environ.items()
            if not key.startswith(("HF_", "HUGGING", "TRANSFORMERS_OFFLINE"))
        }
        home = home or tempfile.mkdtemp(prefix="home-", dir=self.folder)
        switches = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0"}
        switches |= dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
        given = {"HF_TOKEN": token} if token else {}
        return {**kept, **switches, **given, "HF_ENDPOINT": self.endpoint, "HF_HOME": str(home)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", required=True, help="where the files are kept")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--token", action="append", default=[], metavar="TOKEN=USER", help="may be repeated")
    options = parser.parse_args()
    with HubServer(options.folder, dict(pair.split("=", 1) for pair in options.token), port=options.port) as server:
        print(server.endpoint, flush=True)
        threading.Event().wait()
