"""PeerHub: every connection of one member, behind the few calls that the engine needs."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from socket import socket
from typing import Final, Protocol

from lockmaster_raft.ids import NodeId
from lockmaster_raft.membership import LEVEL_MAX, LEVEL_MIN
from lockmaster_raft.messages import Message
from lockmaster_raft.ready import Channel

from lockmaster.addresses import join_address, split_address
from lockmaster.server.contacts import Contact
from lockmaster.server.peers.codec import PeerMessage, StateHashes
from lockmaster.server.peers.handshake import Hello, Verdict, judge_hello
from lockmaster.server.peers.inbound import HELLO_TIMEOUT, Acceptor
from lockmaster.server.peers.outbound import Link
from lockmaster.server.status import PeerTls

CLOSE_TIMEOUT: Final = 2.0
"""Seconds that closing waits for accepted connections to be gone."""
LEARNED_MAX: Final = 32
"""Most senders whose addresses are kept from their Hello alone (needed until the configuration is known)."""


@dataclass(slots=True)
class Me:
    """Who this member is; cluster and id are None while it is blank."""

    cluster_id: bytes | None
    member_id: NodeId | None
    incarnation: bytes


class HubOwner(Protocol):
    """What the hub tells the engine, always on the loop's thread."""

    def deliver(self, message: Message) -> None:
        """A message arrived."""

    def told(self, message: StateHashes) -> None:
        """A message arrived that is not for the core."""

    def connected(self, member_id: NodeId) -> None:
        """Both lanes to this member are up, at least one of them new."""

    def disconnected(self, member_id: NodeId) -> None:
        """A lane to this member is gone."""

    def adopt(self, cluster_id: bytes, member_id: NodeId) -> None:
        """This blank member has been joined to a cluster: make it durable before returning."""

    def fail(self, error: BaseException) -> None:
        """A peer sent an entry that this binary may not skip: the member stops."""


