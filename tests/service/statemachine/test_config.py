"""service.md §4: versioned configuration."""

from __future__ import annotations

import pytest
from lockmaster.errors import Compacted
from lockmaster.statemachine.commands import CloseSession, Compact, Delete, Put, Result, ResultStatus
from lockmaster.statemachine.limits import Limits
from lockmaster.testing.machine import TTL, Machine


def value(m: Machine, key: str, at: int = 0) -> bytes | None:
    item = m.state.get("ns", key, at)
    return item.value if item is not None else None


def test_a_put_takes_a_revision_and_counts_versions() -> None:
    m = Machine()
    assert m.put("k") == Result(ResultStatus.OK, 1_001, 1)
    assert m.put("k") == Result(ResultStatus.OK, 1_002, 2)
    item = m.state.get("ns", "k")
    assert item is not None
    assert (item.create_revision, item.mod_revision, item.version) == (1_001, 1_002, 2)


def test_compare_and_set_on_the_current_revision_writes() -> None:
    m = Machine()
    revision = m.put("k").revision
    assert m.put("k", b"2", if_revision=revision).status is ResultStatus.OK


def test_compare_and_set_on_another_revision_answers_the_current_one() -> None:
    m = Machine()
    revision = m.put("k").revision
    assert m.put("k", b"2", if_revision=revision - 1) == Result(ResultStatus.COMPARE_FAILED, revision)
    assert value(m, "k") == b"v"


def test_if_revision_zero_creates_only() -> None:
    m = Machine()
    assert m.put("k", if_revision=0).status is ResultStatus.OK
    assert m.put("k", if_revision=0).status is ResultStatus.COMPARE_FAILED


def test_a_guard_lets_the_holder_write() -> None:
    m = Machine()
    token = m.acquire(m.open()).revision
    assert m.put("k", guard=("L", token)).status is ResultStatus.OK


def test_a_guard_stops_who_held_it_before() -> None:
    m = Machine()
    a, b = m.open("a"), m.open("b")
    token = m.acquire(a).revision
    m.acquire(b)
    m.release(a, token)
    assert m.put("k", guard=("L", token)).status is ResultStatus.GUARD_FAILED
    assert value(m, "k") is None


def test_a_guard_with_token_zero_never_holds() -> None:
    assert Machine().put("k", guard=("L", 0)).status is ResultStatus.GUARD_FAILED


def test_a_delete_says_whether_there_was_something() -> None:
    m = Machine()
    m.put("k")
    assert [m.delete("k").extra, m.delete("k").extra] == [1, 0]
    assert value(m, "k") is None


def test_a_delete_of_nothing_writes_nothing() -> None:
    m = Machine()
    before = m.state.revision
    m.delete("k")
    assert m.state.revision == before


def test_a_key_created_again_starts_at_version_one() -> None:
    m = Machine()
    m.put("k")
    m.delete("k")
    assert m.put("k").extra == 1


def test_the_past_can_be_read() -> None:
    m = Machine()
    first = m.put("k", b"1").revision
    second = m.put("k", b"2").revision
    third = m.delete("k").revision
    assert [value(m, "k", at) for at in (first - 1, first, second, third)] == [None, b"1", b"2", None]


def test_history_is_newest_first_with_previous_values() -> None:
    m = Machine()
    m.put("k", b"1")
    m.put("k", b"2")
    m.delete("k")
    changes = m.state.history("ns", "k").changes
    assert [(c.item.value, c.item.deleted, c.previous and c.previous.value) for c in changes] == [
        (b"", True, b"2"),
        (b"2", False, b"1"),
        (b"1", False, None),
    ]


def test_history_of_a_key_does_not_show_its_neighbours() -> None:
    m = Machine()
    m.put("k")
    m.put("kk")
    assert [c.item.key for c in m.state.history("ns", "k").changes] == ["k"]


