"""A server on this machine that speaks as much of the Hub's API as an upload needs."""

import base64
import contextlib
import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_ThisIsTheSecretOfTheTests"
USER = {"name": "ada", "orgs": [{"name": "acme"}], "auth": {"accessToken": {"role": "write"}}}


class FakeHub:
    """Keeps the `files` of its `repos`; `failing` is a pattern of requests with their answer.

    The answer is a status, or "die": half of the request is read, and then nobody is there.
    """

    def __init__(self):
        self.repos, self.blobs, self.requests, self.user = {}, {}, [], USER
        self.failing, self.answer = None, None
        self.lfs_names = r".*\.safetensors"
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        # the argument: how often it looks whether it is to shut down
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def fail(self, pattern, answer):
        self.failing, self.answer = re.compile(pattern), answer

    def answer_to(self, method, path, body):
        """What a Hub without troubles answers: a status and JSON."""
        if path == "/api/whoami-v2":
            return 200, self.user
        if path == "/api/repos/create":
            owner = body["organization"] or "ada"
            is_new = f"{owner}/{body['name']}" not in self.repos
            self.repos.setdefault(f"{owner}/{body['name']}", {"create": body, "files": {}})
            return 200 if is_new else 409, {"url": f"{self.url}/{owner}/{body['name']}"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if match := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            lfs = re.compile(self.lfs_names)
            modes = {
                file["path"]: "lfs" if lfs.fullmatch(file["path"]) else "regular"
                for file in body["files"]
            }
            files = [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]
            return 200, {"files": files}
        if re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            return 200, {"transfer": "basic", "objects": [self._lfs(o) for o in body["objects"]]}
        if match := re.fullmatch(r"/lfs/(\w+)", path):
            self.blobs[match[1]] = body
            return 200, {}
        if path == "/verify":
            return 200, {}
        if match := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            self._commit(self.repos[match[1]], body)
            oid = "1" * 40
            return 200, {"commitUrl": f"{self.url}/{match[1]}/commit/{oid}", "commitOid": oid}
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/main)?", path):
            is_there = match[1] in self.repos
            return 200 if is_there else 404, {"id": match[1], "sha": "1" * 40, "siblings": []}
        return 404, {"error": f"no {method} {path} here"}

    def _lfs(self, wanted):
        href = {"href": f"{self.url}/lfs/{wanted['oid']}"}
        return wanted | {"actions": {"upload": href, "verify": {"href": f"{self.url}/verify"}}}

    def _commit(self, repo, lines):
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                repo["message"] = value["summary"]
            elif line["key"] == "file":
                repo["files"][value["path"]] = base64.b64decode(value["content"])
            else:
                repo["files"][value["path"]] = self.blobs[value["oid"]]


def _handler_of(hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self):
            path = self.path.partition("?")[0]
            hub.requests.append(f"{self.command} {path}")
            fails = hub.failing is not None and hub.failing.search(hub.requests[-1])
            if fails and hub.answer == "die":
                self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
                hub.server.shutdown()
                hub.server.server_close()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            body = self._body()
            if self.headers.get("Authorization") != f"Bearer {TOKEN}" and path[:5] != "/lfs/":
                answer = 401, {"error": "Invalid username or password."}
            elif fails:
                answer = hub.answer, {"error": f"no, not with {TOKEN}"}
            else:
                answer = hub.answer_to(self.command, path, body)
            self._send(*answer)

        do_GET = do_POST = do_PUT = do_HEAD = handle_any

        def _body(self):
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                content = b""
                while size := int(self.rfile.readline(), 16):
                    content += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            kind = self.headers.get("Content-Type", "")
            if kind.endswith("ndjson"):
                return [json.loads(line) for line in content.splitlines()]
            return json.loads(content) if "json" in kind else content

        def _send(self, status, values):
            content = json.dumps(values).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    return Handler


@contextlib.contextmanager
def fake_hub():
    hub = FakeHub()
    try:
        yield hub
    finally:
        hub.server.shutdown()
        hub.server.server_close()
