"""How flows run: the embedded stack, and the set-up of pool, queues, blocks and deployments."""
