"""Admission: every field of every request has a rule, and each rule stands at its limit."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from lockmaster.api import admin_pb2, config_pb2, lock_pb2, session_pb2
from lockmaster.errors import InvalidRequest
from lockmaster.server import admission
from lockmaster.server.admission import RULES, admit, admit_name, admit_ttl
from lockmaster_raft.membership import LEVEL_MAX

GOOD: dict[type[Message], dict[str, Any]] = {
    session_pb2.OpenSessionRequest: {"nonce": bytes(16)},
    session_pb2.KeepAliveRequest: {"session_ids": [1]},
    session_pb2.CloseSessionRequest: {"session_id": 1},
    session_pb2.ListSessionsRequest: {},
    session_pb2.DirectRequest: {},
    session_pb2.AttachRequest: {},
    lock_pb2.AcquireRequest: {"name": "a"},
    lock_pb2.ReleaseRequest: {"name": "a", "token": 1},
    lock_pb2.CancelAcquireRequest: {"name": "a", "acquire_seq": 1},
    lock_pb2.InspectLockRequest: {"name": "a"},
    lock_pb2.ListLocksRequest: {},
    lock_pb2.ForceReleaseRequest: {"name": "a", "reason": "r"},
    config_pb2.PutRequest: {"namespace": "n", "key": "k"},
    config_pb2.DeleteRequest: {"namespace": "n", "key": "k"},
    config_pb2.GetRequest: {"namespace": "n", "key": "k"},
    config_pb2.RangeRequest: {"namespace": "n"},
    config_pb2.HistoryRequest: {"namespace": "n"},
    config_pb2.WatchRequest: {"namespace": "n", "key": "k"},
    config_pb2.CancelWatchRequest: {},
    admin_pb2.StatusRequest: {},
    admin_pb2.ListMembersRequest: {},
    admin_pb2.BootstrapRequest: {"full_min": 2},
    admin_pb2.AddMemberRequest: {
        "name": "m",
        "peer_address": "h:1",
        "client_address": "h:2",
        "incarnation": bytes(16),
    },
    admin_pb2.RemoveMemberRequest: {"member_id": 1},
    admin_pb2.ReplaceMemberRequest: {"old_id": 1, "new_id": 2},
    admin_pb2.PromoteMemberRequest: {"member_id": 1},
    admin_pb2.DemoteMemberRequest: {"member_id": 1},
    admin_pb2.AbortRoleChangeRequest: {"member_id": 1},
    admin_pb2.SetReducedCommitRequest: {"enabled": True},
    admin_pb2.TransferLeadershipRequest: {},
    admin_pb2.ChangeGateRequest: {"operation": 1, "level": 2},
    admin_pb2.EndSessionRequest: {"session_id": 1, "reason": "r"},
    admin_pb2.MakeSnapshotRequest: {},
    admin_pb2.ListSnapshotsRequest: {},
    admin_pb2.VerifySnapshotRequest: {},
    admin_pb2.BackupRequest: {},
}
CHANGES = (
    admin_pb2.AddMemberRequest,
    admin_pb2.RemoveMemberRequest,
    admin_pb2.ReplaceMemberRequest,
    admin_pb2.PromoteMemberRequest,
    admin_pb2.DemoteMemberRequest,
    admin_pb2.AbortRoleChangeRequest,
    admin_pb2.SetReducedCommitRequest,
    admin_pb2.ChangeGateRequest,
    admin_pb2.TransferLeadershipRequest,
    admin_pb2.MakeSnapshotRequest,
    admin_pb2.EndSessionRequest,
)
U64_MAX = (1 << 64) - 1
NUMBER_MAX = (1 << 63) - 1
CONTROLS = ("\0", "a\x1fb", "a\x7f", "\x85")


def test_every_field_of_every_request_has_a_rule() -> None:
    requests = {
        descriptor.name: descriptor
        for file in (session_pb2, lock_pb2, config_pb2, admin_pb2)
        for descriptor in file.DESCRIPTOR.message_types_by_name.values()
        if descriptor.name.endswith("Request")
    }
    ruled = {message.DESCRIPTOR.name: {field for field, _ in rules.fields} for message, rules in RULES.items()}
    assert requests.pop("Request", None) is not None  # the envelope on the stream: its oneof is dispatched
    assert {name: {field.name for field in descriptor.fields} for name, descriptor in requests.items()} == ruled


@pytest.mark.parametrize("message", GOOD, ids=lambda message: message.DESCRIPTOR.name)
def test_the_plain_request_is_admitted(message: type[Message]) -> None:
    admit(message(**GOOD[message]))


def test_every_request_has_a_plain_form_here() -> None:
    assert set(GOOD) == set(RULES)


def text_cases() -> list[tuple[type[Message], str, int, int]]:
    lock = admission.LOCK_NAME_BYTES_MAX
    return [
        (session_pb2.OpenSessionRequest, "label", 0, 256),
        (lock_pb2.AcquireRequest, "name", 1, lock),
        (lock_pb2.ReleaseRequest, "name", 1, lock),
        (lock_pb2.CancelAcquireRequest, "name", 1, lock),
        (lock_pb2.InspectLockRequest, "name", 1, lock),
        (lock_pb2.ForceReleaseRequest, "name", 1, lock),
        (lock_pb2.ForceReleaseRequest, "reason", 1, 1024),
        (admin_pb2.EndSessionRequest, "pod_uid", 0, 64),
        (admin_pb2.EndSessionRequest, "reason", 1, 1024),
        (lock_pb2.ListLocksRequest, "prefix", 0, lock),
        (lock_pb2.ListLocksRequest, "after", 0, lock),
        (config_pb2.PutRequest, "namespace", 1, 253),
        (config_pb2.PutRequest, "key", 1, 1024),
        (config_pb2.PutRequest, "author", 0, 256),
        (config_pb2.PutRequest, "comment", 0, 1024),
        (config_pb2.DeleteRequest, "namespace", 1, 253),
        (config_pb2.DeleteRequest, "key", 1, 1024),
        (config_pb2.DeleteRequest, "author", 0, 256),
        (config_pb2.DeleteRequest, "comment", 0, 1024),
        (config_pb2.GetRequest, "namespace", 1, 253),
        (config_pb2.GetRequest, "key", 1, 1024),
        (config_pb2.RangeRequest, "namespace", 1, 253),
        (config_pb2.RangeRequest, "prefix", 0, 1024),
        (config_pb2.RangeRequest, "after", 0, 1024),
        (config_pb2.HistoryRequest, "namespace", 1, 253),
        (config_pb2.HistoryRequest, "key", 0, 1024),
        (config_pb2.WatchRequest, "namespace", 1, 253),
        (config_pb2.WatchRequest, "key", 1, 1024),
        (admin_pb2.AddMemberRequest, "name", 1, 253),
        *((change, "idempotency_key", 0, 128) for change in CHANGES),
    ]


@pytest.mark.parametrize(("message", "field", "low", "high"), text_cases())
def test_text_at_its_limits(message: type[Message], field: str, low: int, high: int) -> None:
    def request(value: str) -> Message:
        return message(**{**GOOD[message], field: value})

    admit(request("x" * high))
    admit(request("é" * (high // 2)))
    refused = ["x" * (high + 1), "é" * (high // 2 + 1), *CONTROLS]
    if low:
        refused.append("")
    else:
        admit(request(""))
    for value in refused:
        with pytest.raises(InvalidRequest) as caught:
            admit(request(value))
        assert caught.value.field == field


def number_cases() -> list[tuple[type[Message], str, list[int], list[int]]]:
    position = ([0, 1, NUMBER_MAX], [NUMBER_MAX + 1, U64_MAX])
    identifier = ([1, NUMBER_MAX], [0, NUMBER_MAX + 1, U64_MAX])
    limit = ([0, 1, 1000], [1001, (1 << 32) - 1])
    return [
        (session_pb2.OpenSessionRequest, "ttl_ms", [0, 1, 86_400_000], [86_400_001, (1 << 32) - 1]),
        (session_pb2.OpenSessionRequest, "lock_delay_ms", [0, 60_000], [60_001, (1 << 32) - 1]),
        (session_pb2.CloseSessionRequest, "session_id", *identifier),
        (session_pb2.ListSessionsRequest, "after", *position),
        (session_pb2.ListSessionsRequest, "limit", *limit),
        (lock_pb2.AcquireRequest, "timeout_ms", [0, 86_400_000], [86_400_001, (1 << 32) - 1]),
        (lock_pb2.ReleaseRequest, "token", *identifier),
        (lock_pb2.CancelAcquireRequest, "acquire_seq", *identifier),
        (lock_pb2.ListLocksRequest, "limit", *limit),
        (lock_pb2.ForceReleaseRequest, "token_max", *position),
        (config_pb2.PutRequest, "if_revision", *position),
        (config_pb2.DeleteRequest, "if_revision", *position),
        (config_pb2.GetRequest, "at_revision", *position),
        (config_pb2.RangeRequest, "limit", *limit),
        (config_pb2.RangeRequest, "at_revision", *position),
        (config_pb2.HistoryRequest, "before", *position),
        (config_pb2.HistoryRequest, "limit", *limit),
        (config_pb2.WatchRequest, "from_revision", *position),
        (config_pb2.WatchRequest, "watch_id", *position),
        (config_pb2.CancelWatchRequest, "watch_id", *position),
        (admin_pb2.BootstrapRequest, "full_min", [1, 9], [0, 10]),
        (admin_pb2.BootstrapRequest, "level", [0, 1, LEVEL_MAX], [LEVEL_MAX + 1, 65_536]),
        (admin_pb2.MakeSnapshotRequest, "index_min", *position),
        (admin_pb2.VerifySnapshotRequest, "index", *position),
        (admin_pb2.AddMemberRequest, "expected_epoch", *position),
        (admin_pb2.RemoveMemberRequest, "member_id", *identifier),
        (admin_pb2.RemoveMemberRequest, "expected_epoch", *position),
        (admin_pb2.ReplaceMemberRequest, "old_id", *identifier),
        (admin_pb2.ReplaceMemberRequest, "new_id", *identifier),
        (admin_pb2.ReplaceMemberRequest, "expected_epoch", *position),
        (admin_pb2.PromoteMemberRequest, "member_id", *identifier),
        (admin_pb2.PromoteMemberRequest, "expected_epoch", *position),
        (admin_pb2.DemoteMemberRequest, "member_id", *identifier),
        (admin_pb2.DemoteMemberRequest, "expected_epoch", *position),
        (admin_pb2.AbortRoleChangeRequest, "member_id", *identifier),
        (admin_pb2.AbortRoleChangeRequest, "expected_epoch", *position),
        (admin_pb2.SetReducedCommitRequest, "expected_epoch", *position),
        (admin_pb2.AddMemberRequest, "member_role", [0, 2], [3]),
        (admin_pb2.TransferLeadershipRequest, "target", *position),
        (admin_pb2.TransferLeadershipRequest, "expected_term", *position),
        (admin_pb2.AddMemberRequest, "level_min", [0, 65_535], [65_536]),
        (admin_pb2.AddMemberRequest, "level_max", [0, 65_535], [65_536]),
        (admin_pb2.ChangeGateRequest, "operation", [1, 4], [0, 5]),
        (admin_pb2.ChangeGateRequest, "level", [2, 65_535], [0, 1, 65_536]),
        (admin_pb2.ChangeGateRequest, "expected_epoch", *position),
        (admin_pb2.EndSessionRequest, "session_id", *identifier),
    ]


@pytest.mark.parametrize(("message", "field", "good", "bad"), number_cases())
def test_number_at_its_limits(message: type[Message], field: str, good: list[int], bad: list[int]) -> None:
    for value in good:
        admit(message(**{**GOOD[message], field: value}))
    for value in bad:
        with pytest.raises(InvalidRequest) as caught:
            admit(message(**{**GOOD[message], field: value}))
        assert caught.value.field == field


def test_every_number_and_text_field_is_in_a_table_of_this_file() -> None:
    covered = {(message, field) for message, field, *_ in (*text_cases(), *number_cases())}
    kinds = {FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_STRING}
    missing = {
        (message, field.name)
        for message in RULES
        for field in message.DESCRIPTOR.fields
        if field.type in kinds and (message, field.name) not in covered
    }
    assert missing == {
        (session_pb2.KeepAliveRequest, "session_ids"),
        (admin_pb2.AddMemberRequest, "peer_address"),
        (admin_pb2.AddMemberRequest, "client_address"),
    }


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (session_pb2.OpenSessionRequest(nonce=bytes(15)), "nonce"),
        (session_pb2.OpenSessionRequest(nonce=bytes(17)), "nonce"),
        (session_pb2.KeepAliveRequest(), "session_ids"),
        (session_pb2.KeepAliveRequest(session_ids=[0]), "session_ids"),
        (session_pb2.KeepAliveRequest(session_ids=[1] * 1001), "session_ids"),
        (config_pb2.PutRequest(namespace="n", key="k", value=bytes((1 << 20) + 1)), "value"),
        (config_pb2.PutRequest(namespace="n", key="k", guard={"lock": "", "token": 5}), "guard"),
        (config_pb2.PutRequest(namespace="n", key="k", guard={"lock": "l", "token": 0}), "guard"),
        (config_pb2.PutRequest(namespace="n", key="k", guard={}), "guard.lock"),
        (config_pb2.DeleteRequest(namespace="n", key="k", guard={}), "guard.lock"),
        (config_pb2.PutRequest(namespace="n", key="k", header={"seq": 1}), "header"),
        (config_pb2.PutRequest(namespace="n", key="k", header={"session_id": 1, "seq": U64_MAX}), "header"),
        (
            config_pb2.PutRequest(namespace="n", key="k", header={"session_id": 1, "seq": 1, "first_incomplete": 2}),
            "header",
        ),
        (config_pb2.GetRequest(namespace="n", key="k", read={"consistency": 7}), "read"),
        (config_pb2.GetRequest(namespace="n", key="k", read={"revision_min": 7}), "read"),
        (config_pb2.GetRequest(namespace="n", key="k", read={"age_ms_max": 7}), "read"),
        (config_pb2.GetRequest(namespace="n", key="k", read={"wait_ms_max": 7}), "read"),
        (config_pb2.GetRequest(namespace="n", key="k", read={"consistency": 2, "revision_min": 7}), "read"),
        (config_pb2.GetRequest(namespace="n", key="k", read={"consistency": 1, "wait_ms_max": 10_001}), "read"),
        (config_pb2.GetRequest(namespace="n", key="k", read={"consistency": 1, "age_ms_max": 7}), "read"),
        (config_pb2.GetRequest(namespace="n", key="k", read={"consistency": 3}), "read"),
        (config_pb2.GetRequest(namespace="n", key="k", read={"consistency": 3, "age_ms_max": 86_400_001}), "read"),
        (config_pb2.WatchRequest(namespace="n"), "key"),
        (admin_pb2.AddMemberRequest(name="m", peer_address="h", client_address="h:1"), "peer_address"),
        (admin_pb2.AddMemberRequest(name="m", peer_address="h:0", client_address="h:1"), "peer_address"),
        (admin_pb2.AddMemberRequest(name="m", peer_address="h:1", client_address="::1:1"), "client_address"),
        (admin_pb2.AddMemberRequest(name="m", peer_address="h:1", client_address="h:1"), "incarnation"),
    ],
)
def test_refused_with_the_field_at_fault(request_: Message, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        admit(request_)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "read",
    [
        {"consistency": 1, "revision_min": NUMBER_MAX, "wait_ms_max": 10_000},
        {"consistency": 2},
        {"consistency": 3, "age_ms_max": 1},
        {"consistency": 3, "age_ms_max": 86_400_000},
    ],
)
def test_every_consistency_is_admitted_at_its_limits(read: dict[str, int]) -> None:
    admit(config_pb2.GetRequest(namespace="n", key="k", read=read))


def test_a_value_of_the_largest_size_is_admitted() -> None:
    admit(config_pb2.PutRequest(namespace="n", key="k", value=bytes(1 << 20)))


def test_a_character_is_counted_from_one() -> None:
    assert admission.LOCK_NAME("a\x01b") == "has a control character (U+0001) at character 2"


@given(st.text(max_size=600))
def test_the_fast_check_of_names_gives_the_table_s_verdict(name: str) -> None:
    why = admission.LOCK_NAME(name)
    if why is None:
        admit_name(name)
    else:
        with pytest.raises(InvalidRequest) as caught:
            admit_name(name)
        assert caught.value.why == why


def test_a_ttl_is_at_least_five_election_timeouts() -> None:
    admit_ttl(0, 1_000_000_000)
    admit_ttl(5_000, 1_000_000_000)
    with pytest.raises(InvalidRequest):
        admit_ttl(4_999, 1_000_000_000)
