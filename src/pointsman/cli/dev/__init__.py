"""`pointsman dev`: the command, what it asks of the API, and what it shows."""
