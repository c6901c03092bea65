"""Certificates, and the authorities that sign them: everybody knows a new authority before it is used.

Theory of operation. Each authority goes with the leaves that it signs, the clients' with two and the members' with one.
How far a change of it has come is read from their Secrets in every pass:

    made → in every ca.crt beside those before it → SYNC_S later it signs every leaf → an old one goes when it is over

Laws.
1. While a leaf is good, no other authority's takes its place before that authority has been in ca.crt of every leaf's
   Secret for SYNC_S: whichever of two contents of its Secret a pod still has, it trusts what any other shows.
2. No authority leaves a ca.crt before it is over, but for the bound AUTHORITIES_MAX, and then none that signed a leaf
   that is in use. By one that is over nothing can be proved any more, so its going is never noticed.
3. An authority gets a successor only once every leaf is of it and has time enough left.
4. ca.crt and `since` are written as one: whatever a pass was cut off after, what stands there says how it goes on. A
   `since` that is not there, or lies in the future, counts from now.

An authority whose Secret is lost or damaged can't sign: its leaves stay until the new one may, as in a planned change;
one that is over, missing or without its key meanwhile is no good, and is issued by the new one at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lockmaster_operator.desired.certificates import (
    AUTHORITIES_MAX,
    AUTHORITY_RENEW_BEFORE_S,
    RENEW_BEFORE_S,
    SYNC_S,
    CertificateWanted,
    certificates,
)
from lockmaster_operator.observed import CertificateSeen
from lockmaster_operator.plan.steps import IssueCertificate, SpreadAuthorities, Step
from lockmaster_operator.plan.view import View

_Row = tuple[CertificateWanted, CertificateSeen | None]


def certificate_steps(view: View) -> list[Step]:
    """What is to be issued and what ca.crt is to say, an authority first and its leaves a pass later."""
    there = {seen.secret: seen for seen in view.observed.certificates}
    rows = [(wanted, there.get(wanted.secret)) for wanted in certificates(view.cluster, view.settings)]
    found: list[Step] = []
    for authority in rows:
        if not authority[0].issuer_secret:
            leaves = tuple(row for row in rows if row[0].issuer_secret == authority[0].secret)
            found += _family(authority, leaves, view.now)
    return found


def _family(authority: _Row, leaves: tuple[_Row, ...], now: int) -> list[Step]:
    wanted, seen = authority
    rows = [row for _, row in (authority, *leaves) if row is not None]
    successor = IssueCertificate(wanted, "", "".join(_others(rows, "", now)), now)
    if seen is None or not seen.issuer or seen.not_after <= now:
        return [successor]
    stage = _stage(seen.issuer, rows, leaves, now)
    steps = [step for leaf in leaves if (step := stage.leaf_step(*leaf)) is not None]
    ageing = seen.not_after - now <= AUTHORITY_RENEW_BEFORE_S
    if ageing and not steps and not stage.moving:
        return [successor]
    if seen.ca != stage.ca:
        steps.insert(0, SpreadAuthorities(wanted, stage.ca, stage.since(seen)))
    return steps


def _others(rows: Sequence[CertificateSeen], own: str, now: int) -> tuple[str, ...]:
    """PEM of all that are not over but `own`, the newest first; beyond the bound, those that signed what is in use."""
    found = {one.pem: one for row in rows for one in row.authorities if one.pem != own and one.not_after > now}
    signers = {row.issuer for row in rows}
    newest = sorted(found.values(), key=lambda one: (-one.not_before, one.pem))
    kept = sorted(newest, key=lambda one: one.pem not in signers)[: AUTHORITIES_MAX - 1]
    return tuple(one.pem for one in newest if one in kept)


@dataclass(frozen=True, slots=True)
class _Stage:
    """How far the authority in use has come."""

    bundle: tuple[str, ...]
    """PEM of what every ca.crt is to have, the authority in use first."""
    moving: bool
    """A leaf is of another authority."""
    ready: bool
    """All leaves' Secrets have had the bundle for SYNC_S."""
    now: int

    @property
    def ca(self) -> str:
        """The bundle as ca.crt has it."""
        return "".join(self.bundle)

    def since(self, seen: CertificateSeen | None) -> int:
        """What CertificateSeen.since is once the Secret has the bundle."""
        if seen is None or not set(self.bundle) <= {one.pem for one in seen.authorities}:
            return self.now
        return seen.since if 0 < seen.since <= self.now else self.now

    def leaf_step(self, wanted: CertificateWanted, seen: CertificateSeen | None) -> Step | None:
        """Missing, running out, without a name, or of another authority than the one in use; else what its ca.crt
        lacks, or has too many."""
        own, *others = self.bundle
        anew = IssueCertificate(wanted, own, "".join(others), self.since(seen))
        if seen is None or seen.issuer not in self.bundle or seen.not_after <= self.now:
            return anew
        short = seen.not_after - self.now <= RENEW_BEFORE_S or not set(wanted.names) <= set(seen.names)
        if short if seen.issuer == own else self.ready:
            return anew
        unknown = self.moving and not 0 < seen.since <= self.now
        return SpreadAuthorities(wanted, self.ca, self.since(seen)) if seen.ca != self.ca or unknown else None


def _stage(own: str, rows: Sequence[CertificateSeen], leaves: Sequence[_Row], now: int) -> _Stage:
    bundle = (own, *_others(rows, own, now))
    ca = "".join(bundle)
    moving = any(seen is not None and seen.issuer != own for _, seen in leaves)
    ready = all(seen is not None and seen.ca == ca and 0 < seen.since <= now - SYNC_S for _, seen in leaves)
    return _Stage(bundle, moving, ready, now)
