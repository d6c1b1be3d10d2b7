# Every target does all its own set-up: environments in .environments/, each made once.
#   tools     what the tools need (scripts/requirements.txt), and what checks them
#   galaxy    a real Galaxy from packages, with total-perspective-vortex
#   planemo   the linter and builder of Galaxy tools
#   toolshed  a Tool Shed from packages, and what installs from it into a Galaxy (for `make test-shed` alone)
#   pulsar    what runs jobs on a remote machine (for `make test-cluster` alone)
SHELL := bash
PYTHON ?= python3
SERVE ?= # options of tests/galaxy/serve.py
DEMO ?= # options of tests/galaxy/demo.py
PROCESSES ?= $(shell nproc 2>/dev/null || echo 2)
ENVIRONMENTS := .environments
TOOLS := $(ENVIRONMENTS)/tools/bin
PLANEMO := $(ENVIRONMENTS)/planemo/bin/planemo
MADE := $(foreach name,tools galaxy planemo,$(ENVIRONMENTS)/$(name)/.made)
MADE_APART := $(foreach name,toolshed pulsar,$(ENVIRONMENTS)/$(name)/.made)
PIP_QUIET := --quiet --disable-pip-version-check --no-input

# Tests that share a running Galaxy stay in one process, the others are shared out.
PYTEST := $(TOOLS)/python -m pytest --numprocesses=$(PROCESSES) --maxprocesses=8 --dist=loadscope
# Prints the seconds that a command took: $(call timed,What it is) command
timed = TIMEFORMAT='[%1R s] $(1)'; time

.PHONY: help demo demo-model serve quick test test-tutorial test-shed test-cluster fuzz unit lint lint-code lint-forms benchmark \
	environments clean

help:
	@echo "make demo    run the suite in a real Galaxy on demo data; results in demo-results/"
	@echo "make demo-model  train the demo model anew, on a cut of human chr1, and compare it with Markov chains"
	@echo "make serve   keep a Galaxy with the suite open for you"
	@echo "make quick   lint what changed, and the fast tests: the loop while you work (a minute)"
	@echo "make test    all checks and tests (half an hour on 2 cores)"
	@echo "make test-tutorial  every step of the tutorial in a real Galaxy, and the whole demo"
	@echo "make test-shed     the same tests with the suite installed from a Tool Shed of this machine"
	@echo "make test-cluster  jobs by Slurm and by Pulsar on this machine (root on Debian or Ubuntu)"
	@echo "make fuzz    a million damaged records per reader, hostile models, files and servers, kills of every tool (hours)"
	@echo "make lint    format, types, tool forms"
	@echo "make unit    the tests that need no Galaxy"
	@echo "make benchmark  ratios of speed, each measured in one run; results in benchmark-results/ (an hour or two)"
	@echo "make clean   remove environments, servers' state and results"

demo: environments
	@$(TOOLS)/python tests/galaxy/demo.py $(DEMO)

demo-model: environments
	@mkdir -p demo-results
	$(TOOLS)/python tests/make_demo_model.py --sequences test-data/human.fasta.gz --output demo-results/demo_model.safetensors

serve: environments
	@$(TOOLS)/python tests/galaxy/serve.py $(SERVE)

quick: $(ENVIRONMENTS)/tools/.made $(ENVIRONMENTS)/planemo/.made
	@$(call timed,ruff) bash -c '$(TOOLS)/ruff check --quiet && $(TOOLS)/ruff format --quiet --check'
	@$(call timed,types) $(TOOLS)/mypy
	@forms="$$(git diff --name-only --diff-filter=d HEAD -- 'tools/dnalm_*.xml' tools/data_manager/data_manager_dnalm.xml)"; \
		git diff --quiet HEAD -- macros.xml || forms="tools tools/data_manager"; \
		test -z "$$forms" || { $(call timed,forms) $(PLANEMO) lint --fail_level warn $$forms; }
	@$(call timed,fast tests) $(PYTEST) --quiet -m "not slow" tests/project tests/unit

# Two at a time: the downloads and checks of one overlap the installation of another.
test:
	@$(call timed,environments and lint) $(MAKE) --no-print-directory --jobs=2 lint environments
	@$(call timed,tests) $(PYTEST) --quiet --durations=25

test-tutorial: environments
	@$(call timed,tutorial and demo) $(TOOLS)/python -m pytest --verbose tests/walkthroughs

test-shed: environments $(ENVIRONMENTS)/toolshed/.made
	$(TOOLS)/python -m pytest --verbose tests/shed

test-cluster: environments $(ENVIRONMENTS)/pulsar/.made
	$(TOOLS)/python -m pytest --verbose tests/cluster

fuzz: $(ENVIRONMENTS)/tools/.made
	DNALM_FUZZ=full $(PYTEST) --verbose tests/robustness/test_fuzzed_text.py tests/robustness/test_hostile_*.py \
		tests/robustness/test_kills.py

unit: $(ENVIRONMENTS)/tools/.made
	$(PYTEST) tests/project tests/unit tests/parity tests/robustness

benchmark: environments
	@mkdir -p benchmark-results
	set -e; for script in tests/benchmarks/*.py; do \
		$(TOOLS)/python $$script --output benchmark-results/$$(basename $$script .py).json; done

lint: lint-code lint-forms

lint-code: $(ENVIRONMENTS)/tools/.made
	@$(call timed,ruff check) $(TOOLS)/ruff check
	@$(call timed,ruff format) $(TOOLS)/ruff format --check
	@$(call timed,types) $(TOOLS)/mypy

lint-forms: $(ENVIRONMENTS)/planemo/.made
	@$(call timed,forms) $(PLANEMO) lint --fail_level warn tools/ tools/data_manager/

environments: $(MADE)

$(ENVIRONMENTS)/tools/.made: scripts/requirements.txt tests/requirements.txt
$(ENVIRONMENTS)/galaxy/.made: tests/requirements-galaxy.txt
$(ENVIRONMENTS)/planemo/.made: tests/requirements-planemo.txt
$(ENVIRONMENTS)/toolshed/.made: tests/requirements-toolshed.txt
$(ENVIRONMENTS)/pulsar/.made: tests/requirements-pulsar.txt

$(MADE) $(MADE_APART): $(ENVIRONMENTS)/%/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@echo "Making the environment $(@D), once; this takes a minute or three"
	@rm -rf $(@D)
	@$(PYTHON) -m venv $(@D)
	@$(call timed,environment $(@D)) $(@D)/bin/python -m pip install $(PIP_QUIET) $(addprefix --requirement=,$^)
	@touch $@

clean:
	rm -rf $(ENVIRONMENTS) .galaxy .tool-shed demo-results benchmark-results .pytest_cache .mypy_cache .ruff_cache
