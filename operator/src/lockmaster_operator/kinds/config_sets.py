"""What to do about one ConfigSet: `plan(config_set, observed, now)`, pure and total.

Whose a key is stands in the key: its author names the ConfigSet's uid (lockmaster.rollout). What a rollout remembers
stands in the cluster, in the set's record. So nothing here depends on a status that could have been lost.

Order of one pass, the first that applies:
 1. the ConfigSet is being deleted: its keys go (deletionPolicy Delete), then its finalizer
 2. a canary runs and a gate fails: the record says so, then the tried values go
 3. a canary is wanted and not begun: the tried values are written, then the record
 4. a canary runs and its step has baked: the next step, or all clients
 5. the stable keys are put as declared, those no longer declared go, then the record
Laws: a key of an older ConfigSet that lives is never written; every write is a compare-and-set on the revision that was
seen; the record is written after the values that it speaks of; at most STEPS_MAX steps a pass, the rest in the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from lockmaster import rollout
from lockmaster.rollout import Canary, Record, Stable

from lockmaster_operator.kinds.telling import Told, conditions, events
from lockmaster_operator.models.config_set import (
    CONFLICTS_MAX,
    KEYS_MAX,
    RUNNING_MAX,
    ConfigDeletionPolicy,
    ConfigSetSpec,
    ConfigSetStatus,
    Conflict,
    DriftPolicy,
    RolloutStatus,
    Running,
    Strategy,
)
from lockmaster_operator.models.part import seconds_of
from lockmaster_operator.models.timestamps import timestamp_of
from lockmaster_operator.plan.transitions import Event

FINALIZER: Final = "lockmaster.dev/config-keys"
"""Only on a ConfigSet with deletionPolicy Delete: without it the keys could not be removed after it."""
STEPS_MAX: Final = 256
KEY_BYTES_MAX: Final = 1024
BYTES_MAX: Final = 8 << 20
"""Of all keys and values of one ConfigSet."""
RESYNC_S: Final = 60
"""Pause until drift is looked for again."""
BUSY_S: Final = 1
GATES_S: Final = 15
"""Pause between two looks at the gates of a step that bakes."""


@dataclass(frozen=True, slots=True)
class ConfigSet:
    """One ConfigSet as stored."""

    name: str
    namespace: str
    uid: str
    generation: int
    created: str
    """Its creationTimestamp: of two that want one key the older one has it."""
    spec: ConfigSetSpec
    deleting: bool = False
    finalizers: tuple[str, ...] = ()

    @property
    def author(self) -> str:
        """What its keys carry."""
        return rollout.author_of(self.uid)


@dataclass(frozen=True, slots=True)
class Stored:
    """A key as it is in the cluster."""

    value: bytes
    revision: int
    author: str = ""


@dataclass(frozen=True, slots=True)
class GateAnswer:
    """What one gate said. `holds` None: it could not be asked, so nothing is concluded and the step stays."""

    name: str
    holds: bool | None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """One look. `problem`: why the cluster could not be looked at; all else of it is empty then."""

    status: ConfigSetStatus = field(default_factory=ConfigSetStatus)
    files: Mapping[str, Mapping[str, bytes] | None] = field(default_factory=dict)
    """Files of each ConfigMap that the spec names; None: there is none of that name."""
    cluster_there: bool = True
    """The LockCluster exists and is not being deleted."""
    problem: str = ""
    keys: Mapping[str, Stored] = field(default_factory=dict)
    """All keys of the namespace that begin with the prefix, whoever wrote them."""
    canary_keys: Mapping[str, Stored] = field(default_factory=dict)
    """What is being tried, without the uid in front."""
    record: Record | None = None
    record_revision: int = 0
    running: Mapping[int, int] = field(default_factory=dict)
    """Clients by the revision that they hold."""
    others: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Author → (creationTimestamp, name) of each other ConfigSet of this cluster that lives."""
    gates: tuple[GateAnswer, ...] = ()


@dataclass(frozen=True, slots=True)
class PutKey:
    """Write a key, only if its revision is still this one (0: only if there is none)."""

    namespace: str
    key: str
    value: bytes = field(repr=False)
    if_revision: int


