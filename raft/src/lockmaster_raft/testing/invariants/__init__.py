"""One file per invariant of raft.md I1–I14 and reliability.md S1–S12."""

from __future__ import annotations

from typing import Final

from lockmaster_raft.testing.invariants.base import Invariant
from lockmaster_raft.testing.invariants.check_quorum_first import CheckQuorumFirst
from lockmaster_raft.testing.invariants.i1_election_safety import ElectionSafety
from lockmaster_raft.testing.invariants.i1_leader_completeness import LeaderCompleteness
from lockmaster_raft.testing.invariants.i1_log_matching import LogMatching
from lockmaster_raft.testing.invariants.i1_state_machine_safety import StateMachineSafety
from lockmaster_raft.testing.invariants.i2_votes import Votes
from lockmaster_raft.testing.invariants.i3_witness_votes import WitnessVotes
from lockmaster_raft.testing.invariants.i4_caretaker import Caretaker
from lockmaster_raft.testing.invariants.i5_commit_quorum import CommitQuorum
from lockmaster_raft.testing.invariants.i6_base import BaseIsCommitted
from lockmaster_raft.testing.invariants.i6_coverage import WitnessCoverage
from lockmaster_raft.testing.invariants.i7_fresh_witness import FreshWitness
from lockmaster_raft.testing.invariants.i8_two_full import TwoFull
from lockmaster_raft.testing.invariants.i9_privileges import Privileges
from lockmaster_raft.testing.invariants.i10_one_change import OneChange
from lockmaster_raft.testing.invariants.i11_quorums import Quorums
from lockmaster_raft.testing.invariants.i12_incarnations import Incarnations
from lockmaster_raft.testing.invariants.i13_gates import Gates
from lockmaster_raft.testing.invariants.i13_level import WitnessLevel
from lockmaster_raft.testing.invariants.i14_state_hash import EqualStates
from lockmaster_raft.testing.invariants.newer_snapshot import NewerSnapshot
from lockmaster_raft.testing.invariants.range_sources import RangeSources
from lockmaster_raft.testing.invariants.rare_events import RareEvents
from lockmaster_raft.testing.invariants.s1_no_regress import NoRegress
from lockmaster_raft.testing.invariants.s2_effect_order import EffectOrder
from lockmaster_raft.testing.invariants.s3_acknowledged import AcknowledgedStays
from lockmaster_raft.testing.invariants.s4_ages import AgesAndLeases
from lockmaster_raft.testing.invariants.s4_reads import ReadsAreFresh
from lockmaster_raft.testing.invariants.s5_exactly_once import ExactlyOnce
from lockmaster_raft.testing.invariants.s6_tokens import Tokens
from lockmaster_raft.testing.invariants.s7_sessions import SessionLife
from lockmaster_raft.testing.invariants.s8_fifo import Fifo
from lockmaster_raft.testing.invariants.s9_watch import WatchOrder
from lockmaster_raft.testing.invariants.s10_state_hash import StateHash
from lockmaster_raft.testing.invariants.s11_bounds import Bounds
from lockmaster_raft.testing.invariants.s12_progress import Progress

ALL: Final[tuple[type[Invariant], ...]] = (
    ElectionSafety,
    LogMatching,
    LeaderCompleteness,
    StateMachineSafety,
    CommitQuorum,
    OneChange,
    BaseIsCommitted,
    Votes,
    WitnessVotes,
    Caretaker,
    WitnessCoverage,
    FreshWitness,
    TwoFull,
    Privileges,
    Quorums,
    Incarnations,
    Gates,
    WitnessLevel,
    EqualStates,
    CheckQuorumFirst,
    NewerSnapshot,
    RangeSources,
    RareEvents,
    NoRegress,
    EffectOrder,
    AcknowledgedStays,
    ReadsAreFresh,
    AgesAndLeases,
    ExactlyOnce,
    Tokens,
    SessionLife,
    Fifo,
    WatchOrder,
    StateHash,
    Bounds,
    Progress,
)
