"""OpenRouter: its client, the model catalogue, and the gateway that stands between an agent and a key."""
