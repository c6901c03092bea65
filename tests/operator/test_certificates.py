"""A change of authority, stage by stage: by hand-made looks, by random cuts and losses, by real certificates.

A look is written as text: per Secret the authority that signed it, those in ca.crt, and since when it has had them all,
in seconds from now: `B:BA-60`; no number: nobody knows. B is newer than A.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field, replace

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from lockmaster_operator.desired.certificates import (
    AUTHORITY_LIFETIME_S,
    AUTHORITY_RENEW_BEFORE_S,
    RENEW_BEFORE_S,
    SYNC_S,
    certificates,
)
from lockmaster_operator.desired.names import Cluster, Settings
from lockmaster_operator.host.issuing import Held, Pems, issue, seen
from lockmaster_operator.models.lock_cluster import LockClusterSpec
from lockmaster_operator.observed import AuthoritySeen, CertificateSeen, Observed
from lockmaster_operator.plan.certificates import certificate_steps
from lockmaster_operator.plan.steps import IssueCertificate, SpreadAuthorities, Step
from lockmaster_operator.plan.view import View

NOW = 1_800_000_000
DAY = 86_400
YEAR = 365 * DAY
CLUSTER = Cluster("locks", "ns", "u", 1, LockClusterSpec(version="0.2.0"))
WANTED = {wanted.secret.removeprefix("locks-"): wanted for wanted in certificates(CLUSTER, Settings())}
AUTHORITIES = {
    name: AuthoritySeen(name, NOW - (9 - number) * YEAR, NOW + (1 + number) * YEAR)
    for number, name in enumerate("ABCDE")
}
"""A has a year left, and each later one a year more."""
Look = dict[str, CertificateSeen]


def row(secret: str, text: str, left: int = 60 * DAY) -> CertificateSeen:
    """One Secret of a look."""
    told = re.fullmatch(r"(\w*):(\w*)(-\d+|\+\d+)?", text)
    assert told is not None
    issuer, ca, since = told.groups()
    own = AUTHORITIES.get(issuer)
    until = own.not_after if own is not None and secret.endswith("-ca") else NOW + left
    authorities = tuple(AUTHORITIES[name] for name in ca if name in AUTHORITIES)
    moment = NOW + int(since) if since else 0
    return CertificateSeen(WANTED[secret].secret, until, WANTED[secret].names, issuer, ca, authorities, moment)


def look(authority: str = "", client: str = "", operator: str = "") -> Look:
    """The clients' authority and what it signs."""
    given = {"client-ca": authority, "client-tls": client, "operator-tls": operator}
    return {name: row(name, text) for name, text in given.items() if text}


def steps_of(rows: Look, now: int = NOW) -> list[Step]:
    """Those about the clients' authority."""
    observed = Observed(certificates=tuple(rows.values()))
    steps = certificate_steps(View(CLUSTER, Settings(), observed, now))
    return [step for step in steps if "peer" not in told(step)]


def told(step: Step) -> str:
    """A step as a line."""
    assert isinstance(step, IssueCertificate | SpreadAuthorities)
    name = step.wanted.secret.removeprefix("locks-")
    since = f"{step.since - NOW:+}" if step.since != NOW else ""
    if isinstance(step, SpreadAuthorities):
        return f"{name} trusts {step.ca}{since}"
    return f"{name} by {step.issuer or 'itself'}, beside {step.beside or 'none'}{since}"


LONG = f"-{SYNC_S}"
LESS = f"-{SYNC_S - 1}"
MAKE = "client-ca by itself, beside A"


