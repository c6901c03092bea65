"""The models that TLC checks: bounds, features, and for each known bug the invariant that must fail.

A model is data; run.py writes the configuration file that TLC reads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

RAFT_INVARIANTS = (
    "TypeOK",
    "I1_ElectionSafety",
    "I1_LogMatching",
    "I1_LeaderCompleteness",
    "I1_StateMachineSafety",
    "I3_StrictlyNewer",
    "I4_Caretaker",
    "I5_Copies",
    "I6_Coverage",
    "I8_TwoFull",
    "I8_FullIsReady",
    "FullMajority",
    "I10_OneChange",
    "I11_QuorumsMeet",
    "I12_NoReturn",
    "NothingLost",
    "NoStuckGroup",
)
GATE_INVARIANTS = ("ActiveIsKnown", "NoWayBack", "RollbackIsFree", "I10_OneChange")


@dataclass(frozen=True, slots=True)
class Model:
    """One TLC run. `fails` is the invariant that must be violated, "" if all must hold."""

    name: str
    shows: str
    """One line for the table: what is explored."""
    module: str
    constants: dict[str, str]
    invariants: tuple[str, ...]
    fails: str = ""
    seconds_max: int = 1800
    """A run that takes longer fails: it is too large for its target."""


RAFT_CONSTANTS = {
    "Fulls": "{a, b}",
    "Witnesses": "{w}",
    "Joiners": "{}",
    "Nobody": "nobody",
    "Genesis": "<- TwoPlusOne",
    "FirstTerm": "1",
    "JoinAs": '"learner"',
    "MaxTerm": "2",
    "MaxLog": "4",
    "MaxData": "1",
    "MaxConfig": "2",
    "MaxLost": "1",
    "FullMin": "2",
    "VotersMin": "3",
    "Gap": "0",
    "Fine": "FALSE",
    "InFlight": "FALSE",
    "Features": "{}",
    "Mutant": '""',
}
GATE_CONSTANTS = {
    "First": "{a, b}",
    "Joiners": "{j}",
    "MaxLog": "4",
    "MaxBoots": "2",
    "MaxLeaders": "2",
    "Mutant": '""',
}


def raft(name: str, shows: str, **constants: str) -> Model:
    """A model of Raft.tla; what is not given stays as in RAFT_CONSTANTS."""
    return Model(name, shows, "MC", {**RAFT_CONSTANTS, **constants}, RAFT_INVARIANTS)


def gates(name: str, shows: str, **constants: str) -> Model:
    """A model of Gates.tla."""
    return Model(name, shows, "Gates", {**GATE_CONSTANTS, **constants}, GATE_INVARIANTS)


def features(*names: str) -> str:
    """The TLA+ set of these strings."""
    return "{" + ", ".join(f'"{name}"' for name in names) + "}"


def bug(of: Model, name: str, shows: str, fails: str, **constants: str) -> Model:
    """That model with a known bug in it: TLC must show that the invariant `fails` is violated."""
    given = {**of.constants, "Mutant": f'"{name}"', **constants}
    return replace(of, name=name, shows=shows, constants=given, invariants=(fails,), fails=fails, seconds_max=600)


WITNESS = features("promote", "truncate")
SHAPE = features("demote", "truncate", "compact")
SWAP = features("join", "joint", "single", "truncate")
ALL = features("join", "joint", "single", "promote", "demote", "truncate", "compact")

QUICK = raft("quick", "2+1: promotion, truncation, a lost disk; 2 terms, 3 entries", Features=WITNESS, MaxLog="3")
SMOKE = raft("smoke", "2+1: promotion; 1 term, 3 entries", Features=WITNESS, MaxTerm="1", MaxLog="3")
PROMOTE = raft("promote", "2+1: promotion to its end and truncation; 2 terms, 4 entries", Features=WITNESS)
RESTORE = raft("restore", "3 full: demotion and compaction; 2 terms, 4 entries", Fulls="{a, b, c}", Witnesses="{}")
RESTORE = replace(RESTORE, constants={**RESTORE.constants, "Features": SHAPE, "MaxData": "0"})
JOIN = raft("join", "2+1 and a joiner: single and joint changes; 1 term, 4 entries", Joiners="{j}", MaxTerm="1")
JOIN = replace(JOIN, constants={**JOIN.constants, "Features": SWAP, "MaxConfig": "3", "Gap": "1"})
BASE = raft("base", "votes one by one, late messages, restarts; 3 terms, 3 entries", Fine="TRUE", InFlight="TRUE")
BASE = replace(BASE, constants={**BASE.constants, "MaxTerm": "3", "MaxLog": "3", "MaxLost": "0"})
WHOLE = raft("whole", "two full, a witness, a joiner, all features; 2 terms, 3 entries", Joiners="{j}", MaxLog="3")
WHOLE = replace(WHOLE, constants={**WHOLE.constants, "Features": ALL, "Gap": "1"})
GATES = gates("gates", "FENCE, CANCEL, ACTIVATE, joins, binaries back and forth; 4 entries")

SPEC = (SMOKE, GATES, QUICK, PROMOTE, RESTORE, JOIN, BASE, WHOLE)
"""`make spec`."""

DEEP_SECONDS = 24 * 3600
TERMS = {"MaxTerm": "3", "MaxLog": "5", "MaxData": "2"}
FOUR = raft("four", "three full and a witness: promotion, quorum shaping; 1 term, 4 entries", Fulls="{a, b, c}")
ROLES = features("promote", "shape", "single", "truncate", "compact")
FOUR = replace(FOUR, constants={**FOUR.constants, "Features": ROLES, "MaxTerm": "1"})


def deep(model: Model, **constants: str) -> Model:
    """The model of this name with "-deep" behind it, these bounds and a day's time."""
    given = {**model.constants, **constants}
    return replace(model, name=f"{model.name}-deep", constants=given, seconds_max=DEEP_SECONDS)


