"""Strategies for absurd messages of every kind, made from the fields of the messages themselves: a new kind is in."""

from __future__ import annotations

import ast
import dataclasses
import functools
import sys
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

from hypothesis import strategies as st
from lockmaster_raft.entry import Entry, EntryKind, make_entry
from lockmaster_raft.gates import Gate, GateOperation, encode_gate
from lockmaster_raft.ids import INDEX_MAX, Index, Nanos, NodeId, Term
from lockmaster_raft.membership import (
    Configuration,
    Levels,
    MemberPhase,
    MemberRole,
    encode_configuration,
)
from lockmaster_raft.messages import Header, Message

from .rig import CLUSTER, configuration, member

EVERY_KIND: tuple[type[Any], ...] = get_args(Message)
FAR = (2**31, 2**33, 2**48 + 9, 2**61, INDEX_MAX - 1, INDEX_MAX)
"""In the range of the type, and from the far future."""
IMPOSSIBLE = (-1, INDEX_MAX + 1, 2**64, 2**70)

near = st.integers(0, 8)
number = st.one_of(near, near, near, st.sampled_from(FAR), st.sampled_from(IMPOSSIBLE))
in_range = st.one_of(near, near, near, st.sampled_from(FAR))
"""What the codec lets through."""

ODD_CONFIGURATIONS = (
    Configuration(2, (), NodeId(1)),
    Configuration(2, (member(1, voter=False), member(2, voter=False)), NodeId(3)),
    Configuration(2, (member(2), member(1), member(3)), NodeId(4)),
    Configuration(2, (member(1), member(1), member(3)), NodeId(4)),
    Configuration(2, (member(1), member(2), member(3)), NodeId(2)),
    Configuration(0, (member(1), member(2), member(3)), NodeId(4)),
    Configuration(INDEX_MAX, (member(1), member(2), member(3)), NodeId(INDEX_MAX)),
    Configuration(2, (member(1), member(2), member(3)), NodeId(4), outgoing=(NodeId(3), NodeId(2))),
    Configuration(2, (member(1), member(2), member(3)), NodeId(4), outgoing=(NodeId(9),)),
    Configuration(
        2,
        tuple(member(n, role=MemberRole.WITNESS, phase=MemberPhase.PROMOTING) for n in (1, 2, 3)),
        NodeId(4),
    ),
    configuration(full_min=0),
    configuration(full_min=32767),
    configuration().with_member(member(2, name="m1")),
    configuration().with_member(dataclasses.replace(member(2), incarnation=member(1).incarnation)),
    configuration().with_member(dataclasses.replace(member(2), name="")),
    configuration().with_member(dataclasses.replace(member(2), peer_address="")),
    configuration().with_member(member(2, phase=MemberPhase.PROMOTING)),
    configuration().with_member(member(2, role=MemberRole.WITNESS, phase=MemberPhase.DEMOTING)),
    configuration().with_member(member(2, voter=False, phase=MemberPhase.LEAVING)),
    dataclasses.replace(configuration().with_member(member(2, phase=MemberPhase.LEAVING)), outgoing=(NodeId(2),)),
    configuration(witnesses=(1, 2, 3)),
    configuration((2, 3), (1,), witnesses=(2, 3)),
    dataclasses.replace(configuration((1, 2, 3, 4), witnesses=(4,)), reduced_commit=True),
)
_SOUND_CONFIGURATIONS = (
    configuration(),
    configuration((1, 2, 3, 4), epoch=2),
    configuration((2, 3), (1,)),
    configuration((2, 3)),
    configuration((1,), full_min=1),
    configuration((1, 2, 3), witnesses=(1,), epoch=2),
)
_CONFIGURATIONS = (*_SOUND_CONFIGURATIONS, *ODD_CONFIGURATIONS)
configurations = st.integers(0, len(_CONFIGURATIONS) - 1).map(lambda at: _CONFIGURATIONS[at])
"""By their place: Hypothesis prints no long values then."""
levels = st.sampled_from(
    (Levels(), Levels(1, 2, Index(2)), Levels(2, 2), Levels(0, 0), Levels(2, 1), Levels(1, 1, Index(INDEX_MAX)))
)
_GATES = (
    Gate(GateOperation.FENCE, 2),
    Gate(GateOperation.CANCEL, 2, Index(2)),
    Gate(GateOperation.ACTIVATE, 2, Index(2)),
    Gate(GateOperation.ACTIVATE, 2, Index(7)),
    Gate(GateOperation.DEACTIVATE, 2),
    Gate(GateOperation.FENCE, 0),
)
_payloads = st.one_of(
    st.tuples(st.just(EntryKind.DATA), st.binary(max_size=4)),
    st.tuples(st.just(EntryKind.NOOP), st.just(b"")),
    st.tuples(st.just(EntryKind.CONFIG), st.one_of(configurations.map(encode_configuration), st.binary(max_size=40))),
    st.tuples(st.just(EntryKind.GATE), st.sampled_from(_GATES).map(encode_gate)),
)