@dataclass(frozen=True, slots=True)
class DeleteKey:
    """Remove a key, only if its revision is still this one."""

    namespace: str
    key: str
    if_revision: int


@dataclass(frozen=True, slots=True)
class SetFinalizer:
    """Put the finalizer on the ConfigSet, or take it off."""

    present: bool


Step = PutKey | DeleteKey | SetFinalizer


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do. The host writes `status`, if it differs, and then takes the steps in order."""

    steps: tuple[Step, ...]
    status: ConfigSetStatus
    events: tuple[Event, ...] = ()
    requeue_after_s: int = RESYNC_S
    asks_gates: bool = False
    """A step bakes: the gates are asked before the next pass."""


@dataclass(frozen=True, slots=True)
class _View:
    own: ConfigSet
    seen: Observed
    now: int
    wanted: Mapping[str, bytes]
    wanted_hash: str
    conflicts: tuple[Conflict, ...]
    """Keys that an older ConfigSet has."""

    @property
    def record(self) -> Record:
        return self.seen.record or Record(self.own.uid, self.own.spec.namespace, self.own.spec.prefix)


def plan(own: ConfigSet, seen: Observed, now: int) -> Plan:
    """What to do about one ConfigSet, now (seconds since 1970)."""
    if own.deleting:
        return _deletion(own, seen)
    wanted = declared(own.spec, seen.files)
    if isinstance(wanted, str):
        return _told(own, seen, now, (), _bad("InvalidSpec", wanted))
    if not seen.cluster_there:
        return _told(own, seen, now, (), _bad("ClusterNotFound", f"no LockCluster {own.spec.cluster_ref.name} here"))
    if seen.problem:
        return _told(own, seen, now, (), _bad("ClusterUnavailable", seen.problem))
    wants_finalizer = own.spec.deletion_policy is ConfigDeletionPolicy.DELETE
    if wants_finalizer is not (FINALIZER in own.finalizers):
        steps: tuple[Step, ...] = (SetFinalizer(wants_finalizer),)
        return _told(own, seen, now, steps, (*_not_ready("Applying"), _progressing("Applying", "the finalizer is set")))
    view = _View(own, seen, now, wanted, rollout.hash_of(dict(wanted)), _taken(own, seen, wanted))
    if own.spec.paused:
        return _settled(view, (), "Paused", "nothing is written while spec.paused")
    if _is_canary(view):
        return _canary(view)
    return _stable(view)


# ---- what is declared ------------------------------------------------------------------------------------------------


def declared(spec: ConfigSetSpec, files: Mapping[str, Mapping[str, bytes] | None]) -> dict[str, bytes] | str:
    """Whole keys and their values; or why not, naming field and limit."""
    found: dict[str, bytes] = {}
    for n, source in enumerate(spec.files):
        content = files.get(source.config_map.name)
        if content is None:
            return f"files[{n}].configMap: there is no ConfigMap {source.config_map.name}"
        found.update({f"{spec.prefix}{source.prefix}{name}": value for name, value in content.items()})
    found.update({spec.prefix + key: value.encode() for key, value in spec.data.items()})
    if not found:
        return "files: the ConfigMaps hold no file, so there is no key"
    if len(found) > KEYS_MAX:
        return f"files: {len(found)} keys with data; at most {KEYS_MAX} are allowed"
    longest = max(found, key=lambda key: len(key.encode()))
    if len(longest.encode()) > KEY_BYTES_MAX:
        return f"prefix: key {longest[:64]}… is longer than {KEY_BYTES_MAX} bytes with it"
    size = sum(len(key.encode()) + len(value) for key, value in found.items())
    if size > BYTES_MAX:
        return f"data: {size} bytes with files; at most {BYTES_MAX} are allowed"
    return found


def _taken(own: ConfigSet, seen: Observed, wanted: Mapping[str, bytes]) -> tuple[Conflict, ...]:
    """Keys that are an older ConfigSet's; a younger one gives them up."""
    found = []
    for key in sorted(wanted):
        stored = seen.keys.get(key)
        other = seen.others.get(stored.author) if stored is not None else None
        if stored is not None and other is not None and (other[0], stored.author) < (own.created, own.author):
            found.append(Conflict(key=key, revision=stored.revision, owner=other[1]))
    return tuple(found)


