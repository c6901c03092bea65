"""Settings: every mistake is one line that names the setting."""

from __future__ import annotations

from pathlib import Path

import pytest
from lockmaster.server.settings import Settings, SettingsError, load
from lockmaster_raft.config import SECOND
from lockmaster_raft.role_policy import LogPolicy, RoleMode

PLAIN = {"data_dir": Path("d"), "name": "a", "insecure": True}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"name": "a"}, "data_dir"),
        ({**PLAIN, "name": ""}, "name"),
        ({**PLAIN, "name": "a\nb"}, "name"),
        ({**PLAIN, "listen_client": "nowhere"}, "listen_client"),
        ({**PLAIN, "listen_client": "127.0.0.1:70000"}, "listen_client"),
        ({**PLAIN, "listen_client": "::1:7420"}, "listen_client"),
        ({**PLAIN, "unknown_flag": 1}, "unknown_flag"),
        ({**PLAIN, "profile": "slow"}, "profile"),
        ({**PLAIN, "full_min": 0}, "full_min"),
        ({**PLAIN, "role": "observer"}, "role"),
        ({**PLAIN, "roles": "nobody"}, "roles"),
        ({**PLAIN, "role": "witness", "bootstrap": True}, "bootstrap needs role full"),
        ({**PLAIN, "promote_after_s": 0.5}, "promote_after_s"),
        ({**PLAIN, "restore_after_s": float("nan")}, "restore_after_s"),
        ({**PLAIN, "role_cool_down_s": -1}, "role_cool_down_s"),
        ({**PLAIN, "role_change_timeout_s": 86_401}, "role_change_timeout_s"),
        ({**PLAIN, "witness_log_mib": 0}, "witness_log_mib"),
        ({**PLAIN, "witness_log_policy": "truncate"}, "witness_log_policy"),
        ({**PLAIN, "trace_sample_ratio": float("nan")}, "trace_sample_ratio"),
        ({**PLAIN, "trace_sample_ratio": 2}, "trace_sample_ratio"),
        ({**PLAIN, "shutdown_grace_s": -1}, "shutdown_grace_s"),
        ({**PLAIN, "bootstrap": True, "join": ("h:1",)}, "bootstrap and join"),
        ({**PLAIN, "join": ("127.0.0.1:7420",)}, "own client address"),
        ({**PLAIN, "join": ("h",)}, "host:port"),
        ({**PLAIN, "listen_client": "0.0.0.0:7420"}, "insecure is refused on 0.0.0.0:7420"),
        ({**PLAIN, "listen_peer": "10.0.0.1:7421"}, "insecure is refused on 10.0.0.1:7421"),
        ({**PLAIN, "insecure": False}, "client_tls_cert is missing"),
        ({**PLAIN, "client_tls_cert": Path("c")}, "client_tls_key"),
        ({**PLAIN, "client_tls_ca": Path("c")}, "client_tls_ca needs"),
        ({**PLAIN, "peer_tls_cert": Path("c"), "peer_tls_key": Path("k")}, "peer_tls_ca"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_setting(values: dict[str, object], named: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(values)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_environment_fills_in_what_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCKMASTER_JOIN", "h:1, h:2")
    monkeypatch.setenv("LOCKMASTER_NAME", "from-environment")
    settings = load({"data_dir": Path("d"), "insecure": True, "name": None})
    assert settings.join == ("h:1", "h:2")
    assert settings.name == "from-environment"
    assert load({**PLAIN, "name": "given"}).name == "given"


def test_files_named_like_settings_fill_in_what_neither_flags_nor_environment_give(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "lockmaster_role").write_text("witness\n")
    (tmp_path / "lockmaster_name").write_text("from-file")
    monkeypatch.setenv("LOCKMASTER_SETTINGS_DIR", str(tmp_path))
    assert (load(PLAIN).role, load(PLAIN).name) == ("witness", PLAIN["name"])
    monkeypatch.setenv("LOCKMASTER_ROLE", "full")
    assert load(PLAIN).role == "full"


def test_a_settings_directory_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOCKMASTER_SETTINGS_DIR", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match=r"LOCKMASTER_SETTINGS_DIR: .*/none is no directory"):
        load(PLAIN)


def test_the_fast_profile_has_short_timeouts() -> None:
    assert load({**PLAIN, "profile": "fast"}).raft_config().election_timeout_ns == 300_000_000
    assert load(PLAIN).raft_config().election_timeout_ns == 1_000_000_000


def test_what_is_said_of_roles_reaches_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCKMASTER_WITNESS_NAMES", "w, v")
    said = {"roles": "operated", "promote_after_s": 7.5, "restore_after_s": 8, "role_cool_down_s": 9}
    more = {"role_change_timeout_s": 10, "witness_log_mib": 3, "witness_log_policy": "block"}
    config = load({**PLAIN, **said, **more}).raft_config()
    policy = config.role_policy
    assert (policy.mode, policy.log_policy) == (RoleMode.OPERATED, LogPolicy.BLOCK)
    assert (policy.promote_after_ns, policy.restore_after_ns) == (7_500_000_000, 8 * SECOND)
    assert (policy.cool_down_ns, policy.change_timeout_ns) == (9 * SECOND, 10 * SECOND)
    assert policy.witness_names == {"w", "v"}
    assert config.witness_log_bytes_max == 3 << 20


def test_settings_are_frozen() -> None:
    settings = load(PLAIN)
    with pytest.raises(ValueError, match="frozen"):
        settings.name = "other"
    assert isinstance(settings, Settings)
