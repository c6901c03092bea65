"""Whether a live object is as desired: only fields that the operator sets count, so its defaults cause no write.

Kubernetes rewrites quantities (1000m is 1) and adds defaults; neither is drift. A key that is absent in the desired
object is not looked at, but for lists: they are the operator's as a whole, item by item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lockmaster_operator.desired.names import Cluster, labels
from lockmaster_operator.models.part import amount_of

_QUANTITY_NAMES: Final = frozenset({"requests", "limits", "sizeLimit"})
"""Of quantities, and of what holds them."""
ObjectKey = tuple[str, str]
"""(kind, name) of an object in the cluster's namespace."""


def key_of(item: Mapping[str, Any]) -> ObjectKey:
    """Kind and name of an object."""
    return str(item.get("kind", "")), str(item.get("metadata", {}).get("name", ""))


def owned(cluster: Cluster, live: Mapping[str, Any]) -> bool:
    """Whether an object is this LockCluster's: controlled by it, or orphaned by an earlier one of its name.

    Another's is never taken over, nor one of an earlier LockCluster that is about to go with it.
    """
    metadata = live.get("metadata") or {}
    controllers = [owner for owner in metadata.get("ownerReferences") or () if owner.get("controller")]
    if controllers:
        return any(owner.get("uid") == cluster.uid for owner in controllers)
    told = metadata.get("labels") or {}
    return all(told.get(name) == value for name, value in labels(cluster).items())


def differs(desired: Any, live: Any, *, quantity: bool = False) -> bool:
    """Whether something that is desired is not so."""
    if desired == live:  # most parts are: one comparison in C instead of a walk
        return False
    # By exact type first: asking whether a dict is a Mapping costs more than all the rest.
    if type(desired) is dict or isinstance(desired, Mapping):
        if type(live) is not dict and not isinstance(live, Mapping):
            return bool(desired) or live is not None
        return any(
            differs(item, live.get(name), quantity=quantity or name in _QUANTITY_NAMES)
            for name, item in desired.items()
        )
    if isinstance(desired, Sequence) and not isinstance(desired, str):
        if not isinstance(live, Sequence) or isinstance(live, str):
            return bool(desired) or live is not None
        return len(desired) != len(live) or any(
            differs(one, other, quantity=quantity) for one, other in zip(desired, live)
        )
    if quantity and isinstance(desired, str) and live is not None:
        return amount_of(desired) != amount_of(str(live))
    return not (live is None and desired in ("", False, 0))


def changed_claim_templates(desired: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """Whether the StatefulSet's claim templates differ: they are immutable, it must be made anew around its pods."""
    return differs(
        {"t": desired.get("spec", {}).get("volumeClaimTemplates", [])},
        {"t": live.get("spec", {}).get("volumeClaimTemplates", [])},
    )
