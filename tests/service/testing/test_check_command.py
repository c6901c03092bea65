"""python -m lockmaster.testing check"""

from __future__ import annotations

from pathlib import Path

import pytest
from lockmaster.testing.__main__ import main
from lockmaster.testing.history import BadHistory, Operation, dump, load

GOOD = [
    Operation("a", "put", "k", 1, 4, value="v", revision=7),
    Operation("b", "get", "k", 2, 3, value=None),
    Operation("b", "acquire", "L", 5, 6, ok=False),
    Operation("a", "acquire", "L", 1, None),
]


def written(path: Path, operations: list[Operation]) -> str:
    path.write_text("\n".join(dump(operations)))
    return str(path)


def test_lines_give_back_the_operations() -> None:
    assert load(dump(GOOD)) == GOOD


@pytest.mark.parametrize("line", ["{", "[]", "1", '{"kind": "put"}', '{"kind": "put", "colour": 1}'])
def test_a_line_that_is_no_operation_is_named(line: str) -> None:
    with pytest.raises(BadHistory, match="line 2"):
        load(["", line])


def test_a_good_history_exits_with_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", written(tmp_path / "h.jsonl", GOOD)]) == 0
    assert "ok: 4 operations on 2 objects" in capsys.readouterr().out


def test_a_bad_history_exits_with_one_and_names_the_operation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [*GOOD, Operation("b", "get", "k", 9, 10, value=None)]
    assert main(["check", written(tmp_path / "h.jsonl", bad)]) == 1
    assert "call=9" in capsys.readouterr().out


def test_too_little_is_red(tmp_path: Path) -> None:
    assert main(["check", "--operations-min", "5", written(tmp_path / "h.jsonl", GOOD)]) == 1


def test_a_missing_file_is_red(tmp_path: Path) -> None:
    assert main(["check", str(tmp_path / "none")]) == 1
