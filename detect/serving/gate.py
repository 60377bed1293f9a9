"""Checks the host, the origin and the token of every request, and adds headers to every answer."""

import json
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from hmac import compare_digest
from typing import Any

from detect.serving.metrics import Metrics

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = frozenset({"/", "/healthz", "/readyz", "/openapi.json"})  # need no token, since they return nothing of photos
COUNTED = OPEN | {"/detect", "/about", "/metrics"}  # by path; other paths are counted together
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}
NOTHING = b"default-src 'none'; frame-ancestors 'none'"  # content policy of answers without their own


class Gate:
    """Refuses requests without the token, for another host, or sent by a browser for a page of another site.

    Args:
        app: the application.
        metrics: counts all requests.
        token: token that must be sent as `Authorization: Bearer TOKEN`; empty requires none.
        hosts: host names that requests may use, so that a page cannot point its own name to a local server (DNS
            rebinding). Empty allows any.
    """

    def __init__(self, app: App, *, metrics: Metrics, token: str = "", hosts: Collection[str] = ()) -> None:
        self._app, self._metrics, self._token, self._hosts = app, metrics, token.encode(), frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, path = time.monotonic(), str(scope["path"])

        async def noted(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                known = path if path in COUNTED else "other"
                self._metrics.answered(known, int(message["status"]), time.monotonic() - begin)
                message = {**message, "headers": _completed(message.get("headers", ()))}
            await send(message)

        refused = self._refused(path, dict(scope["headers"]))
        await (_answer(noted, *refused) if refused else self._app(scope, receive, noted))

    def _refused(self, path: str, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self._hosts and name not in self._hosts:
            return 421, "this server does not answer to that host name; whoever runs it can allow it"
        if headers.get(b"sec-fetch-site", b"none") in (b"cross-site", b"same-site") and path != "/":
            return 403, "pages of other sites may not use this server"
        if self._token and path not in OPEN and not self._knows(headers.get(b"authorization", b"")):
            return 401, "the token is missing or wrong: send it as `Authorization: Bearer TOKEN`"
        return None

    def _knows(self, given: bytes) -> bool:
        scheme, _, token = given.partition(b" ")
        return compare_digest(token.strip(), self._token) and scheme.lower() == b"bearer"


def _completed(headers: Any) -> list[tuple[bytes, bytes]]:
    """Add the default headers that an answer does not have."""
    there = {name for name, _ in headers}
    more = HEADERS | {b"content-security-policy": NOTHING}
    return [*headers, *((name, value) for name, value in more.items() if name not in there)]


async def _answer(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"error": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
