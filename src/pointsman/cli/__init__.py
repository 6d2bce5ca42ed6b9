"""The command line: one file per verb. Must not hold anything that another room could need."""