def test_history_pages_go_on_below_the_last_revision() -> None:
    m = Machine()
    for _ in range(3):
        m.put("k")
    page = m.state.history("ns", "", limit=2)
    rest = m.state.history("ns", "", before=page.changes[-1].item.mod_revision, limit=2)
    assert (page.more, [c.item.version for c in rest.changes], rest.more) == (True, [1], False)


def test_a_range_has_the_prefix_in_key_order() -> None:
    m = Machine()
    for key in ("b/2", "a", "b/1", "b", "c"):
        m.put(key)
    assert [item.key for item in m.state.range("ns", "b/").items] == ["b/1", "b/2"]


def test_range_pages_go_on_after_a_key() -> None:
    m = Machine()
    for key in "abcd":
        m.put(key)
    page = m.state.range("ns", limit=3)
    rest = m.state.range("ns", after=page.after, limit=3)
    assert ([i.key for i in page.items], page.more) == (["a", "b", "c"], True)
    assert ([i.key for i in rest.items], rest.more) == (["d"], False)


def test_pages_of_a_range_are_pinned_to_a_revision() -> None:
    m = Machine()
    for key in "abcd":
        m.put(key, b"old")
    pinned = m.state.revision
    m.delete("c")
    m.put("d", b"new")
    m.put("e")
    page = m.state.range("ns", limit=2, at_revision=pinned)
    rest = m.state.range("ns", after=page.after, at_revision=pinned)
    assert [(i.key, i.value) for i in page.items + rest.items] == [(k, b"old") for k in "abcd"]


def test_a_range_of_keys_only_has_no_values() -> None:
    m = Machine()
    m.put("a")
    assert m.state.range("ns", keys_only=True).items[0].value == b""
    assert value(m, "a") == b"v"


def test_changes_from_a_revision_are_in_order_without_gap() -> None:
    m = Machine()
    revisions = [m.put(key).revision for key in ("x/1", "y", "x/2", "x/1")]
    found = m.state.changes("ns", "x/", revisions[0] + 1, prefix=True)
    assert [(c.item.key, c.item.mod_revision) for c in found.changes] == [("x/2", revisions[2]), ("x/1", revisions[3])]
    assert (found.more, found.revision) == (False, m.state.revision)


def test_changes_of_one_key_leave_out_longer_keys() -> None:
    m = Machine()
    m.put("k")
    m.put("kk")
    assert [c.item.key for c in m.state.changes("ns", "k", 0).changes] == ["k"]


def test_changes_pages_say_up_to_where_they_are_complete() -> None:
    m = Machine()
    first = m.put("k").revision
    second = m.put("k").revision
    page = m.state.changes("ns", "k", 0, limit=1)
    rest = m.state.changes("ns", "k", page.revision + 1)
    assert (page.revision, page.more) == (first, True)
    assert [c.item.mod_revision for c in rest.changes] == [second]


def test_reads_below_a_compaction_name_the_first_revision_held() -> None:
    m = Machine()
    m.put("k", b"1")
    second = m.put("k", b"2").revision
    m.do(Compact("ns", second))
    with pytest.raises(Compacted) as caught:
        m.state.get("ns", "k", second - 1)
    assert caught.value.first == second
    with pytest.raises(Compacted):
        m.state.changes("ns", "k", second - 1)
    with pytest.raises(Compacted):
        m.state.range("ns", at_revision=second - 1)


def test_a_compaction_keeps_what_reads_at_it_need() -> None:
    m = Machine()
    m.put("old", b"1")
    m.put("k", b"1")
    m.put("k", b"2")
    m.put("gone")
    m.delete("gone")
    target = m.put("other").revision
    m.put("k", b"3")
    before = [(i.key, i.value) for i in m.state.range("ns", at_revision=target).items]
    m.do(Compact("ns", target))
    assert [(i.key, i.value) for i in m.state.range("ns", at_revision=target).items] == before
    assert [c.item.key for c in m.state.changes("ns", "", target, prefix=True).changes] == ["other", "k"]


