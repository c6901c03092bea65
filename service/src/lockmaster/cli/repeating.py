"""--idempotency-key, which every command that changes the cluster has."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable
from typing import Any

import click

from lockmaster.cli.exit_codes import USAGE
from lockmaster.cli.refusals import Refused

KEY_BYTES_MAX = 128


def idempotency_key_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the option; the command gets `idempotency_key`, drawn if none is given."""

    @click.option(
        "--idempotency-key",
        default="",
        metavar="TEXT",
        help=f"1 to {KEY_BYTES_MAX} bytes: who made this change answers it again as it did. Default: drawn.",
    )
    @functools.wraps(command)
    def with_key(idempotency_key: str, **others: Any) -> Any:
        size = len(idempotency_key.encode(errors="surrogateescape"))
        if not idempotency_key.isprintable():
            raise Refused("--idempotency-key: holds what can't be printed, or is no UTF-8", USAGE)
        if size > KEY_BYTES_MAX:
            raise Refused(f"--idempotency-key: {size} bytes, at most {KEY_BYTES_MAX}", USAGE)
        return command(idempotency_key=idempotency_key or secrets.token_hex(16), **others)

    return with_key
