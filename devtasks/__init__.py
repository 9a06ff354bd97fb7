"""Development tasks with OpenHands on OpenRouter's models: the domain, without Prefect."""