def test_repeated_compactions_leave_one_version_per_live_key() -> None:
    m = Machine(Limits(compact_count_max=3))
    for round_ in range(5):
        for key in "abc":
            m.put(key, b"%d" % round_)
        m.do(Compact("ns", m.state.revision))
    m.delete("c")
    m.put("d")
    target = m.state.revision
    for _ in range(100):
        if not m.do(Compact("ns", target)).extra:
            break
    versions = [key for key, _ in m.view.dump() if key[:1] == b"\x21"]
    assert len(versions) == 3
    assert [value(m, key) for key in "abcd"] == [b"4", b"4", None, b"v"]


def test_a_compaction_of_all_namespaces_reaches_each() -> None:
    m = Machine()
    m.put("k")
    m.do(Put("other", "k", b"", None, "", 0, "", "", 0))
    m.do(Compact("", m.state.revision))
    assert m.state.compacted("ns") == m.state.compacted("other") > 0


def test_a_compaction_of_the_future_is_invalid() -> None:
    m = Machine()
    assert m.do(Compact("ns", m.state.revision + 1)).status is ResultStatus.INVALID


def test_ephemeral_keys_go_with_their_session() -> None:
    m = Machine()
    a = m.open()
    m.put("k", owner=a)
    m.now = TTL
    m.expire(a)
    assert value(m, "k") is None
    assert m.state.history("ns", "k").changes[0].item.deleted


def test_a_key_that_another_write_took_over_stays() -> None:
    m = Machine()
    a = m.open()
    m.put("k", owner=a)
    m.put("k", b"mine")
    m.do(CloseSession(a))
    assert value(m, "k") == b"mine"


def test_an_ephemeral_key_needs_a_live_session() -> None:
    assert Machine().put("k", owner=7).status is ResultStatus.SESSION_EXPIRED


def test_ephemeral_keys_above_the_quota_are_refused() -> None:
    m = Machine(Limits(session_ephemeral_count_max=1))
    a = m.open()
    m.put("k", owner=a)
    assert m.put("l", owner=a).status is ResultStatus.QUOTA_EXCEEDED
    m.delete("k")
    assert m.put("l", owner=a).status is ResultStatus.OK


def test_rewriting_an_ephemeral_key_at_the_quota_is_allowed() -> None:
    m = Machine(Limits(session_ephemeral_count_max=1))
    a = m.open()
    m.put("k", owner=a)
    assert m.put("k", b"2", owner=a).status is ResultStatus.OK


@pytest.mark.parametrize(
    "operation",
    [
        Put("", "k", b"", None, "", 0, "", "", 0),
        Put("ns", "", b"", None, "", 0, "", "", 0),
        Put("ns", "k\0", b"", None, "", 0, "", "", 0),
        Put("n" * 254, "k", b"", None, "", 0, "", "", 0),
        Put("ns", "k" * 1_025, b"", None, "", 0, "", "", 0),
        Put("ns", "k", bytes(1024 * 1024 + 1), None, "", 0, "", "", 0),
        Put("ns", "k", b"", None, "", 0, "a" * 257, "", 0),
        Delete("ns", "k", None, "", 0, "", "c" * 1_025),
        Compact("\n", 0),
    ],
    ids=lambda operation: type(operation).__name__,
)
def test_a_field_out_of_its_limit_is_invalid(operation: Put | Delete | Compact) -> None:
    m = Machine()
    before = m.state.revision
    assert m.do(operation).status is ResultStatus.INVALID
    assert m.state.revision == before


def test_a_copy_from_bytes_answers_the_same() -> None:
    m = Machine()
    m.put("k", b"1")
    m.put("k", b"2")
    other = m.copy()
    assert other.state.get("ns", "k") == m.state.get("ns", "k")
    assert other.view.hash == m.view.hash
