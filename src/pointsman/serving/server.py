"""The HTTP server of an app's agents: the API's server, with its deadlines and limits, over `AgentApp`.

Must not know command lines or signals.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pointsman.api import ApiSettings, InvalidSetting
from pointsman.api.server import Server
from pointsman.api.waiting import Waiting
from pointsman.app import App
from pointsman.serving.asgi import AgentApp
from pointsman.serving.cluster import Cluster
from pointsman.serving.registration import TTL_S, registered

EVERYWHERE = ("0.0.0.0", "::", "[::]", "")


class AgentServer(Server):
    """Serves all agents of `app` that are functions. Start once, stop as often as you like.

    Args:
        host: anything but loopback needs a token. port: 0 for any free one.
        token: what callers must send as `Authorization: Bearer`; not the cluster's own.
        cluster: whose API records effects, heartbeats and spending; closed by whoever opened it.

    Raises:
        InsecureBind, InvalidSetting.
    """

    def __init__(
        self,
        app: App,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        settings = ApiSettings(host=host, port=port, token=token, body_bytes_max=app.value_bytes_max)
        waiting = Waiting()
        self.app = AgentApp(app, settings, waiting, cluster=cluster)
        super().__init__(self.app, settings, waiting)

    async def stop(self) -> None:
        """Stop accepting; attempts under way are answered as `overloaded`, so that they go on elsewhere."""
        await super().stop()
        await self.app.close()


async def serve(
    app: App,
    *,
    register: str,
    host: str = "127.0.0.1",
    port: int = 0,
    advertise: str | None = None,
    token: str | None = None,
    cluster_token: str | None = None,
    ttl_s: float = TTL_S,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the agents of `app` and keep them registered, until cancelled.

    Args:
        register: base URL of a router or coordinator.
        advertise: base URL under which the cluster reaches this server; where it binds, without.
        token: what the cluster must send to agents. cluster_token: what the cluster wants to hear.
        ready: called with the advertised URL once the server listens and the agents are registered.

    Raises:
        InsecureBind, InvalidSetting, ClusterRefused; OSError: the address is taken.
    """
    if advertise is None and host in EVERYWHERE:
        raise InvalidSetting(f"host {host!r} is every address, and none that a cluster could reach: say advertise=")
    cluster = Cluster(register, token=cluster_token)
    server = AgentServer(app, host=host, port=port, token=token, cluster=cluster)
    await server.start()
    try:
        shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
        url = advertise or f"http://{shown}:{server.port}"
        async with registered(app, cluster, advertise=url, ttl_s=ttl_s):
            if ready is not None:
                ready(url)
            await asyncio.Event().wait()
    finally:
        await server.stop()
        await cluster.close()
