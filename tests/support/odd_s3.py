"""A proxy for the tests' S3 server that refuses requests as some compatible servers do, and forwards all others."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from tests.support.s3 import S3Server

CHECKSUMS = ("x-amz-checksum-", "x-amz-sdk-checksum", "x-amz-trailer")
ERROR = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"


@dataclass(frozen=True)
class Request:
    method: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Refusal:
    status: int
    code: str
    message: str


# Whether, and how, a server refuses a request.
Oddity = Callable[[Request], Refusal | None]


def wants_content_md5(request: Request) -> Refusal | None:
    if request.method != "POST" or "delete" not in request.query:
        return None
    digest = base64.b64encode(hashlib.md5(request.body).digest()).decode()
    if request.headers.get("content-md5") != digest:
        return Refusal(400, "InvalidRequest", "Missing required header for this request: Content-MD5")
    return None


def deletes_one_at_a_time(request: Request) -> Refusal | None:
    if request.method == "POST" and "delete" in request.query:
        return Refusal(501, "NotImplemented", "A header you provided implies functionality that is not implemented")
    return None


def knows_no_versions(request: Request) -> Refusal | None:
    if "versions" in request.query:
        return Refusal(501, "NotImplemented", "versions is not implemented")
    if "versionId" in request.query:
        return Refusal(400, "InvalidArgument", "versionId is not supported")
    return None


def knows_no_uploads(request: Request) -> Refusal | None:
    if request.method == "GET" and "uploads" in request.query:
        return Refusal(501, "NotImplemented", "uploads is not implemented")
    return None


def knows_no_conditions(request: Request) -> Refusal | None:
    if "if-none-match" in request.headers:
        return Refusal(501, "NotImplemented", "A header you provided implies functionality that is not implemented")
    return None


def refuses_checksums(request: Request) -> Refusal | None:
    named = [name for name in request.headers if name.startswith(CHECKSUMS)]
    if named:
        return Refusal(400, "InvalidArgument", f"Unsupported header {named[0]} received for this API call.")
    return None


def lists_nothing(request: Request) -> Refusal | None:
    if "versions" in request.query:
        return Refusal(403, "AccessDenied", "Not authorized to perform s3:ListBucketVersions")
    return None


def is_overloaded(request: Request) -> Refusal | None:
    return Refusal(503, "SlowDown", "Please reduce your request rate.")


@dataclass
class OddS3:
    server: S3Server
    endpoint: str
    # What was refused, in order.
    refused: list[Refusal] = field(default_factory=list)


@contextmanager
def odd_s3(server: S3Server, *oddities: Oddity) -> Iterator[OddS3]:
    """Run a proxy that refuses each request that an oddity refuses; yield it.

    Signatures stay valid, since the client's Host header is passed on.
    """
    upstream = urlsplit(server.endpoint).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, query, headers, body)
            for oddity in oddities:
                refusal = oddity(request)
                if refusal:
                    odd.refused.append(refusal)
                    self.answer(refusal.status, {"Content-Type": "application/xml"}, _page(refusal))
                    return
            connection = HTTPConnection(upstream, timeout=30)
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            found = connection.getresponse()
            content = found.read()
            kept = {name: value for name, value in found.getheaders() if name.lower() not in HOP}
            self.answer(found.status, kept, content)
            connection.close()

        def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            # HEAD states the length of a body that it does not send.
            if "content-length" not in {name.lower() for name in headers}:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_arguments: object) -> None:
            """Log nothing to stderr."""

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815  (what the base class calls)

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.daemon_threads = True
    odd = OddS3(server, f"http://127.0.0.1:{proxy.server_address[1]}")
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield odd
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()


HOP = {"connection", "transfer-encoding", "keep-alive"}


def _page(refusal: Refusal) -> bytes:
    return ERROR.format(code=refusal.code, message=refusal.message).encode()