@pytest.mark.parametrize(
    ("rows", "steps"),
    [
        pytest.param(look(), ["client-ca by itself, beside none"], id="nothing is there"),
        pytest.param(
            look("B:B"), ["client-tls by B, beside none", "operator-tls by B, beside none"], id="an authority alone"
        ),
        pytest.param(look("B:B", "B:B", "B:B"), [], id="all is well, though made before there was a since"),
        pytest.param(look("A:A", "A:A", "A:A"), [MAKE], id="a year is left of it"),
        pytest.param(
            look("B:BA", "A:A-9", "A:A"), ["client-tls trusts BA", "operator-tls trusts BA"], id="its successor is made"
        ),
        pytest.param(look("B:BA", "A:BA-9", "A:A"), ["operator-tls trusts BA"], id="one leaf has got both"),
        pytest.param(look("B:BA", f"A:BA{LONG}", f"A:BA{LESS}"), [], id="the last one has not had both for long"),
        pytest.param(
            look("B:BA", f"A:BA{LONG}", f"A:BA{LONG}"),
            [f"client-tls by B, beside A{LONG}", f"operator-tls by B, beside A{LONG}"],
            id="all have had both for long",
        ),
        pytest.param(
            look("B:BA", f"B:BA{LONG}", f"A:BA{LONG}"), [f"operator-tls by B, beside A{LONG}"], id="one leaf is of it"
        ),
        pytest.param(look("B:BA", f"B:BA{LONG}", f"B:BA{LONG}"), [], id="all leaves are of it"),
        pytest.param(look("B:BA", f"A:BA{LONG}", "A:BA"), ["operator-tls trusts BA"], id="nobody knows since when"),
        pytest.param(
            look("B:BA", f"A:BA{LONG}", "A:BA+9"), ["operator-tls trusts BA"], id="it says: since a time to come"
        ),
        pytest.param(
            look("B:BA", "", f"A:BA{LONG}"), ["client-tls by B, beside A"], id="a Secret is gone while the other waits"
        ),
        pytest.param(
            look("B:BA", f":BA{LONG}", "A:BA-9"),
            [f"client-tls by B, beside A{LONG}"],
            id="one is damaged while the other waits",
        ),
        pytest.param(look("A:AB", "B:AB-9", "B:AB-9"), [], id="an older one was put back: leaves first"),
        pytest.param(look("", "A:A-9", "A:A-9"), [MAKE], id="the authority's Secret is lost"),
        pytest.param(look(":A", "A:A-9", "A:A-9"), [MAKE], id="the authority's key is lost"),
        pytest.param(look("", "B:BA", "A:BA"), ["client-ca by itself, beside BA"], id="lost in the middle of a change"),
        pytest.param(
            look("C:CBA", "B:BA-9", "A:BA-9"), ["client-tls trusts CBA", "operator-tls trusts CBA"], id="and made anew"
        ),
        pytest.param(
            look("E:EDCBA", "A:DCBA-9", "A:DCBA-9"),
            ["client-tls trusts EDCA", "operator-tls trusts EDCA"],
            id="of too many the one in use stays",
        ),
        pytest.param(
            look("B:B", ":X", "B:BX-9"), ["client-tls by B, beside none", "operator-tls trusts B-9"], id="a stranger's"
        ),
    ],
)  # fmt: skip
def test_each_stage_is_read_from_what_is_there(rows: Look, steps: list[str]) -> None:
    found = [line for line in map(told, steps_of(rows)) if not line.startswith("client-ca trusts")]
    assert found == steps


def test_an_authoritys_own_ca_crt_says_the_same() -> None:
    assert list(map(told, steps_of(look("B:B", "A:BA-9", "A:BA-9")))) == ["client-ca trusts BA"]


def test_an_old_authority_goes_when_it_is_over_and_no_second_earlier() -> None:
    rows = look("B:BA-9", f"B:BA{LONG}", f"B:BA{LONG}")
    over = AUTHORITIES["A"].not_after
    rows = {name: replace(one, not_after=over + YEAR) for name, one in rows.items()} | {"client-ca": rows["client-ca"]}
    rows["client-ca"] = replace(rows["client-ca"], not_after=over + 2 * YEAR)
    assert steps_of(rows, over - 1) == []
    assert list(map(told, steps_of(rows, over))) == [
        "client-ca trusts B-9",
        f"client-tls trusts B{LONG}",
        f"operator-tls trusts B{LONG}",
    ]


def test_a_leaf_that_runs_out_is_renewed_by_its_own_authority_before_that_one_gets_a_successor() -> None:
    rows = look("A:A", "A:A-9", "A:A-9") | {"client-tls": row("client-tls", "A:A-9", left=RENEW_BEFORE_S)}
    assert list(map(told, steps_of(rows))) == ["client-tls by A, beside none-9"]


def test_a_leaf_without_a_name_waits_for_the_authority_that_may_sign_it() -> None:
    for since, steps in ((LESS, []), (LONG, [f"client-tls by B, beside A{LONG}"])):
        rows = look("B:BA", f"A:BA{since}", f"B:BA{since}")
        rows["client-tls"] = replace(rows["client-tls"], names=())
        assert list(map(told, steps_of(rows))) == steps


