# Every target sets up what it needs first. `make help` lists them.

.DEFAULT_GOAL := help
READY := .venv/.ready
# Bytecode has to be written, or every process of the stack compiles Prefect anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) ## Install the locked dependencies into .venv (also done by every other target)

$(READY): scripts/setup pyproject.toml uv.lock .python-version
	@scripts/setup

.PHONY: demo
demo: $(READY) ## Run one task through the whole picture, with a simulated model; needs no key
	@.venv/bin/devtasks demo

.PHONY: up
up: $(READY) ## Keep the stack running until Ctrl-C: Prefect server, database, queues, one worker
	@.venv/bin/devtasks up

.PHONY: image
image: $(READY) ## Build the docker runtime's image, where it is not there yet; needs a Docker engine
	@scripts/image

.PHONY: test
test: $(READY) ## Run the tests
	@.venv/bin/pytest

.PHONY: screenshots
screenshots: $(READY) ## Take the pictures of docs/ui.md anew, from the browser tests; needs chromium
	@SCREENSHOTS=$(CURDIR)/docs/images .venv/bin/pytest tests/e2e/test_browser.py

.PHONY: check
check: $(READY) ## Check format, lint and types
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/basedpyright

.PHONY: format
format: $(READY) ## Format the code, and mend what the linter can
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

.PHONY: prove-pypi
prove-pypi: $(READY) ## Run tasks on three packages from PyPI, with simulated models
	@.venv/bin/python examples/pypi/prove.py

.PHONY: bench-worker
bench-worker: $(READY) ## Measure the prefork worker beside Prefect's own; 15 minutes on an idle machine
	@PYTHONPATH=tests/support .venv/bin/python benchmarks/worker.py

.PHONY: soak-worker
soak-worker: $(READY) ## Run 500 flow runs through one prefork worker, and look for growth
	@PYTHONPATH=tests/support .venv/bin/python benchmarks/worker.py soak

.PHONY: bench-quota
bench-quota: $(READY) ## Count what eight processes on one account send in a true minute and a day (takes minutes)
	@.venv/bin/python benchmarks/quota.py

.PHONY: bench-gateway
bench-gateway: $(READY) ## Measure what the gateway and its ledger add to a call; takes three minutes
	@.venv/bin/python benchmarks/gateway.py

.PHONY: bench-execution
bench-execution: $(READY) ## Measure what isolation costs beside a plain SDK script, and sixteen runs at once; takes minutes
	@PYTHONPATH=tests/support .venv/bin/python benchmarks/execution.py

.PHONY: soak-kills
soak-kills: $(READY) ## Kill workers, agents and containers at random over 200 runs, and look what is lost or left; takes an hour
	@PYTHONPATH=tests/support .venv/bin/python benchmarks/kills.py

.PHONY: soak
soak: $(READY) ## Run 300 tasks on three workers while models fail and processes are killed; takes an hour
	@PYTHONPATH=tests/support .venv/bin/python benchmarks/soak.py

.PHONY: bench-validation-speed
bench-validation-speed: $(READY) ## Measure what a verdict on unit tests costs beside one plain run of them
	@.venv/bin/python benchmarks/validation_speed.py

.PHONY: bench-selection
bench-selection: $(READY) ## Measure how well the selector learns on synthetic models, and how long a choice takes
	@.venv/bin/python benchmarks/selection.py

.PHONY: bench-validation
bench-validation: $(READY) ## Judge good and bad tests of modules on PyPI, and count what is accepted; takes hours
	@PYTHONPATH=tests/support .venv/bin/python benchmarks/validation.py $(ARGS)

.PHONY: clean
clean: ## Remove the demo's and the stack's state (not the set-up)
	@rm -rf .devtasks
