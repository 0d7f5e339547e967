"""A server on this machine that plays the Hugging Face hub, OpenModelDB, and hosts that behave badly."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import sys
import threading
import time
from contextlib import contextmanager
from urllib.parse import urlsplit


class Hub:
    """What it knows; tests put files and behaviour in.

    Attributes:
        files: bytes by path: `/owner/name/resolve/COMMIT/FILE`, or any other.
        answers: what stands before a file at a path: a status, a dictionary of headers, `cut`, `slow`, `html`, or a
            place to send on to.
        repositories: answers of the hub about models, by OWNER/NAME.
        uploads: files that were put, by OWNER/NAME.
        asked: the paths, in order.
    """

    def __init__(self):
        self.files, self.answers, self.repositories, self.uploads, self.asked = {}, {}, {}, {}, []
        self.address = ""

    def publish(self, name, files, *, commit="c" * 40, licence="apache-2.0", lfs=True, **changes):
        """A repository of these files; `changes` are made to what the hub says of each."""
        siblings = []
        for file, content in files.items():
            self.files[f"/{name}/resolve/{commit}/{file}"] = content
            large = {"lfs": {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}}
            siblings.append({"rfilename": file, "size": len(content), **(large if lfs else {}), **changes})
        card = {"cardData": {"license": licence}} if licence else {}
        self.repositories[name] = {"sha": commit, "siblings": siblings, "gated": False, **card}


@contextmanager
def running():
    """The hub, at `hub.address`."""
    hub = Hub()

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path = urlsplit(self.path).path
            hub.asked.append(path)
            how = hub.answers.get(path)
            if isinstance(how, int):
                return self.send_error(how)
            if isinstance(how, str) and how.startswith("->"):
                self.send_response(302)
                self.send_header("Location", how[2:].strip())
                return self.end_headers()
            body, kind = hub.files.get(path), "application/octet-stream"
            if path.startswith("/api/models/"):
                name = path.removeprefix("/api/models/").partition("/revision/")[0]
                if name not in hub.repositories:
                    return self.send_error(401)
                body, kind = json.dumps(hub.repositories[name]).encode(), "application/json"
            if how == "html":
                body, kind = b"<html>log in</html>", "text/html"
            if body is None:
                return self.send_error(404)
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
            self.send_response(206 if start else 200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body) - start))
            for header, value in (how if isinstance(how, dict) else {}).items():
                self.send_header(header, value)
            self.end_headers()
            body = body[start:]
            if how == "cut":
                body = body[: (len(body) + 1) // 2]
            if how == "slow":
                for byte in body[:50]:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(0.02)
                return None
            return self.wfile.write(body)

        def do_POST(self):
            path = urlsplit(self.path).path
            hub.asked.append(path)
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            how = hub.answers.get(path)
            if isinstance(how, int):
                return self.send_error(how)
            if path == "/api/repos/create":
                asked = json.loads(content)
                name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
                hub.uploads.setdefault(name, {})
                return self._say({"url": f"{hub.address}/{name}", "name": name})
            if "/preupload/" in path:
                files = [file["path"] for file in json.loads(content)["files"]]
                return self._say(
                    {"files": [{"path": file, "uploadMode": "regular", "shouldIgnore": False} for file in files]}
                )
            if "/commit/" in path:
                name = path.removeprefix("/api/models/").partition("/commit/")[0]
                for line in content.decode().splitlines():
                    record = json.loads(line)
                    if record["key"] == "file":
                        hub.uploads[name][record["value"]["path"]] = base64.b64decode(record["value"]["content"])
                return self._say({"commitUrl": f"{hub.address}/{name}/commit/{'d' * 40}", "commitOid": "d" * 40})
            return self._say({"errors": [], "warnings": []})

        def _say(self, value):
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    class Threads(http.server.ThreadingHTTPServer):
        def handle_error(self, request, client_address):
            if not isinstance(sys.exc_info()[1], ConnectionError):  # who has read enough goes
                super().handle_error(request, client_address)

    with Threads(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        hub.address = f"http://127.0.0.1:{server.server_port}"
        yield hub
        server.shutdown()
        thread.join()
