"""`--consistency`: what each text names, and what is said of one that names nothing."""

from __future__ import annotations

import click
import pytest
from lockmaster.cli.consistency import consistency_of
from lockmaster.client.consistency import Bounded, Consistency, Eventual, LeaderLease, Linearizable


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("linearizable", Linearizable()),
        ("leader-lease", LeaderLease()),
        ("eventual", Eventual()),
        ("eventual:1048577", Eventual(1_048_577)),
        ("bounded:0.25", Bounded(0.25)),
        ("bounded:86400", Bounded(86_400.0)),
    ],
)
def test_each_text_names_a_consistency(text: str, named: Consistency) -> None:
    assert consistency_of(text) == named


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("strong", "is none of linearizable, leader-lease, bounded:SECONDS, eventual"),
        ("bounded", "is none of"),
        ("linearizable:1", "is none of"),
        ("bounded:0", "age_max must be 0.001 to 86,400 seconds"),
        ("bounded:nan", "age_max must be 0.001 to 86,400 seconds"),
        ("bounded:soon", "could not convert string to float"),
        ("eventual:-1", "revision_min must be 0 to 2"),
        ("eventual:", "invalid literal for int"),
    ],
)
def test_any_other_text_is_refused_with_what_it_may_be(text: str, said: str) -> None:
    with pytest.raises(click.BadParameter, match=said) as caught:
        consistency_of(text)
    assert repr(text) in str(caught.value)
