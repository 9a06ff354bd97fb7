"""How the agent and the validation commands run: one Protocol, interchangeable runtimes behind it."""