DEEP = (
    replace(FOUR, seconds_max=DEEP_SECONDS),
    deep(replace(FOUR, shows="the same; 3 terms, 5 entries, 2 values"), **TERMS),
    deep(replace(GATES, shows="as gates; 6 entries, 3 boots, 3 leaders"), MaxLog="6", MaxBoots="3", MaxLeaders="3"),
    *(deep(model, **TERMS) for model in (PROMOTE, RESTORE, JOIN, WHOLE)),
)
"""`make spec-deep`. reliability.md, layer 7, asks for four-deep: three voters with a witness, two configurations, three
terms, two values."""

EARLY = features("promote", "compact")
GROW = features("join", "single")
LEAVE = {"Features": features("single", "compact"), "MaxLog": "3", "MaxConfig": "1", "MaxLost": "0"}
ONE = {"MaxTerm": "1", "Features": WITNESS}
MUTANTS = (
    bug(QUICK, "metadata_witness", "a witness that stores no payload", "NothingLost", Features="{}"),
    bug(QUICK, "follower_report", "truncation by its own follower's report", "I6_Coverage", MaxLost="0", MaxLog="2"),
    bug(QUICK, "commit_truncate", "a witness truncates at the commit index", "I6_Coverage", **ONE),
    bug(QUICK, "learner_first", "the witness becomes a learner while it is promoted", "NoStuckGroup", **ONE),
    bug(JOIN, "add_then_remove", "a lost member is replaced by add, then remove", "NoStuckGroup", MaxLog="3"),
    bug(PROMOTE, "caretaker_commits", "a caretaker proposes and commits", "I4_Caretaker", MaxData="2", Features="{}"),
    bug(QUICK, "arbiter", "a witness votes without looking at logs", "I1_LeaderCompleteness", Features="{}"),
    bug(QUICK, "index_only", "a vote for a witness by index alone", "NoStuckGroup", Features="{}", MaxLost="0"),
    bug(QUICK, "full_at_p1", "P1 counts as full already", "I6_Coverage", MaxTerm="1", Features=EARLY),
    bug(QUICK, "p4_unready", "P4 without a ready state", "I8_FullIsReady", **ONE),
    bug(PROMOTE, "truncate_side", "truncation above the snapshot while promoting", "I8_FullIsReady", **ONE),
    bug(JOIN, "reported_first", "I6 by what the witness reported, not by what it was told", "I6_Coverage"),
    bug(FOUR, "anchor_latest", "an anchor past a full voter whose removal is not committed", "I6_Coverage", **LEAVE),
    bug(RESTORE, "d1_deletes", "the state is deleted at D1", "I8_FullIsReady", MaxTerm="1", MaxLost="0", MaxLog="3"),
    bug(JOIN, "two_changes", "a second change before the first is committed", "I10_OneChange", MaxLog="3"),
    bug(WHOLE, "eager_learners", "uncommitted entries for learners", "NoStuckGroup", Features=GROW),
    bug(QUICK, "old_term_commit", "an older term's entry is a commit point", "I1_LeaderCompleteness", MaxTerm="4"),
    bug(GATES, "report_of_any_fence", "ACTIVATE counts a report from before a CANCEL", "ActiveIsKnown"),
    bug(GATES, "activate_skips_down", "ACTIVATE doesn't wait for members that are down", "ActiveIsKnown"),
    bug(GATES, "join_below_fence", "a binary below the fence joins", "ActiveIsKnown"),
    bug(GATES, "starts_below_guard", "a binary below the guard file's level starts", "ActiveIsKnown"),
    bug(GATES, "two_gates", "a second GATE before the first is committed", "I10_OneChange"),
)
"""Known bugs, each with the invariant that it violates."""
