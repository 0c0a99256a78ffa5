# Everything a person or CI does with this repository. `make help` lists it.
SHELL := /bin/sh
# Which Python to work with: `make test PYTHON=python3.13`. A new environment is made for each.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(notdir $(PYTHON))
# A file's tests stay together and share what they start. Files mostly wait: there are four more at a time than cores.
PARALLEL ?= -n $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) + 4 ))) --dist loadfile --no-loadscope-reorder
PYTHONS ?= $(BIN)/python
SHORT ?=
ARGS ?=
# On what is compiled: all but the tests of the tools, of packages and of the benchmarks, which run none of it.
COMPILED_TESTS ?= tests/unit/drain tests/unit/net tests/unit/protocol tests/unit/session tests/unit/test_compiled.py \
	tests/net tests/e2e tests/rollout tests/upgrade tests/process tests/conformance

# Programs the tests and benchmarks use as peers, and what `make compiled` compiles with. Without one, its tests are
# skipped and say so; CI must have them all.
DEBIAN := nginx-light haproxy wrk nghttp2-client nghttp2-server redis-server redis-tools nodejs curl openssl \
	iproute2 nftables conntrack procps chromium prometheus gcc python3-dev

.DEFAULT_GOAL := help
.PHONY: help setup debian test quick compiled lint types contracts demo search soak upgrades oncall page-pictures cluster bench profile docs site wheels release clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

# Debian's python3 comes without ensurepip: the environment is made without pip, and an outer pip puts a recent one in,
# which knows dependency groups. The outer pip is PYTHON's own or, where it has none, that of python3.
$(STAMP): pyproject.toml
	@[ -e $@ ] || $(PYTHON) -m venv --clear --without-pip $(VENV)
	@if $(PYTHON) -m pip --version >/dev/null 2>&1; then pip="$(PYTHON) -m pip"; else pip="python3 -m pip"; fi; \
	$$pip --python $(BIN)/python install --quiet --disable-pip-version-check 'pip>=25.1'
	$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[tools,cluster]' --group dev
	@touch $@

# What only one target needs comes when it is first asked for.
$(STAMP)-%: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group $*
	@touch $@

setup: $(STAMP) ## make the virtual environment

debian: ## install the programs that tests use as peers (as root, or with sudo without a password)
	@missing=""; for package in $(DEBIAN); do \
	  dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'install ok installed' || missing="$$missing $$package"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then run=""; elif sudo -n true 2>/dev/null; then \
	  run="sudo -n env http_proxy=$$http_proxy https_proxy=$$https_proxy"; \
	else echo "not root: tests that need$$missing will be skipped"; [ -z "$$CI" ] || exit 1; exit 0; fi; \
	echo "installing$$missing"; \
	{ $$run apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	$$run apt-get install -y -qq --no-install-recommends $$missing >/dev/null; } \
	|| { echo "not installed: tests that need$$missing will be skipped"; [ -z "$$CI" ]; }

test: $(STAMP) debian ## set up and run all tests; ARGS="-k drain" for some
	$(BIN)/pytest $(PARALLEL) $(ARGS)

quick: $(STAMP) ## all tests except the slow third
	$(BIN)/pytest $(PARALLEL) -m "not slow" $(ARGS)

# The wheel is unpacked next to the tests: nothing of this checkout is imported, and nothing compiled is left in it.
compiled: $(STAMP) debian ## compile, and run the tests of the sidecar and a minute of wrong bytes on that
	rm -rf build/wheel build/compiled
	$(BIN)/python -m release wheels --out build/wheel
	$(BIN)/python -m zipfile -e build/wheel/*-cp*.whl build/compiled
	cp -R pyproject.toml tests docs deploy build/compiled/
	cd build/compiled && PYTHONPATH="$$PWD" ../../$(BIN)/python -c 'import drainproxy; assert drainproxy.compiled()'
	cd build/compiled && PYTHONPATH="$$PWD" ../../$(BIN)/pytest -p no:cacheprovider $(PARALLEL) $(COMPILED_TESTS) $(ARGS)
	cd build/compiled && PYTHONPATH="$$PWD" ../../$(BIN)/python -m tests.search.fuzz --minutes 1

lint: $(STAMP) ## ruff: errors and format; codespell, and the house style of all that people read
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/pytest -q -p no:cacheprovider tests/unit/test_words.py

types: $(STAMP) ## mypy --strict
	$(BIN)/mypy

contracts: $(STAMP) ## which module may import which
	$(BIN)/lint-imports

demo: $(STAMP) ## a rolling update without and with drainproxy, and what is lost
	$(BIN)/drainproxy demo $(ARGS)

search: $(STAMP) ## random drains in search of lost work; ARGS="--cases 100 --seed 7"
	$(BIN)/python -m tests.search $(ARGS)

fuzz: $(STAMP) ## invalid bytes from both ends for half an hour; ARGS="--minutes 5"
	$(BIN)/python -m tests.search.fuzz $(ARGS)

soak: $(STAMP) ## steady load of all protocols for half an hour; ARGS="--minutes 5"
	$(BIN)/python -m tests.search.soak $(ARGS)

upgrades: $(STAMP) ## 20 upgrades and 20 restarts in a row under load: who loses what; ARGS="--rounds 5 hold"
	$(BIN)/python -m tests.upgrade.steady $(ARGS)

oncall: $(STAMP)-oncall debian ## rollouts with a real Prometheus: which alert fires when; ARGS="--pictures docs"
	$(BIN)/python -m tests.oncall $(ARGS)

cluster: $(STAMP) ## the cases on the cluster of your kubeconfig (tests/cluster/README.md); ARGS="-k websocket" for some
	DRAINPROXY_CLUSTER=1 $(BIN)/pytest -p no:cacheprovider tests/cluster $(ARGS)

bench: $(STAMP)-bench debian ## cost next to nginx, HAProxy and Envoy; SHORT=1 only checks that it runs
	$(BIN)/python -m tests.bench $(if $(SHORT),--short) $(ARGS)

profile: $(STAMP)-bench debian ## where the microseconds go: a flame graph and a list
	$(BIN)/python -m tests.bench.profile $(ARGS)

page-pictures: $(STAMP) debian ## the status page in every state, into docs
	DRAINPROXY_PICTURES=docs $(BIN)/pytest -q tests/e2e/test_page.py
	rm -f docs/page-wide.png

docs: $(STAMP) ## write the pages that are made from the code
	$(BIN)/python -m drainproxy.tools.docs

# The pages link to files outside docs/, so the site is built from a copy of all that they may link to.
site: $(STAMP)-site ## build the documentation site into site/; a broken link is an error
	rm -rf .site && mkdir .site
	cp -R README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md LICENSE Dockerfile docs deploy .site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# A compiled wheel is for one minor version of Python: PYTHONS="python3.12 /opt/python3.13/bin/python3".
wheels: $(STAMP) ## the pure wheel and a compiled one for each of PYTHONS, into dist/
	$(BIN)/python -m release wheels $(foreach each,$(PYTHONS),--python $(each)) $(ARGS)

release: $(STAMP) ## wheels, sdist, image, man pages, SBOMs, checksums in dist/; KEY= signs, ARGS=--no-image
	$(BIN)/python -m release build $(foreach each,$(PYTHONS),--python $(each)) $(ARGS)

clean: ## remove everything that was made here
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist site .site *.egg-info
