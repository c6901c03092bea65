"""Which sessions are over because their pod certainly is (operator.md §5). Pure and total.

Laws.
1. A session is ended for the pod UID in its authenticated token and no other: names recur.
2. Only by one of two words: the kubelet's, that every container of the pod has terminated and the pod is in a phase
   that it never leaves; or a person's, by the out-of-service taint of a node that is not ready and is the one that the
   pod was put on: the object of one that was there when the pod was made (nodes' names recur, too).
3. Whatever is absent, unknown, contradictory or only likely is doubt, and on doubt the session's TTL decides. That an
   object is gone says nothing: a forced delete takes it away while the process may still run on a cut-off node.
4. At most ENDS_MAX a pass; the rest in the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

EVENT: Final = "PodSessionEnded"
ENDS_MAX: Final = 200
NODES_MAX: Final = 64
"""Most nodes that one pass asks for; what is beyond is in doubt until the next."""


class Container(StrEnum):
    """A container by the kubelet's last word."""

    TERMINATED = "terminated"
    OTHER = "other"
    """It runs, waits, has no status, or the kubelet itself does not know."""


@dataclass(frozen=True, slots=True)
class PodLast:
    """The last that was observed of one pod, which may be gone by now."""

    uid: str
    namespace: str
    name: str
    node: str = ""
    """"" until it is scheduled."""
    there: bool = True
    """Its object exists."""
    terminal: bool = False
    """Its phase is one that the kubelet never leaves: no container is started again."""
    ready: bool = False
    """Its Ready condition, which the node controller takes away when the node is not heard of."""
    containers: tuple[Container, ...] = ()
    """Every container of its spec: of all three kinds."""
    made: str = ""
    """When, by the API server's clock (RFC 3339 in UTC, so texts compare as times)."""


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """A node as it is now."""

    name: str
    out_of_service: bool = False
    """It carries the taint by which a person says that it is shut down for good."""
    ready: bool = True
    """Anything but a kubelet that says so is not ready."""
    made: str = ""
    """When this object of that name was, as PodLast.made."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A live session that a pod's token opened."""

    session_id: int
    namespace: str
    pod: str
    pod_uid: str


@dataclass(frozen=True, slots=True)
class End:
    """End this very session, of this very pod."""

    session: Bound
    reason: str

    def idempotency_key(self) -> str:
        """The same for every repetition: a session id is never used twice."""
        return f"EndSession/{self.session.session_id}/{self.session.pod_uid}"


def why_over(session: Bound, pod: PodLast | None, node: NodeSeen | None) -> str:
    """Why the session's process is certainly gone; "" in every other case.

    `pod`: the last that was observed under the session's pod UID. `node`: the one that pod ran on, read after the
    session was seen to be alive.
    """
    if pod is None or (pod.uid, pod.namespace, pod.name) != (session.pod_uid, session.namespace, session.pod):
        return ""
    what = f"pod {pod.namespace}/{pod.name} ({pod.uid})"
    if pod.terminal and pod.containers and all(one is Container.TERMINATED for one in pod.containers):
        return f"{what}: all containers have terminated"
    if node is not None and node.out_of_service and not node.ready and _is_where(node, pod):
        return f"{what}: node {node.name} is out of service"
    return ""


def _is_where(node: NodeSeen, pod: PodLast) -> bool:
    """Whether the pod certainly was put on this very node. A pod that waited until its node was made is in doubt."""
    return bool(pod.node) and node.name == pod.node and "" < node.made <= pod.made


def nodes_wanted(sessions: Sequence[Bound], pods: Mapping[str, PodLast]) -> tuple[str, ...]:
    """Nodes to be asked for: those of pods that are not ready, or gone, at most NODES_MAX."""
    found: dict[str, None] = {}
    for session in sessions:
        pod = pods.get(session.pod_uid)
        if pod is not None and pod.node and not (pod.there and pod.ready):
            found[pod.node] = None
    return tuple(sorted(found)[:NODES_MAX])


def plan_ends(
    sessions: Sequence[Bound], pods: Mapping[str, PodLast], nodes: Mapping[str, NodeSeen]
) -> tuple[tuple[End, ...], bool]:
    """(sessions to be ended, whether more are left for the next pass). `pods` by UID, `nodes` by name."""
    found = []
    for session in sorted(sessions, key=lambda one: one.session_id):
        pod = pods.get(session.pod_uid)
        reason = why_over(session, pod, nodes.get(pod.node) if pod is not None else None)
        if reason:
            found.append(End(session, reason))
    return tuple(found[:ENDS_MAX]), len(found) > ENDS_MAX
