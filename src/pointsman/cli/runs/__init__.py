"""`pointsman runs`: the verbs on runs, each over the HTTP API."""