@st.composite
def entry_lists(draw: st.DrawFn) -> tuple[Entry, ...]:
    """Up to three entries, mostly contiguous, of every kind."""
    index, term, made = draw(st.integers(1, 5)), draw(st.integers(1, 3)), []
    for kind, payload in draw(st.lists(_payloads, max_size=3)):
        stamp = draw(st.one_of(near, st.sampled_from(FAR)))
        made.append(make_entry(Index(index), Term(term), kind, Nanos(stamp), payload))
        index += draw(st.sampled_from((1, 1, 1, 1, 0, 2)))
        term = max(0, term + draw(st.sampled_from((0, 0, 1, -1))))
    return tuple(made)


def headers(numbers: st.SearchStrategy[int], receiver: int = 1) -> st.SearchStrategy[Header]:
    """Mostly from a member, in a term near ours, to us."""
    term = st.one_of(st.integers(1, 4), st.integers(1, 4), numbers)
    return st.builds(
        Header,
        st.sampled_from((CLUSTER,) * 9 + (b"another-cluster!",)),
        st.one_of(st.integers(2, 4), numbers).map(NodeId),
        st.sampled_from((receiver,) * 9 + (9,)).map(NodeId),
        term.map(Term),
        st.sampled_from((1, 1, 1, 1, 9)),
        st.sampled_from((2, 2, 2, 1, 0)),
    )


def _field(hint: Any, numbers: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    plain: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        str: st.sampled_from(("", "sticky", "term", "log", "x" * 40)),
        bytes: st.sampled_from((b"d" * 32, b"data", b"")),
        Header: headers(numbers),
        Configuration: configurations,
        Levels: levels,
        tuple[Entry, ...]: entry_lists(),
    }
    if hint in plain:
        return plain[hint]
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        if parts[-1] is Ellipsis:
            return st.lists(_field(parts[0], numbers), max_size=3).map(tuple)
        return st.tuples(*(_field(part, numbers) for part in parts))
    if dataclasses.is_dataclass(hint):
        return of_kind(hint, numbers)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    if hint is int or getattr(hint, "__supertype__", None) is int:
        return numbers
    raise TypeError(f"no strategy for a field of type {hint}")


def of_kind(kind: Any, numbers: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    """Messages of this kind, every number of them drawn from `numbers`."""
    return _of_kind(kind, numbers)


@functools.cache
def _of_kind(kind: Any, numbers: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    hints = _hints(kind)
    return st.builds(kind, **{f.name: _field(hints[f.name], numbers) for f in dataclasses.fields(kind)})


def _hints(kind: Any) -> dict[str, Any]:
    """The types of its fields, from its source: of `tuple[X, ...]` a compiled class keeps only `tuple`."""
    module = sys.modules[kind.__module__]
    assert module.__file__ is not None
    source = Path(module.__file__).with_name(f"{module.__name__.rpartition('.')[2]}.py")
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name == kind.__name__:
            fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
            return {ast.unparse(part.target): eval(ast.unparse(part.annotation), vars(module)) for part in fields}
    raise TypeError(f"{source} has no class {kind.__name__}")


@st.composite
def messages(draw: st.DrawFn, numbers: st.SearchStrategy[int]) -> Message:
    """Of any kind. (Composite: the printed form of a union of all of them would be pages.)"""
    made: Message = draw(of_kind(draw(st.sampled_from(EVERY_KIND)), numbers))
    return made
