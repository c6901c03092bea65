"""Mutants of the service's state machine, duties and client policy."""

from __future__ import annotations

from typing import Final

from lockmaster_raft.testing.mutants import MACHINE, Edit, Mutant

SERVICE_MUTANTS: Final = (
    Mutant(
        "grants_share_a_revision",
        "S6, service.md §1",
        (
            Edit(
                MACHINE + "locks.py",
                "        token = context.next_revision()\n",
                "        token = context.revision\n",
            ),
        ),
    ),
    Mutant(
        "expiry_grants_as_it_removes",
        "service.md §2",
        (
            Edit(
                MACHINE + "sessions.py",
                "            end_session(context, session_id, EndCause.EXPIRED, touched)\n            ended += 1\n",
                "            end_session(context, session_id, EndCause.EXPIRED, touched)\n            ended += 1\n"
                "            settle_all(context, touched)\n",
            ),
        ),
    ),
    Mutant(
        "expiry_trusts_the_proposer",
        "row 86",
        (
            Edit(
                MACHINE + "sessions.py",
                "        if renewal is not None and renewal.deadline(context.lift_stamp) <= now:\n",
                "        if renewal is not None:\n",
            ),
            Edit(
                MACHINE + "expiry.py",
                "            if deadline <= cluster_time:\n                due.append((deadline, session_id))\n",
                "            if deadline <= cluster_time + 1e9:\n                due.append((deadline, session_id))\n",
            ),
        ),
    ),
    Mutant(
        "dead_session_keeps_its_places",
        "row 84",
        (
            Edit(
                MACHINE + "sessions.py",
                "            if waiter is not None:\n"
                "                unlink(context, claim.name, lock, claim.ticket, waiter)\n",
                "            pass\n",
            ),
        ),
    ),
    Mutant(
        "last_in_first_out",
        "S8",
        (
            Edit(
                MACHINE + "locks.py",
                "        ticket = lock.head\n        waiter = view.get(WAITERS, (name, ticket))\n"
                "        if waiter is None:",
                "        ticket = lock.tail\n        waiter = view.get(WAITERS, (name, ticket))\n"
                "        if waiter is None:",
            ),
        ),
    ),
    Mutant(
        "release_by_any_token",
        "S6",
        (
            Edit(
                MACHINE + "locks.py",
                "    if lock is None or not lock.token or lock.token != operation.token "
                "or lock.session_id != session_id:\n",
                "    if lock is None or not lock.token:\n",
            ),
            Edit(
                MACHINE + "locks.py",
                "    drop_claim(context, session_id, lock.acquire_seq)\n",
                "    drop_claim(context, lock.session_id, lock.acquire_seq)\n",
            ),
        ),
    ),
    Mutant(
        "acquire_barges_past_the_queue",
        "S8",
        (
            Edit(
                MACHINE + "locks.py",
                "    elif not lock.token and context.cluster_time >= lock.delay_until and lock.waiting:\n",
                "    elif False:\n",
            ),
            Edit(
                MACHINE + "locks.py",
                "    free = not lock.token and not lock.waiting and",
                "    free = not lock.token and",
            ),
        ),
    ),
    Mutant(
        "keepalive_of_the_dead_is_answered_ok",
        "row 87",
        (
            Edit(
                MACHINE + "sessions.py",
                "        if renewal is None:\n            expired.append(session_id)\n        else:",
                "        if renewal is not None:",
            ),
        ),
    ),
    Mutant(
        "keepalives_do_not_renew",
        "S7",
        (Edit(MACHINE + "sessions.py", "            renewal.at = now\n", ""),),
    ),
    Mutant(
        "expiry_right_after_a_pause",
        "service.md §1",
        (
            Edit(
                MACHINE + "duties.py",
                "        if now - self._last_turn > self._gap_max and",
                "        if now - self._last_turn > NEVER and",
            ),
        ),
    ),
    Mutant(
        "expiry_is_never_retried",
        "row 90",
        (
            Edit(
                MACHINE + "expiry.py",
                "        for item in due:\n            heappush(heap, item)\n        return sorted(session_id",
                "        return sorted(session_id",
            ),
        ),
    ),
)
