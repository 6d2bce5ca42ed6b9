"""The demo: customer-service tickets worked by nineteen agents, to show the coordinator on real input.

What stands where: `data` and `wheel` the tickets and databases, `models` what agents say to each other,
`desks` the roster, `lookup`, `triage`, `airline`, `retail`, `telecom`, `desk` the agents' work as plain
functions, `agents` and `workflow` the app, `latency` and `journal` what surrounds each call, `accuracy` the
score of triage, `provoke` each kind of failure by hand, `drill` tickets through a cluster that is hurt, `failing` and
`outage` an agent that fails meanwhile.
"""