def test_a_leaf_that_is_over_or_whose_authority_is_waits_for_nothing() -> None:
    rows = look("B:BA", "A:A-9", "B:BA-9") | {"client-tls": row("client-tls", "A:A-9", left=0)}
    assert list(map(told, steps_of(rows))) == ["client-tls by B, beside A"]
    over = {name: replace(one, not_after=NOW + 3 * YEAR) for name, one in look("B:BA", "A:A", "B:BA").items()}
    assert list(map(told, steps_of(over, NOW + YEAR)))[1].startswith("client-tls by B, beside none")


# --- real certificates, pods that lag, an operator that is cut off ----------------------------------------------------


@functools.cache
def good_until(ca: str, certificate: str, key: str) -> int:
    """To when this ca.crt trusts that leaf; 0: never."""
    authority, leaf = WANTED["client-ca"], WANTED["client-tls"]
    if "peer" in _common_name(certificate):
        authority, leaf = WANTED["peer-ca"], WANTED["peer-tls"]
    held = {authority.secret: Held((ca, "", "")), leaf.secret: Held((ca, certificate, key))}
    row = seen((authority, leaf), held)[1]
    return max((min(row.not_after, one.not_after) for one in row.authorities if one.pem == row.issuer), default=0)


def _common_name(certificate: str) -> str:
    return x509.load_pem_x509_certificate(certificate.encode()).subject.rfc4514_string()


