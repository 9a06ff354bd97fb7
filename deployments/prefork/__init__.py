"""The worker type `prefork`: flow runs as forks of a server process that has imported the libraries already."""
