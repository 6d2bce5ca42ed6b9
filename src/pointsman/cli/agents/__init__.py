"""`pointsman agents`: which agents there are and how they are, over the HTTP API."""
