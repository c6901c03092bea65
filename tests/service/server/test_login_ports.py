"""What else stands around a login: tickets, relayed names, the API server's authority."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from lockmaster.api import config_pb2
from lockmaster.server.callers import Caller
from lockmaster.server.direct_port import TICKETS_MAX, TICKETS_OF_ONE_MAX, DirectPort
from lockmaster.server.relay import RELAYED_KEY
from lockmaster.server.token_review import ApiServer, Unanswered

from tests.service.server.test_tls import Authority

from .test_login import WAIT, Place, fake_api_server, token_of


def port() -> DirectPort:
    async def serve(*_: Any) -> None:
        return None

    return DirectPort(serve, lambda: False)


async def test_whoever_asks_for_tickets_without_end_drives_out_only_his_own() -> None:
    tickets, other = port(), Caller("other", (), "t")
    kept = tickets.key_for(other)
    greedy = [tickets.key_for(Caller("greedy", (), "t")) for _ in range(TICKETS_MAX + 1)]
    assert tickets.caller(kept, None) is other
    good = [ticket for ticket in greedy if tickets.caller(ticket, None) is not None]
    assert good == greedy[-TICKETS_OF_ONE_MAX:]


async def test_all_tickets_together_are_bounded_and_the_oldest_goes() -> None:
    tickets = port()
    given = [tickets.key_for(Caller(f"caller {number}", (), "t")) for number in range(TICKETS_MAX + 3)]
    assert [tickets.caller(ticket, None) is not None for ticket in given[:5]] == [False, False, False, True, True]
    assert tickets.caller(given[-1], None) is not None


async def test_a_relayed_name_that_is_no_text_is_refused_like_any_other(place: Place) -> None:
    roots, (cert, key) = place.authority.path.read_bytes(), place.files["client"]
    credentials = grpc.ssl_channel_credentials(roots, key.read_bytes(), cert.read_bytes())
    async with grpc.aio.secure_channel(place.server.bound_address, credentials) as channel:
        opened: Any = channel
        get = opened.unary_unary("/lockmaster.v1.Config/Get", lambda message: message.SerializeToString())
        for name in (b"\xff\xfe", b"somebody"):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await get(config_pb2.GetRequest(namespace="n", key="k"), metadata=((RELAYED_KEY, name),), timeout=WAIT)
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_the_api_servers_authority_is_read_again_when_it_changes(tmp_path: Path) -> None:
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    runner, url, asked = await fake_api_server(new, tmp_path)
    (tmp_path / "token").write_text("own-token")
    (tmp_path / "ca.crt").write_bytes(old.path.read_bytes())
    api_server = ApiServer(url, tmp_path)
    question = {"spec": {"token": token_of()}}
    with pytest.raises(Unanswered):
        await api_server.review(question)
    (tmp_path / "ca.crt").write_bytes(new.path.read_bytes() + b"\n")
    assert (await api_server.review(question))["status"]["authenticated"] is True
    assert asked == ["good"]
    await api_server.close()
    await runner.cleanup()
