"""Sockets on which the call's `Watch` limits every wait. The SDKs and httpx2 see an ordinary connection."""

import errno
import os
import select
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from ipaddress import ip_address
from typing import Any

import httpcore2
from httpcore2._backends.sync import SyncStream  # the package does not export it

from llm.clients.watch import Interrupted, Watch, current

# Applies to one address; a provider has several.
CONNECT_TIMEOUT_S = 10.0


class WatchedBackend(httpcore2.SyncBackend):
    """Opens connections that can be aborted while they are being made."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        watch = current()
        if watch is None:
            return super().connect_tcp(host, port, timeout, local_address, socket_options)
        with _errors(httpcore2.ConnectTimeout, httpcore2.ConnectError):
            sock = _connected(watch, host, port)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return WatchedStream(SyncStream(sock))


class WatchedStream(httpcore2.NetworkStream):
    """A connection. It may be kept for another call, so each wait uses the watch of the current call."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream
        self._wake = partial(_shut_down, stream.get_extra_info("socket"))

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        watch = current()
        if watch is None:
            return self._stream.read(max_bytes, timeout)
        with _errors(httpcore2.ReadTimeout, httpcore2.ReadError), watch.waiting(self._wake):
            try:
                return self._stream.read(max_bytes, _positive(watch.seconds_left()))
            except (TimeoutError, httpcore2.ReadTimeout):
                watch.timed_out()
                raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        watch = current()
        if watch is None:
            return self._stream.write(buffer, timeout)
        with _errors(httpcore2.WriteTimeout, httpcore2.WriteError), watch.waiting(self._wake):
            # What is sent to a proxy in front of the provider costs nothing.
            watch.sent = watch.sent or not buffer.startswith(b"CONNECT ")
            return self._stream.write(buffer, _positive(watch.seconds_left()))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        watch, sock = current(), self._stream.get_extra_info("socket")
        if watch is None or isinstance(sock, ssl.SSLSocket):  # TLS to the provider inside TLS to a proxy
            return WatchedStream(self._stream.start_tls(ssl_context, server_hostname, timeout))
        with _errors(httpcore2.ConnectTimeout, httpcore2.ConnectError):
            return WatchedStream(SyncStream(_encrypted(watch, sock, ssl_context, server_hostname)))

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


@contextmanager
def _errors(timeout: type[Exception], failure: type[Exception]) -> Iterator[None]:
    """Raise `timeout` or `failure` instead of the operating system's exceptions, and `failure` for an aborted wait."""
    try:
        yield
    except TimeoutError as exc:
        raise timeout(str(exc) or "timed out") from exc
    except OSError as exc:
        raise failure(str(exc)) from exc
    except Interrupted as exc:
        raise failure("aborted") from exc


def _connected(watch: Watch, host: str, port: int) -> socket.socket:
    """Return a socket connected to the first address that accepts."""
    problem = OSError("no address found")
    for family, kind, protocol, _name, address in _addresses(watch, host, port):
        sock = socket.socket(family, kind, protocol)
        try:
            _connect(watch, sock, address)
        except OSError as exc:
            sock.close()
            problem = exc
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise problem


def _connect(watch: Watch, sock: socket.socket, address: Any) -> None:
    sock.setblocking(False)
    # Linux ends a connect that is under way when the socket is shut down, but not one that has yet to begin.
    begun: list[int] = []
    with watch.waiting(partial(_shut_down, sock), begin=lambda: begun.append(sock.connect_ex(address))):
        (error,) = begun
        if error == errno.EINPROGRESS:
            poll = select.poll()
            poll.register(sock, select.POLLOUT)
            if not poll.poll(1000 * _positive(watch.seconds_left(CONNECT_TIMEOUT_S))):
                raise TimeoutError("timed out while connecting")
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if watch.interrupted:
        raise Interrupted
    if error:
        raise OSError(error, os.strerror(error))


def _encrypted(
    watch: Watch, sock: socket.socket, context: ssl.SSLContext, server_hostname: str | None
) -> ssl.SSLSocket:
    encrypted = context.wrap_socket(sock, server_hostname=server_hostname, do_handshake_on_connect=False)
    try:
        with watch.waiting(partial(_shut_down, encrypted)):
            encrypted.settimeout(_positive(watch.seconds_left(CONNECT_TIMEOUT_S)))
            encrypted.do_handshake()
    except BaseException:
        encrypted.close()
        raise
    return encrypted


def _addresses(watch: Watch, host: str, port: int) -> list[Any]:
    """Resolve a name in a thread of its own, because nothing can end or limit the system's resolver.

    The thread is left behind if the call ends first; the resolver gives up after some seconds.
    """
    if _is_literal(host):
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    found: list[list[Any] | OSError] = []
    done = threading.Event()

    def look_up() -> None:
        try:
            found.append(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except OSError as exc:
            found.append(exc)
        finally:
            done.set()

    with watch.waiting(done.set, begin=threading.Thread(target=look_up, daemon=True).start):
        done.wait(_positive(watch.seconds_left(CONNECT_TIMEOUT_S)))
    if watch.interrupted:
        raise Interrupted
    if not found:
        raise TimeoutError(f"the name {host} was not resolved in time")
    answer = found[0]
    if isinstance(answer, OSError):
        raise answer
    return answer


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _shut_down(sock: socket.socket) -> None:
    """Wake the thread that waits on the socket: it then reads the end of the stream."""
    with suppress(OSError):  # not connected any more
        # Not the method of `SSLSocket`, which would also drop the TLS object that the other thread is using.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _positive(seconds: float) -> float:
    """Return the socket's timeout; raise `TimeoutError` if no time is left: 0 would make the socket non-blocking."""
    if seconds <= 0:
        raise TimeoutError("no time left")
    return seconds
