"""Ports of pods on loopback, through the API server's websocket: one forward for each connection.

    client ── 127.0.0.1:PORT ── Forward ── API server ── kubelet ── pod:7420

TLS goes end to end: the members' certificates name 127.0.0.1 (operator: desired/certificates.py), so the members'
identity is checked as anywhere else, and the API server sees ciphertext.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

from kubernetes import client
from kubernetes.stream import portforward

CONNECTIONS_MAX: Final = 64
"""Most connections of one forward at a time; more are closed at once."""
CHUNK: Final = 1 << 16
Dial = Callable[[], socket.socket]


def pod_dial(api: client.ApiClient, namespace: str, pod: str, port: int) -> Dial:
    """How a connection to a pod's port is made. What it raises differs by the reason; Forward drops the connection."""
    method = client.CoreV1Api(api).connect_get_namespaced_pod_portforward
    return functools.partial(_opened, method, namespace, pod, port)


def _opened(method: Any, namespace: str, pod: str, port: int) -> socket.socket:
    made = portforward(method, pod, namespace, ports=str(port))
    found: socket.socket = made.socket(port)
    return found


class Forward:
    """A listener on loopback whose connections go to wherever `dial` leads. Close it."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._slots = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections; open ones end with the process or their peers."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:  # ends: `close` makes accept fail
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self._slots.acquire(blocking=False):
                near.close()
                continue
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        try:
            far = self._dial()
        except Exception:  # the library raises half a dozen kinds; for the caller it is a refused connection
            near.close()
            self._slots.release()
            return
        back = threading.Thread(target=_pump, args=(far, near), daemon=True)
        back.start()
        _pump(near, far)
        back.join()
        near.close()
        far.close()
        self._slots.release()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Bytes from one to the other until either ends; then the other is told that no more come."""
    with contextlib.suppress(OSError):
        while piece := source.recv(CHUNK):
            sink.sendall(piece)
    for each in (source, sink):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
