"""All schedules: importing this declares them.

coordinators.py   processes that die, stop, hang, leave
database.py       PostgreSQL restarted, crashed, slow, full, refusing
network.py        connections cut, partitions, slow links
damage.py         a row of the log that was changed
agents.py         agents that fail and agents that lie
disk.py           no space left
standby.py        a primary lost, its standby promoted
clients.py        clients that ask twice
"""

from pointsman.testing.chaos.schedule import SCHEDULES
from pointsman.testing.chaos.schedules import agents, clients, coordinators, damage, database, disk, network, standby

__all__ = ["SCHEDULES", "agents", "clients", "coordinators", "damage", "database", "disk", "network", "standby"]
