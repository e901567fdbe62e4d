# Needs python3 (with venv) and make; everything else is set up in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SCRIPTS := health_check.py token_usage_metrics.py credential_usage_metrics.py
WORKERS ?= 2

.PHONY: demo demo-web test lint format bench fuzz faults kills soak mutants matrix audit generate lock pictures sbom dev clean

demo: $(VENV)/.runtime  ## start the sandbox, run the scripts against it, keep the results
	@$(BIN)/python -m sandbox.demo

demo-web: $(VENV)/.runtime  ## the same with exporters and a page to look at
	@$(BIN)/python -m sandbox.demo --web

test: $(VENV)/.dev  ## every test (those that need a missing program say so)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(TEST_ARGS)

lint: $(VENV)/.dev  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev  ## one table of ratios
	$(BIN)/python -m benchmarks

fuzz: $(VENV)/.dev  ## the decoders and parsers, for longer than the tests do
	FUZZ_EXAMPLES=100000 $(BIN)/python -m pytest -q -k "fuzz or hostile" --timeout 3600

faults: $(VENV)/.dev  ## each call of SQLite, of the file system and of each kind of peer fails in turn (30 min)
	FAULTS=all $(BIN)/python -m pytest -q -s tests/test_faults_in_turn.py

kills: $(VENV)/.dev  ## kill -9 at 100 random points of an outage and its end, five receivers (10 min)
	KILLS=100 $(BIN)/python -m pytest -q -s --timeout 7200 -k "killed and random" tests/test_faults.py

soak: $(VENV)/.dev  ## 3,000 cycles of each script among hostile peers: is memory flat? (1 h)
	SOAK_CYCLES=3000 $(BIN)/python -m pytest -q -s -k soak tests/test_endurance.py

mutants: $(VENV)/.dev  ## put small mistakes into the decisions: which does no test find? (20 min)
	$(BIN)/python -m tests.mutation

matrix: $(VENV)/.dev  ## oldest and newest libraries on every Python found
	$(BIN)/python -m tests.matrix $(MATRIX_CELLS) $(MATRIX_ARGS)

audit:  ## known holes in the libraries we need (asks the package index; kept apart, since it brings its own)
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/pip install -q --disable-pip-version-check pip-audit
	.venv-audit/bin/pip-audit -r requirements.txt

generate: $(VENV)/.dev  ## everything that is made from the code: tables, runbooks, rules, dashboards
	$(BIN)/python -m tests.readme_tables --write
	$(BIN)/python -m docs.build
	$(BIN)/python -m deploy.prometheus.build
	$(BIN)/python -m deploy.grafana.build

pictures: $(VENV)/.dev  ## docs/images of the status page, drawn anew by headless Chromium
	$(BIN)/python -m tests.pictures --write

lock:  ## deploy/requirements.lock anew: every library with the hashes of its files
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/pip install -q --disable-pip-version-check pip-tools
	.venv-audit/bin/pip-compile -q --upgrade --generate-hashes --no-emit-index-url --no-emit-trusted-host \
	  --no-emit-find-links --strip-extras --no-header --no-annotate --allow-unsafe \
	  -o deploy/requirements.lock requirements.txt

sbom:  ## sbom.json: what the lock file installs, in CycloneDX
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/pip install -q --disable-pip-version-check cyclonedx-bom
	.venv-audit/bin/cyclonedx-py requirements deploy/requirements.lock -o sbom.json

dev: $(VENV)/.dev

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The runtime's needs and a server to watch; enough for the demo.
$(VENV)/.runtime: requirements.txt requirements-demo.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-demo.txt
	@touch $@

$(VENV)/.dev: requirements.txt requirements-demo.txt requirements-test.txt requirements-dev.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(VENV)/.runtime

clean:
	rm -rf $(VENV) .venv-audit demo-results .pytest_cache .mypy_cache .ruff_cache .hypothesis
