"""aiohttp's exceptions in the transport's words. Their own texts are left out, because they hold the URL. Pure."""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import Callable

import aiohttp

from worker.event_integration.transport import Cause

Explanation = tuple[Cause, str]


class ForbiddenDestination(PermissionError):
    """Raised when a URL or an address is refused, before a socket is made. An `OSError`: the next address of the host is then tried."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EACCES, why)


def explain(exc: Exception) -> Explanation:
    """Cause and detail of what ended an attempt; a class nobody foresaw is `internal`."""
    for kind, explanation in _BY_CLASS:
        if isinstance(exc, kind):
            return explanation(exc)
    return Cause.INTERNAL, type(exc).__name__


def _of_lookup(exc: aiohttp.ClientConnectorDNSError) -> Explanation:
    arguments = exc.os_error.args
    return Cause.DNS, str(arguments[-1]) if arguments else "the look-up failed"


def _of_certificate(exc: aiohttp.ClientConnectorCertificateError) -> Explanation:
    return Cause.TLS, _tls_detail(exc.certificate_error)


def _of_url(exc: Exception) -> Explanation:
    return Cause.FORBIDDEN, f"its url is not one that can be posted to ({type(exc).__name__})"


def _of_header(_: Exception) -> Explanation:
    return Cause.PROTOCOL, "not an HTTP response, or its header is too large"


def _of_close(_: Exception) -> Explanation:
    return Cause.RESET, "the connection was closed before the status line"


def _of_os(exc: OSError) -> Explanation:
    """Broken, refused, unreachable, or out of file descriptors: an attempt to repeat, whatever the number."""
    reason = exc.os_error if isinstance(exc, aiohttp.ClientConnectorError) else exc.__cause__ or exc
    if isinstance(reason, ForbiddenDestination):
        return Cause.FORBIDDEN, str(reason.strerror)
    if isinstance(reason, ssl.SSLError):
        return Cause.TLS, _tls_detail(reason)
    detail = os.strerror(exc.errno) if exc.errno else type(exc).__name__
    if exc.errno == errno.ETIMEDOUT:
        return Cause.TIMEOUT, detail
    if exc.errno in _BROKEN or not exc.errno:
        return Cause.RESET, detail
    return Cause.REFUSED, detail


_BROKEN = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ESHUTDOWN})


def _tls_detail(exc: BaseException) -> str:
    """The reason without the host name that OpenSSL appends."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return str(exc.verify_message).split(",", maxsplit=1)[0]
    return getattr(exc, "reason", None) or type(exc).__name__


_BY_CLASS: tuple[tuple[type[Exception], Callable[..., Explanation]], ...] = (
    # The first that fits counts: each class stands before those it derives from.
    (aiohttp.ClientConnectorDNSError, _of_lookup),
    (aiohttp.ClientConnectorCertificateError, _of_certificate),
    (aiohttp.InvalidURL, _of_url),
    (aiohttp.NonHttpUrlClientError, _of_url),
    (aiohttp.ClientResponseError, _of_header),
    (aiohttp.ClientPayloadError, _of_header),
    (aiohttp.ServerDisconnectedError, _of_close),
    (OSError, _of_os),
    (aiohttp.ClientConnectionError, _of_close),
)
