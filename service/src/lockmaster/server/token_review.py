"""Login by ServiceAccount token: asks the API server by TokenReview and remembers its answers for up to a minute.

Laws.
1. Fails closed: no answer, an answer that can't be read or one that is late lets nobody in, and is not remembered.
2. Tokens that were good before have a lane of their own (Lane), so that strangers' can't keep their owners out, and so
   have those of open streams, so that no caller can keep a stream from hearing that its token is revoked. In each at
   most REVIEWS_MAX questions run and WAITING_MAX wait; one token is asked about once at a time for callers and once for
   streams, and at most WAITERS_MAX callers, or all the streams that are open with it, wait for one answer.
3. At most KEPT_MAX tokens are remembered as good and REFUSALS_KEPT_MAX as refused; those least recently used go first,
   and a refusal never drives out a good one. Tokens are kept and compared by hash, and never logged.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from lockmaster.server.login_policy import Principal, Reason, Refusal, looks_wrong, policy
from lockmaster.server.tls import Reloaded

_log = logging.getLogger(__name__)
REVIEW_SECONDS: Final = 5.0
REVIEWS_MAX: Final = 8
LANES: Final = 3
WAITING_MAX: Final = 256
WAITERS_MAX: Final = 128
KEPT_MAX: Final = 10_000
REFUSALS_KEPT_MAX: Final = 1_000
ANSWERED_MAX: Final = 4 * LANES * (REVIEWS_MAX + WAITING_MAX)
"""Far more than can be answered while one question runs."""
REFUSALS_KEPT_SECONDS: Final = 5.0
SILENCE_SECONDS: Final = 60.0
"""At least so long between two lines of the log about an API server that gives no answer."""
ANSWER_BYTES_MAX: Final = 256 << 10
PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"

Review = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Posts a TokenReview and returns the API server's. Raises Unanswered."""


class Unanswered(Exception):
    """The API server gave no answer that can be used; the text says why."""


class ApiServer:
    """Posts TokenReviews as the pod's own ServiceAccount; its files are read anew when they have changed."""

    def __init__(self, url: str, account: Path) -> None:
        """`url`: https://host:port; `account`: the directory with `token` and `ca.crt`. OSError, ssl.SSLError."""
        self._url = url + PATH
        self._token, authority = account / "token", account / "ca.crt"
        self._context = Reloaded((authority,), lambda: ssl.create_default_context(cafile=str(authority)))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=LANES * REVIEWS_MAX),
            timeout=aiohttp.ClientTimeout(total=REVIEW_SECONDS),
        )

    async def review(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """As Review."""
        try:
            own = self._token.read_text().strip()
            headers = {"Authorization": f"Bearer {own}"}
            context = self._context.get()
            async with self._session.post(
                self._url, json=question, headers=headers, allow_redirects=False, ssl=context
            ) as answer:
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


class Lane:
    """Questions that share REVIEWS_MAX slots; `running`: those and the ones that wait."""

    def __init__(self) -> None:
        self.slots = asyncio.Semaphore(REVIEWS_MAX)
        self.running = 0


@dataclass(slots=True)
class Question:
    """What the API server is being asked about one token, and how many callers wait for the answer."""

    task: asyncio.Task[Principal | Refusal]
    waiters: int = 0


class Kept:
    """At most `most` answers by the hash of their token; the least recently used goes first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[bytes, tuple[Principal | Refusal, float, float]] = OrderedDict()
        """Until when they hold by the clock on the wall (a token expires by that), and by one that never goes back."""

    def __contains__(self, key: bytes) -> bool:
        return key in self._kept

    def get(self, key: bytes, wall: float, steady: float) -> Principal | Refusal | None:
        """What still holds."""
        found = self._kept.get(key)
        if found is None or wall >= found[1] or steady >= found[2]:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def put(self, key: bytes, answer: Principal | Refusal, wall: float, steady: float) -> None:
        """Instead of an older one; `wall`, `steady`: until when."""
        self._kept[key] = (answer, wall, steady)
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def remove(self, key: bytes) -> None:
        """Nothing where there is none."""
        self._kept.pop(key, None)


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
        self._known, self._strangers, self._streams = (Lane() for _ in range(LANES))
        self._good, self._refused = Kept(KEPT_MAX), Kept(REFUSALS_KEPT_MAX)
        self._answered: OrderedDict[bytes, int] = OrderedDict()
        """The number of the question that the newest answer kept about a token was to; of ANSWERED_MAX tokens."""
        self._running: dict[tuple[bytes, bool], Question] = {}
        """By a token's hash, and whether it is asked for an open stream."""
        self._told_at, self._untold = -SILENCE_SECONDS, 0

    async def login(self, token: str, *, anew: bool = False) -> Principal | Refusal:
        """Who it is, or why not. `anew`: for an open stream; asks again, unless the answer was no just now."""
        answer = looks_wrong(token, self.audience, self._clock()) or await self._answer(token, anew)
        if isinstance(answer, Refusal):
            self.refused[answer.reason.value] += 1
        return answer

    async def _answer(self, token: str, anew: bool) -> Principal | Refusal:
        key = hashlib.sha256(token.encode()).digest()
        now = self._clock(), self._steady()
        kept = (None if anew else self._good.get(key, *now)) or self._refused.get(key, *now)
        if kept is not None:
            return kept
        question = self._running.get((key, anew))
        if question is None:
            lane = self._streams if anew else self._known if key in self._good else self._strangers
            if lane.running >= REVIEWS_MAX + WAITING_MAX:
                return _BUSY
            question = Question(asyncio.create_task(self._ask(key, token, anew, lane), name="token-review"))
            lane.running += 1
            self._running[key, anew] = question
        if question.waiters >= WAITERS_MAX and not anew:
            return _BUSY
        question.waiters += 1
        try:
            return await asyncio.shield(question.task)
        finally:
            question.waiters -= 1

    async def _ask(self, key: bytes, token: str, anew: bool, lane: Lane) -> Principal | Refusal:
        asked = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self.audience]},
        }
        try:
            async with asyncio.timeout(2 * REVIEW_SECONDS), lane.slots:
                self.reviews += 1
                number = self.reviews
                review = await self._review(asked)
        except (Unanswered, TimeoutError) as error:
            self._tell(str(error) or "too late")
            return Refusal(Reason.UNANSWERED, "the API server can't be asked about the token now; try again")
        finally:
            lane.running -= 1
            del self._running[key, anew]
        now, steady = self._clock(), self._steady()
        answer = policy(review, token, self.audience, now)
        if self._answered.get(key, 0) > number:
            return answer  # a later question about it, of the other kind, was answered before: that is what holds
        self._answered[key] = number
        self._answered.move_to_end(key)
        if len(self._answered) > ANSWERED_MAX:
            self._answered.popitem(last=False)
        if isinstance(answer, Principal):
            self._refused.remove(key)
            self._good.put(key, answer, answer.until, steady + answer.until - now)
        else:
            self._good.remove(key)
            self._refused.put(key, answer, now + REFUSALS_KEPT_SECONDS, steady + REFUSALS_KEPT_SECONDS)
        return answer

    def _tell(self, why: str) -> None:
        """A line of the log, at most one in SILENCE_SECONDS."""
        now = self._steady()
        if now - self._told_at < SILENCE_SECONDS:
            self._untold += 1
            return
        more = f" ({self._untold} more like it were not logged)" if self._untold else ""
        _log.warning("the API server does not answer a TokenReview: %s%s", why, more)
        self._told_at, self._untold = now, 0


_BUSY: Final = Refusal(Reason.BUSY, "too many logins wait for the API server; try again")