# ---- the stable keys -------------------------------------------------------------------------------------------------


def _writable(view: _View) -> dict[str, bytes]:
    taken = {row.key for row in view.conflicts}
    return {key: value for key, value in view.wanted.items() if key not in taken}


def _stable(view: _View) -> Plan:
    own, seen, record = view.own, view.seen, view.record
    fresh = record.stable.hash != view.wanted_hash
    writes: list[Step] = []
    drifted: list[Conflict] = []
    for key, value in sorted(_writable(view).items()):
        stored = seen.keys.get(key)
        if stored is not None and stored.value == value and (stored.author == own.author or not fresh):
            continue
        if not fresh:
            drifted.append(Conflict(key=key, revision=stored.revision if stored is not None else 0))
            if own.spec.drift_policy is DriftPolicy.REPORT:
                continue
        writes.append(PutKey(own.spec.namespace, key, value, stored.revision if stored is not None else 0))
    writes += [
        DeleteKey(own.spec.namespace, key, stored.revision)
        for key, stored in sorted(seen.keys.items())
        if stored.author == own.author and key not in view.wanted
    ]
    if writes:
        what = "keys that somebody else changed are put back" if drifted else f"{len(writes)} keys are written"
        return _applying(view, tuple(writes[:STEPS_MAX]), tuple(drifted), what)
    steps: list[Step] = []
    after = Record(own.uid, own.spec.namespace, own.spec.prefix, Stable(view.wanted_hash, _newest(view)))
    if record.canary is not None or fresh or seen.record is None:
        steps.append(_put_record(view, after))
    steps += _drop_canary(view)
    if steps:
        return _applying(view, tuple(steps[:STEPS_MAX]), (), "all clients follow")
    return _settled(view, tuple(drifted), "", "")


def _newest(view: _View) -> int:
    """Revision of the last write of what this set has."""
    own = [stored.revision for stored in view.seen.keys.values() if stored.author == view.own.author]
    return max(own, default=0)


def _put_record(view: _View, record: Record) -> PutKey:
    key = rollout.record_key(view.own.spec.namespace, view.own.uid)
    return PutKey(rollout.RECORDS, key, record.encode(), view.seen.record_revision)


def _drop_canary(view: _View) -> list[Step]:
    rows = sorted(view.seen.canary_keys.items())
    return [DeleteKey(rollout.CANARY, f"{view.own.uid}/{key}", stored.revision) for key, stored in rows]


# ---- the canary ------------------------------------------------------------------------------------------------------


def _is_canary(view: _View) -> bool:
    """Something else than the stable content is declared, to be tried first. The first content is for all at once."""
    stable = view.record.stable.hash
    promoted = view.record.canary
    through = promoted is not None and promoted.hash == view.wanted_hash and promoted.percent == 100
    return view.own.spec.rollout.strategy is Strategy.CANARY and stable not in ("", view.wanted_hash) and not through


def _canary(view: _View) -> Plan:
    own, now, record, canary = view.own, view.now, view.record, view.record.canary
    steps = sorted(own.spec.rollout.steps, key=lambda step: step.percent)
    if canary is None or canary.hash != view.wanted_hash:
        return _begin(view, steps[0].percent)
    if canary.failed_gate:
        dropped = tuple(_drop_canary(view)[:STEPS_MAX])
        return _rolled_back(view, dropped, canary.failed_gate)
    failed = next((gate for gate in view.seen.gates if gate.holds is False), None)
    if failed is not None:
        after = replace(canary, percent=0, since=now, failed_gate=failed.name)
        put = _put_record(view, replace(record, canary=after))
        return _rolled_back(view, (put,), f"{failed.name}: {failed.message}")
    at = min(canary.step, len(steps) - 1)
    baked = now - canary.since >= seconds_of(steps[at].bake)
    unknown = [gate for gate in view.seen.gates if gate.holds is None]
    asked = {gate.name for gate in view.seen.gates}
    silent = [gate.name for gate in own.spec.rollout.gates if gate.name not in asked]
    if not baked or unknown or silent:
        why = f"; {unknown[0].name} could not be asked: {unknown[0].message}" if unknown else ""
        return _baking(view, f"{canary.percent} % of the clients that take part have it{why}")
    if at + 1 < len(steps):
        after = replace(canary, step=at + 1, percent=steps[at + 1].percent, since=now)
        return _rolling(
            view,
            (_put_record(view, replace(record, canary=after)),),
            f"{after.percent} % of the clients that take part",
        )
    # 100 %: it stays tried until the stable keys have it, so that no client falls back in between.
    after = replace(canary, step=len(steps), percent=100, since=now)
    return _rolling(view, (_put_record(view, replace(record, canary=after)),), "all clients")


