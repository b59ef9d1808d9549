"""`GET /`: one self-contained page that shows the way of an event with live figures from `/status`.

The page holds no data, so it is open; what it shows it fetches, with the operator's key where one is needed.
"""

from __future__ import annotations

from pathlib import Path

from aiohttp import hdrs, web

_PAGE = Path(__file__).with_name("dashboard.html").read_bytes()
_HEADERS = {
    hdrs.CONTENT_TYPE: "text/html; charset=utf-8",
    hdrs.CACHE_CONTROL: "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def dashboard_routes() -> list[web.RouteDef]:
    async def page(_request: web.Request) -> web.Response:
        return web.Response(body=_PAGE, headers=_HEADERS)

    return [web.get("/", page)]
