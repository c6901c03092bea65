"""What the peers tell the engine, and with whom it keeps connections."""

from __future__ import annotations

import asyncio

from lockmaster_raft import events, ready
from lockmaster_raft.ids import NodeId
from lockmaster_raft.messages import Message

from lockmaster.server.contacts import FAREWELL, Contact, contacts_of
from lockmaster.server.members import Administration
from lockmaster.server.peers.codec import PeerMessage, StateHashes
from lockmaster.server.peers.hub import Me
from lockmaster.server.status import EngineSettings


class Peering(Administration):
    """The engine's side towards the hub; what it needs of the rest is abstract here."""

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        self._loop: asyncio.AbstractEventLoop
        self._configuration: object = None
        self._committed_configuration: object = None
        self._contacts: dict[NodeId, Contact] = {}

    def fail(self, error: BaseException) -> None:
        """End the process for this error."""
        raise NotImplementedError

    def deliver(self, message: Message) -> None:
        """A message arrived from a peer."""
        if self._node is not None:
            self.step(events.Receive(message))

    def told(self, message: StateHashes) -> None:
        """A message that is not for the core arrived from a peer."""
        if self._node is not None and self.integrity is not None:
            self.integrity.told(message)

    def connected(self, member_id: NodeId) -> None:
        """Both lanes to this member are up."""
        if self._node is not None:
            self.step(events.PeerConnected(member_id))

    def disconnected(self, member_id: NodeId) -> None:
        """A lane to this member is gone."""
        if self._node is not None:
            self.step(events.PeerDisconnected(member_id))

    def adopt(self, cluster_id: bytes, member_id: NodeId) -> None:
        """This blank member was joined: its identity becomes durable, then its node starts as a learner."""
        try:
            self.directory.assign(cluster_id, member_id)
            if self._hub is not None:
                self._hub.me = Me(cluster_id, member_id, self._hub.me.incarnation)
            self._build_node()
        except Exception as error:
            self.fail(error)

    def _contacts_changed(self) -> None:
        node, hub = self._node, self._hub
        if node is None or hub is None:
            return
        self._configuration = node.configuration
        self._committed_configuration = node.committed_configuration
        before, self._contacts = (
            self._contacts,
            contacts_of(node.committed_configuration, node.configuration, self._contacts),
        )
        leaving = {member_id: contact for member_id, contact in before.items() if member_id not in self._contacts}
        hub.set_members({**leaving, **self._contacts})
        if leaving:
            self._loop.call_later(FAREWELL, self._farewell_over)

    def _farewell_over(self) -> None:
        if self._hub is not None and self._node is not None:
            self._hub.set_members(self._contacts)

    def send(self, to: NodeId, message: PeerMessage, channel: ready.Channel) -> None:
        """For the engine's own parts: hand a message to the transport."""
        if self._hub is not None:
            self._hub.send(to, message, channel)
