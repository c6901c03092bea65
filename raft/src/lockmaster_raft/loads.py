"""Everything in a node's memory that could grow, each with its stated maximum (reliability.md S11)."""

from __future__ import annotations

from typing import NamedTuple

from lockmaster_raft.core import APPLY_BYTES_MAX, APPLY_OUTSTANDING_BYTES_MAX, APPLY_OUTSTANDING_MAX, Core
from lockmaster_raft.membership import MEMBERS_MAX
from lockmaster_raft.pieces import PIECES_OUTSTANDING_MAX


class Load(NamedTuple):
    """How much there is of something, and the most there may be."""

    what: str
    held: int
    most: int


def loads(core: Core) -> tuple[Load, ...]:
    """All of them, now. The log itself is bounded on disk: retain, witness.truncate."""
    config, progress = core.config, core.progress.values()
    wide = max(1, config.boost_factor)
    requests = max((len(p.inflight) for p in progress), default=0)
    size = max((p.inflight_bytes for p in progress), default=0)
    pieces = max((len(f.pieces.outstanding) + len(f.pieces.used) for f in (core.fetch, core.ranges) if f), default=0)
    applying = core.log.bytes_above(core.applied) - core.log.bytes_above(core.emitted)
    most = APPLY_OUTSTANDING_BYTES_MAX + APPLY_BYTES_MAX + 2 * config.entry_bytes_max
    cached = config.cache_bytes_max + config.entry_bytes_max + core.log.unsynced_bytes
    return (
        Load("proposals pending", len(core.pending_sizes), config.pending_entries_max + config.reserved_entries),
        Load("reads pending", core.reads.pending_count, config.pending_reads_max),
        Load("requests in flight to a member", requests, config.inflight_requests_max * wide),
        Load("bytes in flight to a member", size, config.inflight_bytes_max * wide + config.entry_bytes_max),
        Load("entries being applied", core.emitted - core.applied, APPLY_OUTSTANDING_MAX),
        Load("bytes of entries being applied", applying, most),
        Load("pieces asked for", pieces, PIECES_OUTSTANDING_MAX),
        Load("members followed", len(core.progress), MEMBERS_MAX),
        Load("bytes of entries cached", core.log.cached_bytes, cached),
    )
