"""triage: 10,000 real tickets, 12 specialists, a plan of failures, and three systems that meet the same plan.

data.py        the tickets, and which specialist is right for each
classifier.py  the triage agent's judgement, fitted on half of the tickets
plan.py        which calls fail, how, and how long each takes; which agent is down and when somebody is killed
agents.py      the simulated agents, the same functions for every system
plain.py       `chain` and `single_process`: an orchestrator whose state is in memory, in a process of its own
rival.py       the supervisor of such a process: reads what it says, kills it, starts it again
workflow.py    `pointsman`: the same agents as an app, and the workflow; app.py is what coordinators load
load.py        the client of the cluster: arrivals by the clock, one connection a ticket under way
cluster.py     the cluster under that load: starts it, kills a coordinator, reads the event log
ledger.py      what became of a ticket, read from its run's events
figures.py     the same figures for every system
command.py     the order of it all
"""
