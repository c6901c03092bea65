"""The plain HTTP page of a server, in a thread of its own: /metrics, and what a kubelet asks (/livez, /readyz).

It says nothing that is secret: no name of a lock or key, no value, no token.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

READ_SECONDS_MAX: Final = 10.0
"""How long a caller may take to send its request."""


class _Quiet(WSGIRequestHandler):
    timeout = READ_SECONDS_MAX

    def log_message(self, format: str, *args: Any) -> None:
        """No line per request."""


def start_page(
    host: str, port: int, alive: Callable[[], bool], ready: Callable[[], bool]
) -> tuple[WSGIServer, threading.Thread]:
    """Serve until `shutdown` of the first. `alive` and `ready` are asked in other threads. Raises OSError."""
    metrics = make_wsgi_app()
    probes = {"/livez": alive, "/readyz": ready}

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        probe = probes.get(environ.get("PATH_INFO", ""))
        if probe is None:
            return metrics(environ, start_response)  # type: ignore[no-any-return]  # untyped there
        good = probe()
        start_response("200 OK" if good else "503 Service Unavailable", [("Content-Type", "text/plain")])
        return [b"ok\n" if good else b"no\n"]

    page = make_server(host, port, answer, ThreadingWSGIServer, handler_class=_Quiet)
    thread = threading.Thread(target=page.serve_forever, name="page", daemon=True)
    thread.start()
    return page, thread
