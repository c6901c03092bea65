# Everything a newcomer needs, from Python >= 3.11 with pip and make alone. `make help` lists it.
PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,$(shell \
	command -v $(name) >/dev/null 2>&1 && $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))) python3)
RUN := .venv/bin/python
SEEDS ?= 500
MUTANTS ?= 0

.DEFAULT_GOAL := help
.PHONY: help setup demo test check fix bench compile sim mutants mutation spec spec-deep spec-mutants spec-traces generate lock cluster cluster-down e2e e2e-all clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## make .venv with everything needed (done by every other command; quick when nothing changed)
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "setup: no $(PYTHON) found: install Python >= 3.11 with pip and venv" >&2; exit 2; }
	@$(PYTHON) tools/setup.py

demo: setup ## two full servers and a witness, real processes: one is killed, the witness promoted, nothing lost (under a minute)
	@$(RUN) -m lockmaster.cli.main demo

test: setup ## make check, then every test, in named parts with their share of the time
	@$(RUN) tools/run_tests.py

check: setup ## linters, types, import arrows, generated files; edits nothing
	@$(RUN) tools/run_tests.py --only check

fix: setup ## what ruff can repair and format
	@$(RUN) -m ruff check --fix --quiet . ; $(RUN) -m ruff format .

bench: setup ## side by side with a three-member etcd that it starts itself: table, JSON, plot
	@$(PYTHON) tools/setup.py --bench
	@$(RUN) -m benchmarks.compare $(BENCH)

compile: setup ## data path and simulator with mypyc into .build/compiled (bench, sim, test use it; needs a C compiler)
	@$(RUN) tools/compile.py

sim: setup ## the seeded simulator, compiled where there is a C compiler: make sim SEEDS=500; STEADY=1: a fault every 10 s, not 2; APPLICATION=register
	@$(RUN) tools/compile.py --run -m lockmaster_raft.testing run --seeds $(SEEDS) $(if $(STEADY),--steady) $(if $(APPLICATION),--application $(APPLICATION))

mutants: setup ## every known bug put back in and hunted anew: seeds of the simulator, or the rule's own tests, must find each one
	@$(RUN) -m lockmaster_raft.testing mutants

mutation: setup ## small changes to the decisive modules: tests must notice 90 %; make mutation MUTANTS=200 SEED=1 samples
	@$(PYTHON) tools/setup.py --mutation
	@$(RUN) tools/mutation.py --mutants $(MUTANTS) $(if $(SEED),--seed $(SEED)) $(foreach name,$(MODULE),--module $(name))

spec: setup ## the TLA+ specification, checked by TLC, the known bugs that violate it, fifty traces (skipped without Java)
	@$(RUN) raft/spec/run.py spec mutants
	@$(RUN) raft/spec/validate.py --seeds 50

spec-deep: setup ## the models at larger bounds, a day each at most; make spec-deep SECONDS=1200 looks at each for so long
	@$(RUN) raft/spec/run.py deep $(if $(SECONDS),--seconds $(SECONDS)) $(foreach name,$(MODEL),--only $(name))

spec-mutants: setup ## only the known bugs: each must violate its invariant
	@$(RUN) raft/spec/run.py mutants

spec-traces: setup ## only the traces: fifty of the simulator must be behaviours of the specification
	@$(RUN) raft/spec/validate.py --seeds 50

generate: setup ## the stubs, the sync client from the async one, the CRDs from the models
	@$(RUN) service/proto/generate.py
	@if [ -f service/generate_sync.py ]; then $(RUN) service/generate_sync.py; fi
	@$(RUN) operator/generate_crds.py

lock: setup ## refresh constraints.txt to the newest versions
	@$(PYTHON) tools/setup.py --lock

cluster: setup ## a real Kubernetes on this machine: three nodes, no Docker (Linux, root; the first time 15 min of builds)
	@$(RUN) -m tests.e2e.bed up

cluster-down: setup ## remove every trace of it
	@$(RUN) -m tests.e2e.bed down

e2e: setup ## eight scenarios under load on a real Kubernetes, with a report: the cluster above, or E2E_CONTEXT=yours
	@$(RUN) -m pytest -v -m "e2e and scenario" tests/e2e $(E2E)

e2e-all: setup ## every test on a real Kubernetes
	@$(RUN) -m pytest -v -m e2e tests/e2e $(E2E)

clean: ## remove what setup and the tools made
	@rm -rf .venv .build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
