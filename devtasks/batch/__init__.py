"""Many tasks as one: what a batch is, read from files or found in a project, and what is decided and told about it."""
