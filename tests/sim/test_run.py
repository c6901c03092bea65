"""How long a simulated run goes on."""

from dataclasses import replace

from lockmaster_raft.testing.application import load_application
from lockmaster_raft.testing.cluster import Cluster
from lockmaster_raft.testing.swarm import OPERATIONS_MIN, draw_mix


def test_a_run_whose_clients_were_not_served_under_faults_does_its_operations_when_healed() -> None:
    """Seeds 26, 223 and 360: disks and elections kept their clusters from the clients until the chaos ended."""
    mix = replace(draw_mix(5), client_loss=1.0, fault_interval_ns=10**10, role_faults=(), disk_faults=())
    result = Cluster(5, load_application("register"), mix).run()
    assert result.failure == ""
    assert result.operations >= OPERATIONS_MIN
