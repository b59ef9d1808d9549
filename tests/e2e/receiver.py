"""A receiver that keeps what it got, whole, and checks each signature with the library that the specification's authors publish.

That library signs text: a body that is no UTF-8 (a multipart form around a picture) it cannot check.
"""

from __future__ import annotations

from types import TracebackType
from typing import NamedTuple, Self

import anyio
from aiohttp import web
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from tests.e2e.sink import SECRET


class Arrived(NamedTuple):
    """A request. `headers` in lower case."""

    webhook: str
    instance: str
    headers: dict[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        return self.headers["content-type"]


class Receiver:
    """`arrived`: whatever came, in order, to `/<webhook>`; each was answered 200. `forged`: how many were not signed with `SECRET`.

    `unread`: how many the library could not check.
    """

    def __init__(self) -> None:
        self.arrived: list[Arrived] = []
        self.forged = 0
        self.unread = 0
        self._verifier = Verifier(SECRET)
        self._runner = web.ServerRunner(web.Server(self._answer, access_log=None, keepalive_timeout=600), shutdown_timeout=0.1)
        self._address = ""

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024).start()
        self._address = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with anyio.move_on_after(5, shield=True):
            await self._runner.cleanup()

    def url(self, webhook: str) -> str:
        return f"{self._address}/{webhook}"

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.read()
        self.forged += not self._is_signed(body, headers)
        self.arrived.append(Arrived(request.path.removeprefix("/"), headers["x-whatsapp-instance"], headers, body))
        return web.Response()

    def _is_signed(self, body: bytes, headers: dict[str, str]) -> bool:
        try:
            self._verifier.verify(body, headers, json_parse=False)
        except WebhookVerificationError:
            return False
        except UnicodeDecodeError:
            self.unread += 1
        return True
