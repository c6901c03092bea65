"""Transcripts: text scripts run against a cluster in virtual time, their whole log kept beside them and compared.

A line that starts with `> ` is a command, what follows is what it must print. `LOCKMASTER_REWRITE=1 pytest tests/raft`
writes the logs anew: read the diff. Each bug found leaves a transcript behind.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from lockmaster_raft.config import MILLISECOND
from lockmaster_raft.events import AddMember, Propose, RemoveMember, RequestRead, TransferLeadership
from lockmaster_raft.ids import NodeId
from lockmaster_raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshot,
    Message,
    PreVote,
    PreVoteReply,
    RequestVote,
    RequestVoteReply,
)

from .rig import BLANK, Cluster, base, configuration

HERE = Path(__file__).parent / "transcripts"
SCRIPTS = sorted(HERE.glob("*.txt"))


def told(message: Message) -> str:
    """One line for a message worth reading; heartbeats are left out."""
    head = f"{message.header.sender}->{message.header.receiver} term {message.header.term} "
    match message:
        case AppendEntries():
            last = message.prev_index + len(message.entries)
            return head + f"append after {message.prev_index}@{message.prev_term} up to {last} commit {message.commit}"
        case AppendEntriesReply():
            what = f"matches {message.match_index}" if message.success else f"no: last {message.last_index}"
            return head + f"append reply {what} {message.reason}".rstrip()
        case PreVote() | RequestVote():
            return head + f"{type(message).__name__} log {message.last_index}@{message.last_term}"
        case PreVoteReply() | RequestVoteReply():
            return head + f"{type(message).__name__} {'yes' if message.granted else 'no: ' + message.reason}"
        case InstallSnapshot():
            return head + f"snapshot at {message.last_index}@{message.last_term}"
        case _:
            return ""


class Stage:
    """Runs one script's commands."""

    def __init__(self) -> None:
        self.cluster = Cluster(blank=True)
        self.loud = False
        self.seen = 0

    def run(self, line: str) -> list[str]:
        name, *words = line.split()
        return list(getattr(self, f"do_{name}")(*words))

    def _since(self) -> list[str]:
        cluster = self.cluster
        sends, self.seen = cluster.sends[self.seen :], len(cluster.sends)
        lines = [told(s.message) for s in sends] if self.loud else []
        lines += [f"proposal {p.proposal_id}: {type(p).__name__}" + _why(p) for p in cluster.proposals]
        lines += [f"{n}: read {r.request_id} at {r.index}" for n, r in cluster.reads]
        lines += [f"{n}: alarm {a.code}" for n, a in cluster.alarms]
        cluster.proposals.clear()
        cluster.reads.clear()
        cluster.alarms.clear()
        return [line for line in lines if line]

    def do_genesis(self) -> list[str]:
        self.cluster.boot(1, base(configuration((1,))))
        return []

    def do_voters(self, *numbers: str) -> list[str]:
        for number in numbers:
            self.cluster.boot(int(number), base(configuration([int(n) for n in numbers])))
        return []

    def do_run(self, milliseconds: str) -> list[str]:
        self.cluster.run(int(milliseconds) * MILLISECOND)
        return self._since()

    def do_messages(self, switch: str) -> list[str]:
        self.loud = switch == "on"
        self.seen = len(self.cluster.sends)
        return []

    def do_propose(self, number: str, text: str) -> list[str]:
        self.cluster.step(int(number), Propose(1, text.encode()))
        return self._since()

    def do_read(self, number: str) -> list[str]:
        self.cluster.step(int(number), RequestRead(1))
        return self._since()

    def do_add(self, leader: str, number: str) -> list[str]:
        event = AddMember(2, f"m{number}", f"m{number}:1", f"m{number}:2", bytes([int(number)]) * 16)
        self.cluster.step(int(leader), event)
        return self._since()

    def do_join(self, number: str) -> list[str]:
        self.cluster.boot(int(number), BLANK)
        return []

    def do_remove(self, leader: str, number: str) -> list[str]:
        self.cluster.step(int(leader), RemoveMember(3, NodeId(int(number))))
        return self._since()

    def do_transfer(self, leader: str, target: str) -> list[str]:
        self.cluster.step(int(leader), TransferLeadership(4, NodeId(int(target))))
        return self._since()

    def do_stop(self, *numbers: str) -> list[str]:
        self.cluster.down |= {int(n) for n in numbers}
        return []

    def do_cut(self, *numbers: str) -> list[str]:
        """These members and the others hear nothing of each other."""
        apart = {int(n) for n in numbers}
        self.cluster.cut = lambda sender, receiver, message: (sender in apart) != (receiver in apart)
        return []

    def do_heal(self) -> list[str]:
        self.cluster.cut = lambda sender, receiver, message: False
        return []

    def do_status(self) -> list[str]:
        return [
            f"{n}: {node.role.value} term {node.term} leader {node.leader_id} log ({node.log_first - 1}, "
            f"{node.last_index}] commit {node.commit_index} voters {','.join(map(str, node.configuration.voter_ids))}"
            + (" down" if n in self.cluster.down else "")
            for n, node in self.cluster.nodes.items()
        ]


def _why(proposal: object) -> str:
    error = getattr(proposal, "error", None)
    index = getattr(proposal, "index", None)
    return f" {type(error).__name__}: {error}" if error else f" at {index}" if index else ""


@pytest.mark.parametrize("script", SCRIPTS, ids=[p.stem for p in SCRIPTS])
def test_transcript(script: Path) -> None:
    stage = Stage()
    lines: list[str] = []
    for line in script.read_text().splitlines():
        if line.startswith("#"):
            lines.append(line)
        elif line.startswith("> "):
            lines += [line, *stage.run(line[2:])]
    text = "\n".join(lines) + "\n"
    if os.environ.get("LOCKMASTER_REWRITE"):
        script.write_text(text)
    assert text == script.read_text()


def test_there_are_transcripts() -> None:
    assert SCRIPTS
