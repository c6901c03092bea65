"""One pass over one ConfigSet: observe → plan → status, if changed → steps. kinds/config_sets.py decides."""

from __future__ import annotations

import base64
import binascii
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import aiohttp
from lockmaster import AsyncClient, Item, LockmasterError, rollout
from pydantic import ValidationError

from lockmaster_operator.host.gates import ask
from lockmaster_operator.host.kube import Json, Kube, KubeError
from lockmaster_operator.host.passes import PassFailed
from lockmaster_operator.host.reaching import Reach, Unreachable
from lockmaster_operator.host.telling import Teller
from lockmaster_operator.kinds import config_sets
from lockmaster_operator.kinds.config_sets import ConfigSet, DeleteKey, Observed, Plan, PutKey, SetFinalizer, Stored
from lockmaster_operator.models.config_set import ConfigSetSpec, ConfigSetStatus

_log = logging.getLogger(__name__)
KIND: Final = "ConfigSet"
SCAN_MAX: Final = 10_000
"""Most keys under a ConfigSet's prefix, whoever wrote them."""


def read(stored: Json) -> ConfigSet | None:
    """The ConfigSet as stored; None if its spec can't be read: a schema of another version let it in."""
    metadata = stored["metadata"]
    try:
        spec = ConfigSetSpec.model_validate(stored.get("spec", {}))
    except ValidationError:
        return None
    return ConfigSet(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        generation=int(metadata.get("generation", 0)),
        created=str(metadata.get("creationTimestamp", "")),
        spec=spec,
        deleting="deletionTimestamp" in metadata,
        finalizers=tuple(metadata.get("finalizers") or ()),
    )


def _status(stored: Json) -> ConfigSetStatus:
    try:
        return ConfigSetStatus.model_validate(stored.get("status") or {})
    except ValidationError:
        return ConfigSetStatus()


def files_of(config_map: Json) -> dict[str, bytes]:
    """Every file of a ConfigMap; one that is not base64 is left out (the API server lets none in)."""
    found = {name: text.encode() for name, text in (config_map.get("data") or {}).items()}
    for name, text in (config_map.get("binaryData") or {}).items():
        try:
            found[name] = base64.b64decode(text, validate=True)
        except binascii.Error:
            continue
    return found


