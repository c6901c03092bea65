"""What callers hand in, checked at once: what can't be encoded would fail only on its way, far from the mistake."""

from __future__ import annotations


def text(field: str, value: object) -> str:
    """`value`, if it is text that has a UTF-8 form. Raises TypeError or ValueError that name the field."""
    if not isinstance(value, str):
        raise TypeError(f"{field} must be a str, not {type(value).__name__}: {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{field} has no UTF-8 form: {error}") from None
    return value


def seconds(field: str, value: object, *, above: float | None = None, most: float | None = None) -> float:
    """`value`, if it is a number of seconds in these bounds. Raises TypeError or ValueError that name field and limit.

    `above`: it must be more than this; None: 0 or more. `most`: it may be that long; None: any length, math.inf too.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{field} must be a number of seconds, not {type(value).__name__}: {value!r}")
    if not (value >= 0 if above is None else value > above) or not (most is None or value <= most):
        least = "0 or more" if above is None else f"above {above:g}"
        raise ValueError(
            f"{field} must be {least}{'' if most is None else f' and at most {most:,g}'} seconds: {value!r}"
        )
    return value


def waiting(field: str, value: object) -> float | None:
    """`value`, if it is how long to wait: None for without end, 0 or less for not at all. Raises like `seconds`."""
    return None if value is None else seconds(field, value, above=float("-inf"))
