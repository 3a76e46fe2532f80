"""What speaks on a port: HTTP, gRPC (HTTP/2) or TLS, found out by a few bytes."""

from __future__ import annotations

import socket
import ssl
from typing import Literal

Speech = Literal["HTTP", "gRPC", "TLS"]

_WAIT_S = 1.0
# A client's preface of HTTP/2 and an empty frame of settings, which a server of gRPC answers with
# its own (RFC 9113, 3.4); a server of HTTP/1.1 answers that it does not understand.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_REQUEST = b"GET / HTTP/1.0\r\n\r\n"
_SETTINGS = 4


def speech(host: str, port: int) -> Speech | None:
    """What answers there, or None where nothing is understood.

    Raises:
        OSError: nobody listens.
    """
    socket.create_connection((host, port), _WAIT_S).close()
    answer = _ask(host, port, _PREFACE)
    if answer.startswith(b"HTTP/"):
        return "HTTP"
    if len(answer) >= 9 and answer[3] == _SETTINGS and answer[5:9] == bytes(4):
        return "gRPC"
    if _takes_tls(host, port):
        return "TLS"
    return "HTTP" if _ask(host, port, _REQUEST).startswith(b"HTTP/") else None


def _ask(host: str, port: int, question: bytes) -> bytes:
    answer = b""
    try:
        with socket.create_connection((host, port), _WAIT_S) as connection:
            connection.sendall(question)
            while len(answer) < 9 and (more := connection.recv(64)):
                answer += more
    except OSError:
        pass  # no answer in time, or one that is none
    return answer


def _takes_tls(host: str, port: int) -> bool:
    # Whose certificate it is matters to who sends something, and nothing is sent here.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), _WAIT_S) as connection,
            context.wrap_socket(connection, server_hostname=host),
        ):
            return True
    except ssl.SSLError as error:
        # A server that wants the client's certificate, or speaks an older TLS, speaks TLS.
        return "alert" in str(error).lower()
    except OSError:
        return False
