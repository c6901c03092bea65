"""How old the watches are. A quiet watch is not old: each ends after WATCH_SECONDS and is opened again, whatever it
heard, so one that was not opened for much longer does not work.

kopf tells nobody when it opens one, but takes a session of aiohttp, which does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Final

import aiohttp
import kopf

WATCH_SECONDS: Final = 120
"""The API server ends a watch after this; a whole number, as it reads it."""


class WatchAges:
    """When each of `count` watches was opened last. For one event loop."""

    def __init__(self, count: int, clock: Callable[[], float] | None = None) -> None:
        self._count = count
        self._clock = clock or asyncio.get_running_loop().time
        self._last: kopf.ConnectionInfo | None = None
        self.begin()

    def begin(self) -> None:
        """They are about to be opened."""
        self._began = self._clock()
        self._opened: dict[str, float] = {}

    def age_s(self) -> float:
        """Since the one that waits longest was opened; since `begin` while one never was."""
        whole = len(self._opened) >= self._count
        return self._clock() - (min(self._opened.values()) if whole else self._began)

    def session_of(self, info: kopf.ConnectionInfo | None) -> kopf.AiohttpSession | None:
        """What kopf would make of these credentials itself, listened to. None if there are none, or the API server
        has refused these very ones: kopf can't tell sessions apart."""
        if info is None or info == self._last:
            return None
        self._last = info
        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(self._answered)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
            headers=info.as_http_headers(),
            proxy=info.proxy_url,
            trust_env=info.trust_env,
            trace_configs=[trace],
        )
        return kopf.AiohttpSession(
            server=info.server,
            priority=info.priority,
            default_namespace=info.default_namespace,
            expiration=info.expiration,
            aiohttp_session=session,
        )

    async def _answered(
        self, session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestEndParams
    ) -> None:
        """A response has begun."""
        if "watch" in params.url.query and params.response.status < 400:
            self._opened[params.url.path] = self._clock()
