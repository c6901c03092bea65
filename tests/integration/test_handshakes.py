"""TLS handshakes, many at once: each asks gRPC's credentials anew, in several of its threads."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

from lockmaster.cli.local_cluster import LocalCluster

from benchmarks import certificates

THREADS = 16
HANDSHAKES = 300


def test_a_member_survives_many_handshakes_at_once(tmp_path: Path) -> None:
    files = certificates.make(tmp_path)
    context = ssl.create_default_context(cafile=str(files.ca))
    context.set_alpn_protocols(["h2"])
    with LocalCluster(tmp_path, size=1, tls=files) as cluster:
        cluster.start()
        member = cluster.members[0]
        host, _, port = member.client_address.rpartition(":")
        done: list[int] = []

        def shake() -> None:
            for _ in range(HANDSHAKES):
                with socket.create_connection((host, int(port)), 10) as plain:
                    context.wrap_socket(plain, server_hostname=host).close()
            done.append(HANDSHAKES)

        threads = [threading.Thread(target=shake) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert member.running, member.last_words()
        assert done == [HANDSHAKES] * THREADS