def _begin(view: _View, percent: int) -> Plan:
    writable, own = _writable(view), view.own
    writes: list[Step] = []
    for key, value in sorted(writable.items()):
        stored = view.seen.canary_keys.get(key)
        if stored is None or stored.value != value:
            there = stored.revision if stored is not None else 0
            writes.append(PutKey(rollout.CANARY, f"{own.uid}/{key}", value, there))
    writes += [
        DeleteKey(rollout.CANARY, f"{own.uid}/{key}", stored.revision)
        for key, stored in sorted(view.seen.canary_keys.items())
        if key not in writable
    ]
    old = view.record.canary
    if writes and old is not None and old.percent:
        # Another content is declared while one is tried: nobody may read a mixture of the two.
        return _rolling(view, (_put_record(view, replace(view.record, canary=None)),), "another content is declared")
    if writes:
        return _rolling(view, tuple(writes[:STEPS_MAX]), f"{len(writes)} values to be tried are written")
    newest = max((stored.revision for stored in view.seen.canary_keys.values()), default=0)
    canary = Canary(view.wanted_hash, newest, 0, percent, view.now)
    return _rolling(
        view, (_put_record(view, replace(view.record, canary=canary)),), f"{percent} % of the clients that take part"
    )


# ---- deletion --------------------------------------------------------------------------------------------------------


def _deletion(own: ConfigSet, seen: Observed) -> Plan:
    """The keys go before the finalizer does. Where the cluster is gone there is nothing to remove."""
    if FINALIZER not in own.finalizers:
        return Plan((), seen.status)
    if seen.problem and seen.cluster_there:
        return Plan((), seen.status, requeue_after_s=GATES_S)
    steps: list[Step] = []
    if seen.cluster_there:
        record = Record(own.uid, own.spec.namespace, own.spec.prefix)
        if seen.record is not None:
            key = rollout.record_key(record.namespace, own.uid)
            steps.append(DeleteKey(rollout.RECORDS, key, seen.record_revision))
        rows = sorted(seen.canary_keys.items())
        steps += [DeleteKey(rollout.CANARY, f"{own.uid}/{key}", stored.revision) for key, stored in rows]
        steps += [
            DeleteKey(own.spec.namespace, key, stored.revision)
            for key, stored in sorted(seen.keys.items())
            if stored.author == own.author
        ]
    if len(steps) <= STEPS_MAX:
        return Plan((*steps, SetFinalizer(False)), seen.status, requeue_after_s=BUSY_S)
    return Plan(tuple(steps[:STEPS_MAX]), seen.status, requeue_after_s=BUSY_S)


# ---- what is told ----------------------------------------------------------------------------------------------------


def _progressing(reason: str, message: str = "") -> Told:
    return Told("Progressing", True, reason, message)


def _not_ready(reason: str, message: str = "", in_sync: bool | None = None) -> tuple[Told, ...]:
    return Told("Ready", False, reason, message), Told("InSync", in_sync, reason, message)


def _bad(reason: str, message: str) -> tuple[Told, ...]:
    return (
        Told("Ready", False, reason, message, bad_when=False),
        Told("InSync", None, reason, message),
        Told("Progressing", False, reason),
        Told("Degraded", True, reason, message, bad_when=True),
    )