@dataclass(slots=True)
class ConfigSets:
    """Makes passes; for one event loop, and for one ConfigSet at a time."""

    kube: Kube
    reach: Reach
    teller: Teller
    now: Callable[[], float] = time.time
    _asking: set[str] = field(default_factory=set)
    """ConfigSets whose canary bakes: their gates are asked in the next pass."""

    async def make(self, key: tuple[str, str]) -> float | None:
        """One pass. Seconds until the next; None: there is no such ConfigSet. Raises PassFailed."""
        try:
            stored = await self.kube.get(KIND, *key)
            own = read(stored) if stored is not None else None
            if stored is None or own is None:
                return None
            return await self._pass(own, stored)
        except (KubeError, LockmasterError, TimeoutError) as error:
            raise PassFailed(str(error) or type(error).__name__, getattr(error, "retry_after_s", 0.0)) from error

    async def _pass(self, own: ConfigSet, stored: Json) -> float:
        seen = Observed(status=_status(stored), files=await self._files(own), others=await self._others(own))
        try:
            async with self.reach.open(own.namespace, own.spec.cluster_ref.name) as client:
                try:
                    seen = await self._look(own, seen, client)
                except (LockmasterError, TimeoutError, OverflowError) as error:
                    return await self._act(own, stored, replace(seen, problem=str(error) or "no answer"), None)
                return await self._act(own, stored, seen, client)
        except Unreachable as error:
            seen = replace(seen, problem=str(error), cluster_there=error.there)
            return await self._act(own, stored, seen, None)

    async def _act(self, own: ConfigSet, stored: Json, seen: Observed, client: AsyncClient | None) -> float:
        decided = config_sets.plan(own, seen, int(self.now()))
        stored = await self._store(own, stored, seen, decided)
        for step in decided.steps:
            if isinstance(step, SetFinalizer):
                await self._finalizer(stored, step.present)
            elif client is not None:
                await _carry_out(client, own, step)
        (self._asking.add if decided.asks_gates else self._asking.discard)(own.uid)
        return decided.requeue_after_s

    async def _store(self, own: ConfigSet, stored: Json, seen: Observed, decided: Plan) -> Json:
        if decided.status == seen.status and "status" in stored:
            return stored
        status: dict[str, Any] = decided.status.model_dump(mode="json", by_alias=True, exclude_none=True)
        after = await self.kube.replace({**stored, "status": status}, "status")
        for event in decided.events:
            await self.teller.tell(stored, event)
        return after

    async def _finalizer(self, stored: Json, present: bool) -> None:
        """Only at the version that was read: somebody else's finalizers stay as they are."""
        metadata = stored["metadata"]
        rest = [one for one in metadata.get("finalizers") or () if one != config_sets.FINALIZER]
        finalizers = [*rest, config_sets.FINALIZER] if present else rest
        await self.kube.replace({**stored, "metadata": {**metadata, "finalizers": finalizers}})

    async def _files(self, own: ConfigSet) -> dict[str, dict[str, bytes] | None]:
        found: dict[str, dict[str, bytes] | None] = {}
        for name in dict.fromkeys(source.config_map.name for source in own.spec.files):
            config_map = await self.kube.get("ConfigMap", own.namespace, name)
            found[name] = None if config_map is None else files_of(config_map)
        return found

    async def _others(self, own: ConfigSet) -> dict[str, tuple[str, str]]:
        found = {}
        for stored in await self.kube.list(KIND, own.namespace):
            other = read(stored)
            if other is None or other.uid == own.uid or other.deleting:
                continue
            if other.spec.cluster_ref == own.spec.cluster_ref and other.spec.namespace == own.spec.namespace:
                found[other.author] = (other.created, other.name)
        return found

    async def _look(self, own: ConfigSet, seen: Observed, client: AsyncClient) -> Observed:
        keys = await _scan(client, own.spec.namespace, own.spec.prefix)
        tried = await _scan(client, rollout.CANARY, f"{own.uid}/")
        stored = await client.config(rollout.RECORDS).get(rollout.record_key(own.spec.namespace, own.uid))
        held = await _scan(client, rollout.RUNNING, f"{own.uid}/")
        counts = Counter(int(one.value) for one in held.values() if one.value.isdigit() and len(one.value) < 20)
        seen = replace(
            seen,
            keys=keys,
            canary_keys={key.removeprefix(f"{own.uid}/"): one for key, one in tried.items()},
            record=rollout.decode(stored.value) if stored is not None else None,
            record_revision=stored.revision if stored is not None else 0,
            running=dict(counts),
        )
        if own.uid in self._asking:
            async with aiohttp.ClientSession() as session:
                gates = [await ask(session, gate) for gate in own.spec.rollout.gates]
            seen = replace(seen, gates=tuple(gates))
        return seen


async def _scan(client: AsyncClient, namespace: str, prefix: str) -> dict[str, Stored]:
    items: list[Item] = await client.config(namespace).range(prefix, limit=SCAN_MAX + 1)
    if len(items) > SCAN_MAX:
        raise OverflowError(f"more than {SCAN_MAX} keys in {namespace} begin with {prefix!r}: choose a longer prefix")
    return {item.key: Stored(item.value, item.revision, item.author) for item in items}


async def _carry_out(client: AsyncClient, own: ConfigSet, step: PutKey | DeleteKey) -> None:
    """One compare-and-set. Raises CompareFailed where somebody else wrote since the look: the next pass sees it."""
    config = client.config(step.namespace)
    comment = f"ConfigSet {own.namespace}/{own.name}, generation {own.generation}"
    if isinstance(step, DeleteKey):
        await config.delete(step.key, if_revision=step.if_revision, author=own.author, comment=comment)
        return
    await config.put(step.key, step.value, if_revision=step.if_revision, author=own.author, comment=comment)
