"""Login by ServiceAccount token: asks the API server by TokenReview and remembers its answers for up to a minute.

Laws.
1. Fails closed: no answer, an answer that can't be read or one that is late lets nobody in, and is not remembered.
2. At most REVIEWS_MAX questions run and WAITING_MAX wait; one token is asked about once at a time.
3. len(kept) <= KEPT_MAX. Tokens are kept and compared by hash, and never logged.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import ssl
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp

from lockmaster.server.login_policy import Principal, Reason, Refusal, looks_wrong, policy

_log = logging.getLogger(__name__)
REVIEW_SECONDS: Final = 5.0
REVIEWS_MAX: Final = 8
WAITING_MAX: Final = 256
KEPT_MAX: Final = 10_000
REFUSALS_KEPT_SECONDS: Final = 5.0
ANSWER_BYTES_MAX: Final = 256 << 10
PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"

Review = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Posts a TokenReview and returns the API server's. Raises Unanswered."""


class Unanswered(Exception):
    """The API server gave no answer that can be used; the text says why."""


class ApiServer:
    """Posts TokenReviews as the pod's own ServiceAccount; its token is read anew for each (it is rotated)."""

    def __init__(self, url: str, account: Path) -> None:
        """`url`: https://host:port; `account`: the directory with `token` and `ca.crt`. OSError, ssl.SSLError."""
        self._url = url + PATH
        self._token = account / "token"
        context = ssl.create_default_context(cafile=str(account / "ca.crt"))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=REVIEWS_MAX),
            timeout=aiohttp.ClientTimeout(total=REVIEW_SECONDS),
        )

    async def review(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """As Review."""
        try:
            own = self._token.read_text().strip()
            headers = {"Authorization": f"Bearer {own}"}
            async with self._session.post(self._url, json=question, headers=headers, allow_redirects=False) as answer:
                if answer.status not in (200, 201):
                    raise Unanswered(f"HTTP {answer.status}")
                body = bytearray()
                async for chunk in answer.content.iter_any():
                    body += chunk
                    if len(body) > ANSWER_BYTES_MAX:
                        raise Unanswered(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
                found = json.loads(body)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise Unanswered(
                type(error).__name__ + (f": {error.strerror}" if isinstance(error, OSError) else "")
            ) from None
        if not isinstance(found, dict):
            raise Unanswered("an answer that is no object")
        return found

    async def close(self) -> None:
        """Closes the connections."""
        await self._session.close()


class Logins:
    """Who the owner of a token is. For the loop's thread only."""

    def __init__(
        self,
        review: Review,
        audience: str,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.audience = audience
        self.refused: Counter[str] = Counter()
        """How often, by Reason."""
        self.reviews = 0
        """Questions put to the API server."""
        self._review = review
        self._clock, self._steady = clock, steady
        self._slots = asyncio.Semaphore(REVIEWS_MAX)
        self._kept: OrderedDict[bytes, tuple[Principal | Refusal, float, float]] = OrderedDict()
        """Answers, until when they hold by the clock on the wall (a token expires by that), and by one that never goes
        back."""
        self._running: dict[bytes, asyncio.Task[Principal | Refusal]] = {}

    async def login(self, token: str, *, anew: bool = False) -> Principal | Refusal:
        """Who it is, or why not. `anew`: asks again, whatever was answered before."""
        answer = looks_wrong(token, self.audience) or await self._answer(token, anew)
        if isinstance(answer, Refusal):
            self.refused[answer.reason.value] += 1
        return answer

    async def _answer(self, token: str, anew: bool) -> Principal | Refusal:
        key = hashlib.sha256(token.encode()).digest()
        kept = self._kept.get(key)
        if kept is not None and not anew and self._clock() < kept[1] and self._steady() < kept[2]:
            return kept[0]
        task = self._running.get(key)
        if task is None:
            if len(self._running) >= REVIEWS_MAX + WAITING_MAX:
                return Refusal(Reason.BUSY, "too many logins wait for the API server; try again")
            task = self._running[key] = asyncio.create_task(self._ask(key, token), name="token-review")
        return await asyncio.shield(task)

    async def _ask(self, key: bytes, token: str) -> Principal | Refusal:
        question = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self.audience]},
        }
        try:
            async with asyncio.timeout(2 * REVIEW_SECONDS), self._slots:
                self.reviews += 1
                review = await self._review(question)
        except (Unanswered, TimeoutError) as error:
            _log.warning("the API server does not answer a TokenReview: %s", error or "too late")
            return Refusal(Reason.UNANSWERED, "the API server can't be asked about the token now; try again")
        finally:
            del self._running[key]
        now = self._clock()
        answer = policy(review, token, self.audience, now)
        until = answer.until if isinstance(answer, Principal) else now + REFUSALS_KEPT_SECONDS
        self._kept[key] = (answer, until, self._steady() + until - now)
        self._kept.move_to_end(key)
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return answer
