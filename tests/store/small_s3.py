"""A small S3 server on loopback that can be made to answer wrongly, each flaw by its name."""

from __future__ import annotations

import email.utils
import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1"}


class SmallS3:
    """Objects in memory, the few requests that noria makes, and ``flaws``.

    Attributes:
        requests: method and path of everything that was asked.
    """

    def __init__(self, flaws: set[str]) -> None:
        self.flaws = flaws
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.failures = 0
        """So many next requests are answered with 503."""

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(path)
        query = parse_qs(parts.query, keep_blank_values=True)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        self.requests.append(f"{method} {key}")
        if self.failures:
            self.failures -= 1
            return 503, {}, b""
        if method == "GET" and "list-type" in query:
            return 200, {"Content-Type": "application/xml"}, self._list(bucket, query.get("prefix", [""])[0])
        if method == "POST" and "delete" in query:
            return (
                200,
                {"Content-Type": "application/xml"},
                self._delete(re.findall(r"<Key>(.*?)</Key>", body.decode())),
            )
        if method == "PUT":
            return self._put(key, headers, body)
        if method == "DELETE":
            self._delete([key])
            return 204, {}, b""
        return self._get(method, key, headers)

    def _put(self, key: str, headers: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if headers.get("If-None-Match") == "*" and "ignores If-None-Match" not in self.flaws:
            if "unknown header" in self.flaws:
                return 501, {}, b"<Error><Code>NotImplemented</Code></Error>"
            if key in self.objects:
                if "replaces and says 412" in self.flaws:
                    self.objects[key] = body
                return 412, {}, b"<Error><Code>PreconditionFailed</Code></Error>"
        if "loses what is put" not in self.flaws:
            self.objects[key] = body[:-1] if "cuts what is put" in self.flaws else body
        return 200, {"ETag": etag(body)}, b""

    def _get(self, method: str, key: str, headers: Any) -> tuple[int, dict[str, str], bytes]:
        if key not in self.objects:
            return 404, {}, b"<Error><Code>NoSuchKey</Code></Error>"
        data = self.objects[key]
        answer = {"ETag": etag(data), "Last-Modified": email.utils.formatdate(usegmt=True)}
        if headers.get("If-Match", answer["ETag"]) != answer["ETag"]:
            return 412, {}, b"<Error><Code>PreconditionFailed</Code></Error>"
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("Range", ""))
        if asked is None or "ignores Range" in self.flaws:
            return 200, answer, data
        if not asked[1]:
            start, end = max(0, len(data) - int(asked[2])), len(data)
            if "ignores a range from the end" in self.flaws:
                return 200, answer, data
        else:
            start, end = int(asked[1]), min(len(data), int(asked[2] or len(data)) + 1)
        if "ranges are off by one" in self.flaws and start:
            start, end = start - 1, end - 1
        answer["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        return 206, answer, data[start:end]

    def _list(self, bucket: str, prefix: str) -> bytes:
        found = [] if "lists late" in self.flaws else [k for k in sorted(self.objects) if k.startswith(prefix)]
        now = "2024-01-01T00:00:00.000Z"
        rows = "".join(
            f"<Contents><Key>{escape(k)}</Key><LastModified>{now}</LastModified><ETag>{escape(etag(self.objects[k]))}"
            f"</ETag><Size>{len(self.objects[k])}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for k in found
        )
        head = f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(found)}</KeyCount>"
        rest = f"{head}<IsTruncated>false</IsTruncated>{rows}"
        return f'<?xml version="1.0"?><ListBucketResult>{rest}</ListBucketResult>'.encode()

    def _delete(self, keys: list[str]) -> bytes:
        for key in keys:
            if "keeps what is deleted" not in self.flaws:
                self.objects.pop(key, None)
        done = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        return f'<?xml version="1.0"?><DeleteResult>{done}</DeleteResult>'.encode()


def etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


@contextmanager
def small_s3(*flaws: str) -> Iterator[tuple[SmallS3, dict[str, str]]]:
    """(the server, the environment in which it is S3)."""
    server = SmallS3(set(flaws))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 20  # one packet for an answer

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, data = server.answer(self.command, self.path, self.headers, body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - the names that the module asks for

        def log_message(self, format: str, *args: Any) -> None:
            return

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server, {**ENVIRONMENT, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{httpd.server_port}"}
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
