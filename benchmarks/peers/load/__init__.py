"""The load generator: a process of its own, nothing but Python, so that it takes little from the servers."""
