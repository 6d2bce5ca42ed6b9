"""An app's agents in the cluster's directory, for as long as this process says so.

Must not know how they are served.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import msgspec

from pointsman.agents.agent import Agent
from pointsman.agents.card import Card, Health
from pointsman.app import App
from pointsman.kernel.errors import PointsmanError, StoreUnavailable
from pointsman.ports.agents import AgentNotFound
from pointsman.serving.cluster import Cluster

TTL_S = 15.0
RENEWALS_PER_TTL = 3
"""Two may be lost before a registration lapses."""
LEAVE_TIMEOUT_S = 2.0

logger = logging.getLogger("pointsman.serving")


@asynccontextmanager
async def registered(app: App, cluster: Cluster, *, advertise: str, ttl_s: float = TTL_S) -> AsyncIterator[None]:
    """Register all agents of `app` that are functions, renew them, and leave at the end of the block.

    A cluster that can't be reached (yet, or for a while) is asked again and again: an agent that started before its
    cluster is used as soon as that is there.

    Args:
        advertise: base URL under which the cluster reaches this process's `AgentServer`.
        ttl_s: seconds after which the cluster forgets an agent whose process died.

    Raises:
        ClusterRefused: a card, its address or the token; nothing that a retry would change.
    """
    cards = [card_of(agent, advertise.rstrip("/")) for agent in app.directory.agents() if agent.function is not None]
    async with registered_cards(cards, cluster, ttl_s=ttl_s, leave=leave):
        yield


@asynccontextmanager
async def registered_cards(
    cards: Sequence[Card], cluster: Cluster, *, ttl_s: float, leave: Callable[[Cluster, Card], Awaitable[None]]
) -> AsyncIterator[None]:
    """As `registered`, with these cards. `leave`: called for each at the end. Raises what `registered` raises."""
    every_s = ttl_s / RENEWALS_PER_TTL
    for card in cards:
        await _announce(cluster, card, ttl_s, within_s=every_s, is_known=False)
    tasks = [
        asyncio.create_task(_renew_forever(cluster, card, ttl_s, every_s), name=f"registration of {card.name}")
        for card in cards
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(leave(cluster, card) for card in cards))


def card_of(agent: Agent, base_url: str) -> Card:
    """Its card, as the cluster needs it: with the URL of the agent, and of its health check."""
    url = f"{base_url}/agents/{agent.name}"
    health = msgspec.structs.replace(agent.described.health or Health(), url=f"{url}/health")
    return msgspec.structs.replace(agent.card, url=url, health=health)


async def _renew_forever(cluster: Cluster, card: Card, ttl_s: float, every_s: float) -> None:
    is_known = True
    while True:
        await asyncio.sleep(every_s)
        try:
            is_known = await _announce(cluster, card, ttl_s, within_s=every_s, is_known=is_known)
        except PointsmanError as error:
            logger.error("agent %s is no longer registered with %s: %s", card.name, cluster.url, error)
            is_known = False


async def _announce(cluster: Cluster, card: Card, ttl_s: float, *, within_s: float, is_known: bool) -> bool:
    """Renew, or register where the cluster does not know it. Does it know it now?

    Raises: ClusterRefused, and other errors that the cluster named.
    """
    path, until = f"/v1/agents/{card.name}", time.monotonic() + within_s
    try:
        if is_known:
            with suppress(AgentNotFound):
                await cluster.ask("POST", f"{path}/renew", body={"ttl_s": ttl_s}, until=until)
                return True
        await cluster.ask("PUT", path, body={"card": card, "ttl_s": ttl_s}, until=until)
    except StoreUnavailable as error:
        logger.warning("agent %s: %s; going on trying", card.name, error)
        return is_known
    logger.info("agent %s is registered with %s as %s", card.name, cluster.url, card.url or card.transport)
    return True


async def leave(cluster: Cluster, card: Card) -> None:
    """End the registration; failing that, it lapses by itself."""
    try:
        await cluster.ask("DELETE", f"/v1/agents/{card.name}", until=time.monotonic() + LEAVE_TIMEOUT_S)
    except PointsmanError as error:
        logger.warning("agent %s could not leave (its registration lapses by itself): %s", card.name, error)
