"""Real faults on real processes, and a judge that believes none of them.

schedules/   what is done to a cluster, each a function a few lines long, with what is promised meanwhile
drill.py     one schedule at work: load, faults, the wait for the end, the verdict
site.py      the cluster that it happens to: PostgreSQL, a proxy before it for each coordinator, processes
standby.py   the same with a primary and a standby
proxy.py     the network between a coordinator and PostgreSQL: it delays, swallows, breaks
load.py      clients that know the HTTP API only and write down what they were told
app.py       what coordinators load: agents that write down every call of them
records.py   those two files, which no coordinator reads
log.py       what the database holds in the end
judge.py     the three side by side: lost, repeated, unsound, recovered, how long
run.py       schedules one after another, several at a time on clusters of their own
report.py    figures as plain data, and as the page of docs/

Must not know: the demo, the command line.
"""
