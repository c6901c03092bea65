"""The operator's own HTTP page: /livez, /readyz, /metrics. Plain HTTP; it says nothing that is secret."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web


async def start_page(
    listen: str, alive: Callable[[], str], ready: Callable[[], str], metrics: Callable[[], bytes]
) -> web.AppRunner:
    """Serve on host:port until `cleanup`. `alive` and `ready` give "" if so, else why not. Raises OSError."""

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/metrics":
            return web.Response(body=metrics(), content_type="text/plain", charset="utf-8")
        why = alive() if request.path == "/livez" else ready()
        return web.Response(text=f"{why or 'ok'}\n", status=503 if why else 200)

    app = web.Application(client_max_size=1024)
    app.add_routes([web.get(path, answer) for path in ("/livez", "/readyz", "/metrics")])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    host, _, port = listen.rpartition(":")
    await web.TCPSite(runner, host, int(port)).start()
    return runner
