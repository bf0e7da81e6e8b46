# The front page. `make` or `make help` lists what can be done.
SHELL := /bin/sh
.DEFAULT_GOAL := help
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -q
# How many processes `make test` spreads the files of tests over, two cores given: they wait more than they compute.
WORKERS ?= 3
# And `make e2e`, each with a mesh of its own.
MESHES ?= 2

.PHONY: help setup run key test unit integration e2e check fmt lint types layers native-check protos protos-check chart clients console bench lock clean-data clean

help: ## what can be done
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## environments, Envoy's API stubs, the digits models; quick when nothing changed
	@sh tools/setup.sh

run: setup ## start the whole mesh on this machine; Ctrl-C stops it
	@exec $(BIN)/python -m services.supervisor

key: ## another key for an operator of the mesh that runs on this machine
	@exec $(BIN)/python -m services.supervisor key

test: setup ## unit, property, contract and integration tests; starts the real parts that it needs
	$(PYTEST) -n $(WORKERS) --dist loadfile tests/unit tests/property tests/contract tests/integration

unit: setup ## the fast tests alone: no sockets, no processes
	$(PYTEST) tests/unit tests/property

integration: setup ## the tests against PostgreSQL, Redis, Envoy and Triton
	$(PYTEST) tests/contract tests/integration

e2e: setup ## start the mesh as `make run` does and drive it from outside
	$(PYTEST) -n $(MESHES) --dist loadfile tests/e2e

check: setup lint types layers native-check protos-check ## everything that is checked without running it

lint: ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

fmt: ## rewrite to the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: ## mypy --strict
	$(BIN)/mypy services clients/python tests benchmarks tools examples deploy/docker

layers: ## who may import whom
	$(BIN)/lint-imports --no-cache

native-check: setup ## the bridge in C compiles without a warning
	@BRIDGE_CFLAGS=-Werror sh tools/bridge.sh .build/bridge-check

protos: ## regenerate protos/gen/python from protos/
	@sh tools/protos.sh

protos-check: ## contracts lint-clean, compatible with main, generated code fresh
	@sh tools/protos_check.sh

chart: setup ## the chart's values schema, out of what services can be told, Prometheus' rules and Grafana's dashboards; then helm's own lint
	$(BIN)/python -m tools.chart_schema
	$(BIN)/python -m tools.prometheus_rules
	$(BIN)/python -m tools.grafana_dashboards
	.build/helm/helm lint --strict deploy/helm/infermesh -f tests/data/chart/full.yaml

clients: setup ## generate the TypeScript and Go clients from protos/, compile the first
	@sh tools/clients.sh

console: setup ## check and build the console at /console out of console/
	@sh tools/console.sh

bench: setup ## the mesh against bare Triton, in the same run; benchmarks/README.md says how
	@exec $(BIN)/python -m benchmarks $(ARGS)

lock: ## resolve requirements/*.in into lock files
	@sh tools/lock.sh .build/uv/bin/uv

clean-data: ## forget all data of the local mesh
	@$(BIN)/python -m services.supervisor clean-data

clean: ## remove everything that setup made
	rm -rf .venv .venv-serving .build .tools
