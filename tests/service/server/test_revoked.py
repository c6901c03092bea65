"""A token that is no longer good: what was opened with it ends, also where its client would rather stay."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import pytest
from lockmaster.api import config_pb2, session_pb2, status_pb2
from lockmaster.server import callers
from lockmaster.server.login_policy import KEPT_SECONDS_MAX, Reason, Refusal
from lockmaster.server.token_review import REVIEWS_MAX, WAITERS_MAX, WAITING_MAX, Logins, Unanswered

from .test_login import AUDIENCE, CREDENTIALS, Place, review_of, token_of

SOON = 0.2
WAIT = 20.0
OLDEST = KEPT_SECONDS_MAX + callers.TICKET_SECONDS
BY_TOKEN = next(credential for credential in CREDENTIALS if credential.port == "login" and credential.served)
SHOWN = (("authorization", f"Bearer {token_of()}"),)


class ApiServer:
    """Its word about the token, in the test's hands."""

    def __init__(self) -> None:
        self.good = True

    async def review(self, _: Any) -> Any:
        return review_of() if self.good else {"status": {"authenticated": False}}


@pytest.fixture
def api_server(place: Place, monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    monkeypatch.setattr(callers, "RENEW_SECONDS", SOON)
    monkeypatch.setattr(callers, "REVOKED_SECONDS", SOON)
    answers = ApiServer()
    logins = place.server.callers.logins
    assert logins is not None
    monkeypatch.setattr(logins, "_review", answers.review)
    return answers


async def test_a_watch_ends_with_its_token(place: Place, api_server: ApiServer) -> None:
    async with place.channel(BY_TOKEN) as channel, asyncio.timeout(WAIT):
        opened: Any = channel
        pages = opened.unary_stream("/lockmaster.v1.Config/Watch", lambda message: message.SerializeToString())
        call = pages(config_pb2.WatchRequest(watch_id=1, namespace="n", key="k"), metadata=SHOWN, timeout=WAIT)
        await call.read()
        await asyncio.sleep(3 * SOON)
        assert not call.done()  # a good token is asked about again and again
        api_server.good = False
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_stream_that_keeps_itself_busy_ends_with_its_token(place: Place, api_server: ApiServer) -> None:
    """Told to go, it has one answer outstanding at any time, and would be served until the last."""
    async with place.channel(BY_TOKEN) as channel, asyncio.timeout(WAIT):
        opened: Any = channel
        call = opened.stream_stream("/lockmaster.v1.Sessions/Connect", lambda message: message.SerializeToString())(
            metadata=SHOWN, timeout=WAIT
        )

        async def ask_on() -> None:
            for number in range(1, 1_000):
                frame = session_pb2.ClientFrame()
                request = frame.requests.add()
                request.id = number
                request.get.namespace, request.get.key = "n", "k"
                request.get.read.consistency = status_pb2.CONSISTENCY_EVENTUAL
                request.get.read.revision_min, request.get.read.wait_ms_max = 2**62, 10_000
                await call.write(frame)
                await asyncio.sleep(SOON)

        asking = asyncio.create_task(ask_on())
        await asyncio.sleep(3 * SOON)
        assert not call.done()
        api_server.good = False
        while not call.done():
            await asyncio.sleep(SOON / 4)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_the_hour_of_an_outage_begins_with_the_last_good_answer(
    place: Place, api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What let a stream in may have been a ticket for a kept answer: then it was two minutes old already."""
    logins = place.server.callers.logins
    assert logins is not None

    async def away(_: Any) -> Any:
        raise Unanswered("connection refused")

    monkeypatch.setattr(logins, "_review", away)
    for outage, seconds in ((OLDEST - 1, SOON), (OLDEST + 3 * SOON, 3 * SOON)):
        monkeypatch.setattr(callers, "OUTAGE_SECONDS", outage)
        began, over = time.monotonic(), asyncio.Event()
        async with asyncio.timeout(WAIT):
            await callers.keep_watch(logins, callers.Caller("a", (), token_of()), over.set)
        assert over.is_set()
        assert time.monotonic() - began >= 0.8 * seconds


async def test_an_outage_ends_when_it_should_and_not_a_round_later(
    place: Place, api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def away(_: Any) -> Any:
        nonlocal asked
        asked += 1
        raise Unanswered("connection refused")

    logins = place.server.callers.logins
    assert logins is not None
    monkeypatch.setattr(logins, "_review", away)
    monkeypatch.setattr(callers, "RENEW_SECONDS", 3600.0)
    monkeypatch.setattr(callers, "OUTAGE_SECONDS", OLDEST + SOON)
    async with asyncio.timeout(WAIT):
        await callers.keep_watch(logins, callers.Caller("a", (), token_of()), lambda: None)
    assert asked == 1


async def test_nobody_keeps_a_stream_from_hearing_that_its_token_is_revoked() -> None:
    """The owner of a revoked token fills what strangers may ask, and what one answer may be waited for by."""
    hold, flooded = asyncio.Event(), asyncio.Event()
    questions = REVIEWS_MAX + WAITING_MAX

    async def review(_: Any) -> Any:
        flooded.set()
        await hold.wait()
        return review_of(authenticated=False)

    logins = Logins(review, AUDIENCE, lambda: 0.0, lambda: 0.0)
    flood = [asyncio.create_task(logins.login(token_of(f"junk {n}"))) for n in range(questions - 1)]
    # The last in its lane: who waited for that one's answer would wait for all of them.
    flood += [asyncio.create_task(logins.login(token_of("in flight"))) for _ in range(WAITERS_MAX)]
    async with asyncio.timeout(WAIT):
        await flooded.wait()
        streams = [asyncio.create_task(logins.login(token_of(mark), anew=True)) for mark in ("in flight", "revoked")]
        await asyncio.sleep(0)
        assert logins.reviews == REVIEWS_MAX
        await asyncio.sleep(0)
        assert logins.reviews == REVIEWS_MAX + len(streams)  # they are asked about at once
        hold.set()
        refusals = await asyncio.gather(*streams)
        assert [answer.reason for answer in refusals if isinstance(answer, Refusal)] == [Reason.REFUSED] * 2
        await asyncio.gather(*flood)
        before = logins.reviews
        assert isinstance(await logins.login(token_of("revoked"), anew=True), Refusal)
        assert logins.reviews == before  # a refusal that is still kept is enough


async def test_a_yes_that_comes_late_is_not_kept_over_a_no_that_was_asked_for_later() -> None:
    answers: list[asyncio.Future[Any]] = []

    async def review(_: Any) -> Any:
        answers.append(asyncio.get_running_loop().create_future())
        return await answers[-1]

    logins = Logins(review, AUDIENCE, lambda: 0.0, lambda: 0.0)
    async with asyncio.timeout(WAIT):
        caller = asyncio.create_task(logins.login(token_of()))
        while len(answers) < 1:
            await asyncio.sleep(0)
        stream = asyncio.create_task(logins.login(token_of(), anew=True))
        while len(answers) < 2:
            await asyncio.sleep(0)
        answers[1].set_result(review_of(authenticated=False))
        assert isinstance(await stream, Refusal)
        answers[0].set_result(review_of())
        await caller
        assert isinstance(await logins.login(token_of()), Refusal)  # by what is kept
    assert len(answers) == 2


async def test_no_name_of_a_certificate_is_a_service_accounts(place: Place) -> None:
    for names in (("system:serviceaccount:ops:admin",), ("shop.example", "system:serviceaccount:ops:admin")):
        with pytest.raises(callers.Unauthenticated):
            place.server.callers.certified(names)
    assert place.server.callers.certified(("shop.example",)).principal == "shop.example"