@dataclass
class Shelf:
    """The Secrets, with every content that a pod may still have: one that was replaced less than SYNC_S ago."""

    now: int = NOW
    secrets: dict[str, Held] = field(default_factory=dict)
    replaced: dict[str, list[tuple[int, Pems]]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def make_pass(self, steps_max: int = 100) -> int:
        """One pass, cut off after so many steps; how many it had."""
        rows = seen(tuple(WANTED.values()), self.secrets)
        steps = certificate_steps(View(CLUSTER, Settings(), Observed(certificates=rows), self.now))
        for step in steps[:steps_max]:
            self.log.append(f"{self.now - NOW}: {type(step).__name__} {step.wanted.secret}")  # type: ignore[union-attr]
            self.carry_out(step)
            self.check()
        return len(steps)

    def carry_out(self, step: Step) -> None:
        """As the host does."""
        assert isinstance(step, IssueCertificate | SpreadAuthorities)
        secret = step.wanted.secret
        before = self.secrets.get(secret)
        if before is not None:
            self.replaced.setdefault(secret, []).append((self.now, before.pems))
        if isinstance(step, SpreadAuthorities):
            assert before is not None
            made = (step.ca, *before.pems[1:])
        else:
            issuer = self.secrets[step.wanted.issuer_secret].pems if step.issuer else None
            made = issue(step.wanted, issuer, self.now, step.beside)
        self.secrets[secret] = Held(made, step.since)

    def contents(self, secret: str) -> list[Pems]:
        """What a pod that mounts the Secret may have."""
        lagging = [pems for at, pems in self.replaced.get(secret, []) if at > self.now - SYNC_S]
        return [*lagging, *([self.secrets[secret].pems] if secret in self.secrets else [])]

    def check(self) -> None:
        """Law: whatever content a pod has, its leaf is trusted by every pod, whatever content that one has."""
        for authority in ("locks-client-ca", "locks-peer-ca"):
            leaves = [one.secret for one in WANTED.values() if one.issuer_secret == authority]
            held = [pems for secret in leaves for pems in self.contents(secret)]
            for ca, _, _ in held:
                for _, certificate, key in held:
                    assert good_until(ca, certificate, key) > self.now, "\n".join(self.log[-12:])

    def settle(self) -> None:
        """Passes, until there is nothing to do."""
        for _ in range(10):
            if not self.make_pass():
                return
        raise AssertionError("\n".join(self.log[-20:]))

    def issuers(self) -> set[str]:
        """Common names are the same, so by PEM."""
        return {one.issuer for one in seen(tuple(WANTED.values()), self.secrets)}

    def leap(self, until: int) -> None:
        """Years later, with leaves that the same authorities have only just signed."""
        before = self.issuers()
        self.now = until
        self.replaced.clear()
        self.secrets = {secret: held for secret, held in self.secrets.items() if secret.endswith("-ca")}
        self.settle()
        assert self.issuers() == before

    def age(self, until: int) -> None:
        """Passes every 20 days, with renewals."""
        while self.now < until:
            self.now = min(until, self.now + 20 * DAY)
            self.settle()
            self.check()


def test_a_planned_change_is_unseen_by_pods_that_lag_and_ends_with_the_new_authority_alone() -> None:
    shelf = Shelf()
    shelf.settle()
    first = shelf.issuers()
    began = NOW + AUTHORITY_LIFETIME_S - AUTHORITY_RENEW_BEFORE_S
    shelf.leap(began - 100 * DAY)
    shelf.age(began - DAY)
    assert shelf.issuers() == first
    shelf.log.clear()
    while shelf.now < began + 2 * DAY:
        shelf.now += 3600
        shelf.make_pass()
        shelf.check()
    families = ["client-ca", "peer-ca"], ["client-tls", "operator-tls", "peer-tls"]
    days = [(int(line.split(":")[0]) - (began - NOW)) / DAY for line in shelf.log]
    assert [line.split(": ")[1] for line in shelf.log] == [
        *(f"IssueCertificate locks-{name}" for name in families[0]),
        *(f"SpreadAuthorities locks-{name}" for name in families[1]),
        *(f"IssueCertificate locks-{name}" for name in families[1]),
    ]
    assert (days[0], days[4], days[5]) == (0, 1 / 24, 1 + 1 / 24)
    shelf.age(NOW + AUTHORITY_LIFETIME_S - 1)
    assert {held.pems[0].count("BEGIN") for held in shelf.secrets.values()} == {2}
    shelf.age(NOW + AUTHORITY_LIFETIME_S)
    assert {held.pems[0].count("BEGIN") for held in shelf.secrets.values()} == {1}
    assert not shelf.issuers() & first


@pytest.mark.parametrize("lost", [False, True], ids=["planned", "lost"])
@pytest.mark.parametrize("arrow", range(14))
def test_a_pass_cut_off_after_any_step_breaks_nothing(arrow: int, lost: bool) -> None:
    """Steps come one to a pass, and after one of them the operator is away for longer than anybody waits."""
    shelf = Shelf()
    shelf.settle()
    first = shelf.issuers()
    if lost:
        del shelf.secrets["locks-client-ca"], shelf.secrets["locks-peer-ca"]
    else:
        shelf.leap(NOW + AUTHORITY_LIFETIME_S - AUTHORITY_RENEW_BEFORE_S - DAY)
        shelf.now += DAY
    done = 0
    for _ in range(100):
        taken = min(1, shelf.make_pass(1))
        done += taken
        shelf.now += 2 * SYNC_S if taken and done == arrow else 2 if taken else SYNC_S
        shelf.check()
        if not taken and not shelf.issuers() & first:
            break
    assert not shelf.issuers() & first
    assert {held.pems[0].count("BEGIN") for held in shelf.secrets.values()} == {2}


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    script=st.lists(
        st.tuples(
            st.sampled_from([2, 60, 3600, SYNC_S - 1, SYNC_S, 9 * DAY]),
            st.integers(0, 3),
            st.sampled_from(["", "", "", "locks-client-ca", "locks-peer-ca"]),
        ),
        max_size=25,
    )
)
def test_random_pauses_cuts_and_at_most_three_losses_break_nothing(script: list[tuple[int, int, str]]) -> None:
    shelf = Shelf()
    shelf.settle()
    losses = {"locks-client-ca": 3, "locks-peer-ca": 3}
    for pause, steps_max, lost in script:
        shelf.now += pause
        shelf.make_pass(steps_max)
        shelf.check()
        if lost and losses[lost] and lost in shelf.secrets:
            losses[lost] -= 1
            del shelf.secrets[lost]
    shelf.settle()
    shelf.now += SYNC_S
    shelf.settle()
    rows = {one.secret: one for one in seen(tuple(WANTED.values()), shelf.secrets)}
    leaves = [one for one in WANTED.values() if one.issuer_secret]
    assert all(rows[one.issuer_secret].issuer == rows[one.secret].issuer for one in leaves)
