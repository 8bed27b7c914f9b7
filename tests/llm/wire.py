"""A small HTTP server that speaks the paid providers' wire formats (`tests.llm.formats`), or breaks them."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from django.conf import settings

from tests.llm.formats import Document, Provider


@dataclass(frozen=True)
class Answer:
    """How the server answers a request."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    # A reply that is streamed to clients that ask for a stream; `body` is the whole reply.
    document: Document | None = None
    # Sent one by one in place of `body`, with the stream's content type.
    parts: tuple[bytes, ...] = ()
    # How many more bytes Content-Length announces than are sent.
    missing: int = 0
    # Send nothing until the test is over.
    silent: bool = False
    # After `parts`, send no more until the test is over.
    hangs: bool = False
    # After `parts`, close the connection in the middle of the body.
    cut: bool = False
    # Send this again and again until the client leaves, `pause_s` apart: white space, which JSON allows in front, or
    # a stream's comment.
    repeated: bytes = b""
    pause_s: float = 0.02

    @classmethod
    def of(cls, document: object, status: int = 200, **headers: str) -> "Answer":
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        reply = document if status == 200 and isinstance(document, dict) and "error" not in document else None
        return cls(json.dumps(document).encode(), status, names, reply)


@dataclass(frozen=True)
class Seen:
    path: str
    # Names in lower case.
    headers: dict[str, str]
    body: Document


def allow_server(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow providers to use a test's server, also in processes that a test starts."""
    entry = urlsplit(url).netloc
    monkeypatch.setenv("LLM_ALLOWED_HOSTS", entry)
    monkeypatch.setattr(settings, "LLM_ALLOWED_HOSTS", [entry])


class WireServer:
    """Sends `answer` to every request, and records the POST requests in `seen`."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answer = Answer()
        # Streams a reply if it is asked to; None: answers with the whole reply, as some compatible servers do.
        self.streams_for: Provider | None = None
        self.seen: list[Seen] = []
        # Set once the parts of an answer are sent.
        self.parts_sent = threading.Event()
        self.connections = 0
        self.over = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        if tls is not None:
            # The handshake must happen in the connection's thread.
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._http.server_address[1]}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                server.connections += 1
                super().setup()

            def do_GET(self) -> None:
                self._send(server.answer)

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = json.loads(self.rfile.read(length))
                server.seen.append(Seen(self.path, headers, body))
                with suppress(OSError):  # the client left
                    self._reply(server.answer, body)

            def _reply(self, answer: Answer, body: Document) -> None:
                provider = server.streams_for
                if answer.silent:
                    server.over.wait()
                elif answer.document is not None and provider is not None and provider.streams(self.path, body):
                    self._stream(answer, provider.events(answer.document))
                elif answer.parts:
                    self._stream(answer, answer.parts)
                else:
                    self._send(answer)

            def _send(self, answer: Answer) -> None:
                self._head(answer, "application/json")
                self.send_header("Content-Length", str(len(answer.body) + answer.missing))
                self.end_headers()
                while answer.repeated and not server.over.wait(answer.pause_s):
                    self.wfile.write(answer.repeated)
                self.wfile.write(answer.body)
                self.close_connection = self.close_connection or answer.missing > 0

            def _stream(self, answer: Answer, parts: "tuple[bytes, ...] | list[bytes]") -> None:
                self._head(answer, "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for part in parts:
                    self._chunk(part)
                server.parts_sent.set()
                while answer.repeated and not server.over.wait(answer.pause_s):
                    self._chunk(answer.repeated)
                if answer.hangs:
                    server.over.wait()
                if answer.cut:
                    self.close_connection = True
                else:
                    self.wfile.write(b"0\r\n\r\n")

            def _head(self, answer: Answer, content_type: str) -> None:
                self.send_response(answer.status)
                for name, value in {"Content-Type": content_type, **answer.headers}.items():
                    self.send_header(name, value)

            def _chunk(self, part: bytes) -> None:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))

            def log_message(self, *args: object) -> None:
                """Log nothing: the tests check `seen`."""

        return Handler

    @contextmanager
    def running(self) -> Iterator["WireServer"]:
        self._http.daemon_threads = True
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.over.set()
            self._http.shutdown()
            thread.join()
            self._http.server_close()