class PeerHub:
    """Listens, dials, and hands messages over."""

    def __init__(self, owner: HubOwner, me: Me, tls: PeerTls | None, boot: int, level_max: int = LEVEL_MAX) -> None:
        self.me = me
        self.counters: dict[str, int] = {}
        self.address = ""
        """What other members dial; set once listening."""
        self._owner = owner
        self._tls = tls
        self._boot = boot
        self._level_max = level_max
        self._epoch = 0
        self._acceptor = Acceptor(self)
        self._server: asyncio.Server | None = None
        self._contacts: dict[NodeId, Contact] = {}
        self._learned: dict[NodeId, Contact] = {}
        self._links: dict[NodeId, Link] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def incarnation(self) -> bytes:
        """This data directory's."""
        return self.me.incarnation

    def fail(self, error: BaseException) -> None:
        """For accepted connections: end the process for this error."""
        self._owner.fail(error)

    async def listen(self, address: str, advertise: str) -> None:
        """Bind the peer port. OSError if it cannot be bound."""
        host, port = split_address(address)
        loop = asyncio.get_running_loop()
        context = self._tls.server_context() if self._tls is not None else None
        timeout = HELLO_TIMEOUT if context is not None else None
        self._server = await loop.create_server(
            self._acceptor.make, host, port, ssl=context, ssl_handshake_timeout=timeout, backlog=128
        )
        # A tuple to the type checker and in asyncio, a list in uvloop: a compiled copy must not look.
        sockets: Sequence[socket] = getattr(self._server, "sockets")  # noqa: B009
        bound = sockets[0].getsockname()
        self.address = advertise or join_address(bound[0], bound[1])

    def set_members(self, contacts: Mapping[NodeId, Contact]) -> None:
        """Dial these and nobody else (this member itself is left out)."""
        self._contacts = {i: c for i, c in sorted(contacts.items()) if i != self.me.member_id}
        if self._contacts:
            for member_id in [i for i in self._learned if i in self._contacts]:
                del self._learned[member_id]
        wanted = {**self._learned, **self._contacts}
        for member_id in [i for i in self._links if i not in wanted]:
            self._retire(self._links.pop(member_id))
        for member_id in sorted(wanted):
            if member_id not in self._links:
                self._links[member_id] = Link(self, member_id)

    def _retire(self, link: Link) -> None:
        task = asyncio.get_running_loop().create_task(link.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def send(self, to: NodeId, message: PeerMessage, channel: Channel) -> None:
        """Hand over to the lane; without one the message is dropped and counted."""
        link = self._links.get(to)
        if link is None:
            self.counters["peer_dropped_unknown"] = self.counters.get("peer_dropped_unknown", 0) + 1
            return
        (link.bulk if channel is Channel.BULK else link.control).send(message)

    def is_up(self, member_id: NodeId) -> bool:
        """Both lanes to this member are accepted."""
        link = self._links.get(member_id)
        return link is not None and link.up

    def last_error(self, member_id: NodeId) -> str:
        """Why the last attempt to reach this member failed, or ""."""
        link = self._links.get(member_id)
        return "" if link is None else link.control.last_error or link.bulk.last_error

    # -- asked by accepted connections
    def judge(self, hello: Hello, certificate: dict[str, object] | None) -> Verdict:
        """May this connection be used? A blank member is adopted here, durably."""
        me = self.me
        verdict = judge_hello(
            hello,
            cluster_id=me.cluster_id,
            member_id=me.member_id,
            incarnation=me.incarnation,
            level_min=LEVEL_MIN,
            level_max=self._level_max,
        )
        if verdict is not Verdict.ACCEPTED:
            return verdict
        known = self._contacts.get(hello.sender)
        if known is not None and known.incarnation != hello.sender_incarnation:
            return Verdict.UNKNOWN_SENDER
        if self._tls is not None and not self.check_certificate(hello.sender, certificate):
            return Verdict.BAD_CERTIFICATE
        if me.member_id is None:
            self._owner.adopt(hello.cluster_id, hello.receiver)
        self._learn(hello)
        link = self._links.get(hello.sender)
        if link is not None:
            link.seen()
        return Verdict.ACCEPTED

    def _learn(self, hello: Hello) -> None:
        contact = Contact(hello.address, hello.sender_incarnation)
        known = self._contacts.get(hello.sender)
        if known is not None or not hello.address:
            return
        if hello.sender in self._learned or len(self._learned) < LEARNED_MAX:
            self._learned[hello.sender] = contact
            if hello.sender not in self._links:
                self._links[hello.sender] = Link(self, hello.sender)

    def deliver(self, message: Message) -> None:
        """Pass it on."""
        self._owner.deliver(message)

    def told(self, message: StateHashes) -> None:
        """Pass it on."""
        self._owner.told(message)

    # -- asked by lanes
    def hello(self, member_id: NodeId, channel: Channel) -> Hello | None:
        """The Hello for a new connection."""
        me = self.me
        contact = self._contacts.get(member_id) or self._learned.get(member_id)
        if me.cluster_id is None or me.member_id is None or contact is None:
            return None
        self._epoch += 1
        return Hello(
            channel,
            me.cluster_id,
            me.member_id,
            member_id,
            contact.incarnation,
            me.incarnation,
            LEVEL_MIN,
            self._level_max,
            self._boot,
            self._epoch,
            self.address,
        )

    def address_of(self, member_id: NodeId) -> str:
        """Where to dial it now."""
        contact = self._contacts.get(member_id) or self._learned.get(member_id)
        if contact is None:
            raise ConnectionError(f"member {member_id} has no address")
        return contact.address

    def client_context(self) -> ssl.SSLContext | None:
        """TLS for dialling."""
        return self._tls.client_context() if self._tls is not None else None

    def check_certificate(self, member_id: NodeId, certificate: dict[str, object] | None) -> bool:
        """Ask the settings' hook; no certificate is no member."""
        return self._tls is not None and bool(certificate) and self._tls.check_peer(member_id, certificate or {})

    def lane_up(self, member_id: NodeId) -> None:
        """Tell the engine once both lanes are up."""
        if self.is_up(member_id):
            self._owner.connected(member_id)

    def lane_down(self, member_id: NodeId) -> None:
        """Tell the engine."""
        self._owner.disconnected(member_id)

    async def close(self) -> None:
        """Stop listening, close everything."""
        if self._server is not None:
            self._server.close()
        self._acceptor.close()
        links, self._links = self._links, {}
        for link in links.values():
            await link.close()
        if self._closing:
            await asyncio.gather(*self._closing)
        if self._server is not None:
            with suppress(TimeoutError):  # from Python 3.12 on it waits for every connection that a peer keeps open
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self._server.wait_closed()
