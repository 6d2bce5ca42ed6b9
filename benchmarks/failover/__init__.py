"""failover: SIGKILL to the coordinator that owns most runs, and how long each of them waits for its next owner.

app.py      the app that coordinators load: a run of equal steps, each noted in a journal outside the engine
sample.py   one measurement: a cluster of its own, the runs, the kill, what the database and the journal say of it
figures.py  from that to figures: of one sample, of all, and the bars
command.py  the command line, and the samples one after the other
"""
