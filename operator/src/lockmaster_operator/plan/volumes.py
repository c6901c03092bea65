"""How large the volumes are to be: spec.storage.size, and by spec.storage.autoGrow more as they fill up."""

from __future__ import annotations

from typing import Final

from lockmaster_operator.models.part import amount_of
from lockmaster_operator.plan.steps import ExpandClaim
from lockmaster_operator.plan.view import View

MIB: Final = 1 << 20
GROW_BELOW_SHARE: Final = 0.2
GROW_BELOW_BYTES: Final = 768 * MIB
"""Less free than this, or than that share: it grows. Above where a leader refuses writes: 10 % or 512 MiB."""
GROW_FACTOR: Final = 1.5
GROW_BYTES_MIN: Final = 1 << 30
_UNITS: Final = "MGTP"


def volume_size(view: View) -> str:
    """The spec's, or what a claim already asks for if that is more: volumes never shrink. Larger while one fills up."""
    storage = view.cluster.spec.storage
    asked = [storage.size, *(claim.requested for claim in view.observed.claims if claim.requested)]
    size = max(asked, key=_bytes)
    if storage.auto_grow is None or not _filling(view, _bytes(size)):
        return size
    larger = max(_bytes(size) * GROW_FACTOR, _bytes(size) + GROW_BYTES_MIN)
    mib = int(min(larger, _bytes(storage.auto_grow.max))) // MIB
    return _canonical(mib) if mib * MIB > _bytes(size) else size


def _filling(view: View, size: float) -> bool:
    """A member has little room left on a volume that is as large as all are to be: an expansion that is not done yet
    is waited for."""
    for ordinal, pod in view.pods.items():
        claim, report = view.claims.get(ordinal), pod.report
        if report is None or claim is None or _bytes(claim.capacity) < size:
            continue
        if _low(report.free_bytes, size) or "disk_nearly_full" in report.alarms:
            return True
    return False


def low(free_bytes: int, size: str) -> bool:
    """Whether a member has little room left on a volume of this size, a quantity; 0 bytes: it does not say."""
    return _low(free_bytes, _bytes(size))


def _low(free_bytes: int, size: float) -> bool:
    return 0 < free_bytes < max(GROW_BELOW_SHARE * size, GROW_BELOW_BYTES)


def expansions(view: View, size: str) -> list[ExpandClaim]:
    """Of the claims that ask for less."""
    return [
        ExpandClaim(claim.ordinal, claim.uid, size)
        for claim in view.observed.claims
        if claim.requested and _bytes(claim.requested) < _bytes(size) and not claim.deleting
    ]


def _canonical(mib: int) -> str:
    """As the API server writes it back: it must not look like another size."""
    size, unit = mib, 0
    while size % 1024 == 0 and unit < len(_UNITS) - 1:
        size, unit = size // 1024, unit + 1
    return f"{size}{_UNITS[unit]}i"


def _bytes(quantity: str) -> float:
    return amount_of(quantity) or 0.0
