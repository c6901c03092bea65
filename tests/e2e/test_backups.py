"""LockBackup, LockRestore, QuorumRecovery on a real Kubernetes (operator.md §1): Jobs, claims, what is in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from .bed import host
from .kubernetes import Kubernetes
from .product import Json, Product, condition, is_ready, member_at, message, reason, roles
from .test_kubectl import asked
from .test_scenarios import QUICK, SHAPE

pytestmark = pytest.mark.e2e
KEYS = 200
CLAIM = "backups"
JOB_SECONDS = 150.0
PROGRAM = """
from lockmaster import Client, TLS
with Client("{cluster}:7420", tls=TLS("/tls/ca.crt", "/tls/tls.crt", "/tls/tls.key")) as client:
    app = client.config("app")
    {body}
    with client.lock("orders/42", timeout=45) as held:
        print("saw", revision, held.fencing_token)
"""
WRITE = """for n in range({keys}):
        revision = app.put("key-%d" % n, b"{word}-%d" % n)"""
READ = """found = [app.get("key-%d" % n) for n in range({keys})]
    bad = [n for n, item in enumerate(found) if item is None or item.value != b"{word}-%d" % n]
    assert not bad, bad
    revision = app.put("after", b"1")"""


class Saw(NamedTuple):
    """The last revision and fencing token that a program was given."""

    revision: int
    token: int


def told_by(product: Product, pod: str, cluster: str, body: str, word: str) -> Saw:
    code = PROGRAM.format(cluster=cluster, body=body.format(keys=KEYS, word=word))
    printed = product.run(pod, code, f"{cluster}-operator-tls")
    words = next(line for line in printed.splitlines() if line.startswith("saw ")).split()
    return Saw(int(words[1]), int(words[2]))


def wait(product: Product, kind: str, name: str, what: str, check: Callable[[Json], bool]) -> Json:
    """The status of an object, once it is so. Raises Failed with its last one."""

    def status() -> Json:
        found: Json = product.get(kind, name).get("status", {})
        return found

    try:
        host.wait_until(what, JOB_SECONDS, lambda: check(status()), every=1)
    except host.Failed as error:
        raise host.Failed(f"{error}: {json.dumps(status())}") from None
    return status()


def made(product: Product, kind: str, name: str, **spec: Any) -> None:
    body = {"apiVersion": "lockmaster.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    product.apply(body)


def backup(product: Product, name: str, **spec: Any) -> None:
    made(product, "LockBackup", name, clusterRef={"name": "locks"}, store={"pvc": {"claimName": CLAIM}}, **spec)


def restore(product: Product, name: str, cluster: str, **source: Any) -> None:
    made(product, "LockRestore", name, clusterRef={"name": cluster}, source=source)


@pytest.fixture(scope="module")
def stored(kubernetes: Kubernetes, operator: Product) -> Iterator[Product]:
    """A LockCluster with keys of the word "first" in it, and a claim for archives."""
    one = Product(kubernetes, "e2e-backups")
    one.begin()
    size = {"requests": {"storage": "1Gi"}}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": size}
    one.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM}, "spec": spec})
    one.ready(witness=QUICK)
    yield one
    one.end()


@pytest.fixture(scope="module")
def by_hand(stored: Product) -> tuple[Json, Saw]:
    """The status of one backup, asked for by the plugin, and the last that the cluster gave out before it."""
    saw = told_by(stored, "write-first", "locks", WRITE, "first")
    assert asked(stored, "backup", "locks", "--claim", CLAIM, "--name", "once") == {"name": "once"}
    return wait(stored, "lockbackup", "once", "an archive", is_ready), saw


def in_the_claim(product: Product, pod: str, code: str = "") -> list[str]:
    """What is in the folder of archives, after a program has done something to it (`where`: the folder)."""
    body = f"import pathlib\nwhere = pathlib.Path('/archives/lockmaster')\n{code}\n"
    listed = body + "print(*sorted(path.name for path in where.iterdir()))"
    return product.run(pod, listed, "locks-operator-tls", CLAIM).split()


def test_80_a_backup_by_hand_is_verified_and_holds_all_that_was_acknowledged_before(
    stored: Product, by_hand: tuple[Json, Saw]
) -> None:
    status, saw = by_hand
    (archive,) = status["archives"]
    assert (archive["phase"], reason(status, "Ready")) == ("Verified", "Verified")
    assert archive["revision"] >= saw.revision
    assert archive["clusterId"] == stored.status("locks")["clusterId"]
    assert len(archive["sha256"]) == 64
    assert in_the_claim(stored, "list-first") == [archive["name"]]
    assert stored.get("jobs")["items"] == []


def test_82_a_restore_makes_a_new_cluster_whose_revisions_and_tokens_go_on_above_the_old_ones(
    stored: Product, by_hand: tuple[Json, Saw]
) -> None:
    """The old cluster goes on after the backup: what it gives out then is below what the new one gives out, too."""
    later = told_by(stored, "write-second", "locks", WRITE, "second")
    restore(stored, "back", "locks2", backupRef={"name": "once"})
    stored.apply(stored.cluster("locks2", witness=QUICK))
    status = wait(stored, "lockrestore", "back", "the restore", lambda s: s.get("phase") in ("Done", "Refused"))
    assert status["phase"] == "Done", status
    assert status["archive"] == by_hand[0]["lastArchive"]
    after = stored.status("locks2")
    assert after["clusterId"] == status["clusterId"] != stored.status("locks")["clusterId"]
    assert roles(after) == SHAPE
    saw = told_by(stored, "read-restored", "locks2", READ, "first")
    assert saw.revision > later.revision
    assert saw.token > later.token
    assert told_by(stored, "read-old", "locks", READ, "second").revision > later.revision


def test_82_a_restore_into_a_cluster_that_stands_is_refused_and_changes_nothing(
    stored: Product, by_hand: tuple[Json, Saw]
) -> None:
    before = stored.status("locks")["clusterId"], {n: p["metadata"]["uid"] for n, p in stored.pods().items()}
    restore(stored, "over", "locks", backupRef={"name": "once"})
    status = wait(stored, "lockrestore", "over", "the refusal", lambda s: s.get("phase") == "Refused")
    assert reason(status, "Ready") == "AlreadyFounded"
    assert "name a LockCluster that does not exist yet" in message(status, "Ready")
    assert condition(status, "Stalled") == "True"
    after = stored.status("locks")["clusterId"], {n: p["metadata"]["uid"] for n, p in stored.pods().items()}
    assert after == before


DAMAGE = """
[one] = where.glob("once-*.lma")
content = bytearray(one.read_bytes())
content[len(content) // 2] ^= 1
where.joinpath("damaged.lma").write_bytes(content)
"""


def test_82_a_damaged_archive_is_refused_and_the_cluster_waits_until_the_restore_is_deleted(
    stored: Product, by_hand: tuple[Json, Saw]
) -> None:
    assert "damaged.lma" in in_the_claim(stored, "damage", DAMAGE)
    restore(stored, "bad", "locks3", store={"pvc": {"claimName": CLAIM}}, archive="damaged.lma")
    stored.apply(stored.cluster("locks3", witness=QUICK))
    status = wait(stored, "lockrestore", "bad", "the refusal", lambda s: s.get("phase") == "Refused")
    assert reason(status, "Ready") == "RestoreFailed"
    assert "damaged.lma" in message(status, "Ready")
    assert not [name for name in stored.pods() if name.startswith("locks3")]
    assert reason(stored.status("locks3"), "Ready") == "WaitingForRestore"
    stored.kubectl("delete", "lockrestore", "bad")
    stored.wait("locks3", "Ready", is_ready)
    stored.kubectl("delete", "lockcluster", "locks3")


def test_80_by_a_schedule_archives_are_made_and_the_oldest_go(stored: Product, by_hand: tuple[Json, Saw]) -> None:
    """Every minute, two kept: the third goes by the Job that has verified the newest; others' archives stay."""
    backup(stored, "minutely", schedule="* * * * *", retention={"count": 2})
    seen: set[str] = set()

    def three(status: Json) -> bool:
        seen.update(one["name"] for one in status.get("archives", ()) if one["phase"] == "Verified")
        return len(seen) > 2

    def wait_for_three() -> None:
        host.wait_until(
            "three archives", 270, lambda: three(stored.get("lockbackup", "minutely").get("status", {})), every=2
        )

    wait_for_three()
    stored.kubectl("patch", "lockbackup", "minutely", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    status = wait(stored, "lockbackup", "minutely", "rest", lambda s: condition(s, "Progressing") == "False")
    kept = sorted(one["name"] for one in status["archives"])
    assert len(kept) == 2
    assert kept == sorted(seen)[-2:]
    left = in_the_claim(stored, "list-minutely")
    assert [name for name in left if name.startswith("minutely-")] == kept
    assert [name for name in left if name.startswith("once-")] == [by_hand[0]["lastArchive"]]


def test_80_a_backup_without_its_claim_says_so_and_nothing_else_stops(stored: Product) -> None:
    lost = {"store": {"pvc": {"claimName": "nowhere"}}, "deadline": "20s"}
    made(stored, "LockBackup", "lost", clusterRef={"name": "locks"}, **lost)
    failed = wait(stored, "lockbackup", "lost", "failure", lambda s: reason(s, "Ready") == "BackupFailed")
    assert "there is no good one" in message(failed, "Ready")
    assert is_ready(stored.status("locks"))


def recovery(product: Product, name: str, ordinal: int, member: int, words: str = "") -> None:
    said = words or f"recover locks from member {member}"
    survivor = {"ordinal": ordinal, "memberId": member}
    made(product, "QuorumRecovery", name, clusterRef={"name": "locks"}, survivor=survivor, confirmation=said)


def test_38_a_lost_majority_is_recovered_by_a_persons_word_and_by_nothing_else(product: Product) -> None:
    """The leader and the witness lose pods and volumes at once; the other full member has all that was written."""
    before = product.ready(witness=QUICK)
    saw = told_by(product, "write", "locks", WRITE, "only")
    rows = before["members"]
    leads = next(row["ordinal"] for row in rows if row["leader"])
    ordinal = 1 - leads
    member = member_at(before, ordinal)
    with pytest.raises(host.Failed, match="confirmation must be the words"):
        recovery(product, "unsaid", ordinal, member, f"recover locks from member {member + 1}")
    recovery(product, "early", ordinal, member)
    early = wait(product, "quorumrecovery", "early", "the refusal", lambda s: s.get("phase") == "Refused")
    assert reason(early, "Ready") == "MajorityAlive"
    assert is_ready(product.status("locks"))
    gone = [f"locks-{leads}", "locks-2"]
    product.kubectl("delete", "pvc", *(f"data-{name}" for name in gone), "--wait=false")
    product.kubectl("delete", "pod", *gone, "--grace-period=0", "--force")
    product.wait("locks", "no quorum", lambda s: condition(s, "QuorumAvailable") == "False", 60)
    product.wait("locks", "QuorumLost", lambda s: reason(s, "QuorumAvailable") == "QuorumLost", 60)
    assert member_at(product.status("locks"), ordinal) == member
    recovery(product, "by-the-witness", 2, member_at(before, 2))
    no = wait(product, "quorumrecovery", "by-the-witness", "the refusal", lambda s: s.get("phase") == "Refused")
    assert reason(no, "Ready") == "WitnessHasNoState"
    recovery(product, "again", ordinal, member)
    told = wait(
        product,
        "quorumrecovery",
        "again",
        "its beginning",
        lambda s: s.get("phase") not in (None, "Pending", "Checking"),
    )
    assert told["oldClusterId"] == before["clusterId"]
    assert all(f"member {row['memberId']} at ordinal {row['ordinal']}" in told["evidence"] for row in rows)
    done = wait(product, "quorumrecovery", "again", "its end", lambda s: s.get("phase") == "Done")
    events = product.get("events", "--field-selector", "involvedObject.name=again")["items"]
    (begun,) = [one for one in events if one["reason"] == "QuorumRecoveryBegun"]
    assert begun["type"] == "Warning"
    assert "What others acknowledged without it is lost, every session ends" in begun["message"]
    after = product.ready(witness=QUICK)
    assert after["clusterId"] == done["newClusterId"] != before["clusterId"]
    assert roles(after) == SHAPE
    again = told_by(product, "read", "locks", READ, "only")
    assert again.revision > saw.revision
    assert again.token > saw.token