def _applying(view: _View, steps: tuple[Step, ...], drifted: tuple[Conflict, ...], what: str) -> Plan:
    told = (*_not_ready("Applying", what, False), _progressing("Applying", what), Told("Degraded", False, "Applying"))
    if drifted:
        told = (Told("Ready", True, "DriftFound", what), Told("InSync", False, "DriftFound", what, bad_when=False),
                _progressing("Applying", what), Told("Degraded", False, "Applying"))  # fmt: skip
    return _told(view.own, view.seen, view.now, steps, told, view, drifted)


def _rolling(view: _View, steps: tuple[Step, ...], what: str) -> Plan:
    told = (Told("Ready", True, "RollingOut", what), Told("InSync", None, "RollingOut", what),
            _progressing("RollingOut", what), Told("Degraded", False, "RollingOut"))  # fmt: skip
    return _told(view.own, view.seen, view.now, steps, told, view)


def _baking(view: _View, what: str) -> Plan:
    return replace(_rolling(view, (), what), requeue_after_s=GATES_S, asks_gates=True)


def _rolled_back(view: _View, steps: tuple[Step, ...], why: str) -> Plan:
    message = f"gate {why}; all clients have the stable revision: declare something else, or set strategy All"
    told = (
        Told("Ready", False, "RolledBack", message, bad_when=False),
        Told("InSync", None, "RolledBack", message),
        Told("Progressing", False, "RolledBack"),
        Told("Degraded", True, "RolledBack", message, bad_when=True),
    )
    return _told(view.own, view.seen, view.now, steps, told, view)


def _settled(view: _View, drifted: tuple[Conflict, ...], reason: str, message: str) -> Plan:
    rows = (*view.conflicts, *drifted)
    if view.conflicts:
        first = view.conflicts[0]
        reason, message = (
            "Conflict",
            f"{len(view.conflicts)} keys are another's: {first.key} is ConfigSet {first.owner}'s",
        )
        message += "; take them out of one of the two"
    elif drifted:
        reason, message = "DriftFound", f"{len(drifted)} keys are not as declared, the first is {drifted[0].key}"
    bad = bool(view.conflicts)
    good = reason or "AsDeclared"
    told = (
        Told("Ready", not bad, good, message, bad_when=False),
        Told("InSync", not rows if reason != "Paused" else None, good, message, bad_when=False),
        Told("Progressing", False, good),
        Told("Degraded", bad, good, message, bad_when=True),
    )
    return _told(view.own, view.seen, view.now, (), told, view, drifted)


def _told(
    own: ConfigSet,
    seen: Observed,
    now: int,
    steps: tuple[Step, ...],
    told: tuple[Told, ...],
    view: _View | None = None,
    drifted: tuple[Conflict, ...] = (),
) -> Plan:
    before = seen.status
    message = next((one.message for one in told if one.type == "Ready"), "")
    status = before.model_copy(
        update={
            "observed_generation": own.generation,
            "conditions": conditions(before.conditions, told, own.generation, now),
            "message": message[:256],
        }
    )
    if view is not None:
        record, mine = view.record, [s for s in seen.keys.values() if s.author == own.author]
        rows = sorted(seen.running.items(), reverse=True)[:RUNNING_MAX]
        status = status.model_copy(
            update={
                "revision": max((stored.revision for stored in mine), default=0),
                "applied_hash": record.stable.hash,
                "keys": len(mine),
                "conflicts": (*view.conflicts, *drifted)[:CONFLICTS_MAX],
                "rollout": _rollout_status(record),
                "running": tuple(Running(revision=revision, clients=count) for revision, count in rows),
            }
        )
    return Plan(steps, status, events(before.conditions, told), BUSY_S if steps else RESYNC_S)


def _rollout_status(record: Record) -> RolloutStatus:
    canary = record.canary
    if canary is None:
        return RolloutStatus(stable_revision=record.stable.revision, canary_revision=record.stable.revision)
    return RolloutStatus(
        step=canary.step,
        percent=canary.percent,
        since=timestamp_of(canary.since),
        canary_revision=canary.revision,
        stable_revision=record.stable.revision,
        failed_gate=canary.failed_gate,
    )
