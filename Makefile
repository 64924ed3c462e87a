# `make help` lists the targets. Each does all of its own set-up, the first time only.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo serve stack triton test test-faults test-label-studio fuzz mutants check release check-images check-upgrade manifests sbom measure lock audit bench loadtest train ablate clean

BIN := .venv/bin
ARGS ?=
HOST ?= 127.0.0.1
PORT ?= 8000
TESTERS ?= 2
FAULT_SEEDS ?= 5
MINUTES ?= 10
VALUES ?= cpu
STACK_PORT ?= 8443
TRITON ?=
CHART := deploy/kubernetes/chart
HELM := .venv/tools/deploy/bin/helm

# Videos to train, evaluate and show with; everything works without them.
TAMVT_DATA ?= $(if $(wildcard ../shared/data),$(abspath ../shared/data),data)
export TAMVT_DATA
# ONNX Runtime sends reports to its makers otherwise.
export ORT_DISABLE_TELEMETRY := 1

# glibc gives large buffers back to the kernel after every inference and page-faults them in again:
# keep them. docs/operations.md says what it is worth.
KEEP_BLOCKS := THP_MEM_ALLOC_ENABLE=1 \
	GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592:glibc.malloc.top_pad=268435456

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 20

setup:  ## install everything: the service, torch, a Redis, the tools
	@scripts/setup everything

demo:  ## track objects through a video (VIDEO=... MASK=... takes your own); needs no torch
	@scripts/setup gateway
	@$(KEEP_BLOCKS) $(BIN)/tamvt demo $(if $(VIDEO),--video "$(VIDEO)") $(if $(MASK),--mask "$(MASK)") $(ARGS)

serve:  ## run the service on HOST and PORT (127.0.0.1, 8000); needs no torch
	@scripts/setup gateway
	@exec env $(KEEP_BLOCKS) $(BIN)/tamvt serve --host $(HOST) --port $(PORT) $(ARGS)

stack:  ## run Traefik with TLS, two gateways that ask for keys, a Redis; with TRITON=1 a Triton
	@scripts/setup deploy
	@scripts/setup gateway
	@$(if $(TRITON),scripts/setup triton && $(BIN)/tamvt-model export --triton .state/triton)
	@exec env $(KEEP_BLOCKS) $(BIN)/python -m scripts.deploy.stack --port $(STACK_PORT) \
		$(if $(TRITON),--triton .state/triton) $(ARGS)

triton:  ## serve the shipped model with a Triton on this machine, for TAMVT_ENGINE=triton
	@scripts/setup triton
	@$(BIN)/tamvt-model export --triton .state/triton
	@exec $(BIN)/tamvt triton .state/triton $(ARGS)

test: setup  ## run the tests, TESTERS (2) files at once (ARGS="-k words" picks some)
	@$(KEEP_BLOCKS) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TESTERS) --dist loadscope $(ARGS)

test-faults: setup  ## kill, pause and fill what the service runs on, FAULT_SEEDS (5) times each
	@$(KEEP_BLOCKS) FAULT_SEEDS=$(FAULT_SEEDS) $(BIN)/python -m pytest tests/faults $(ARGS)

test-label-studio: setup  ## try the ML backend behind a real Label Studio (minutes; the network)
	@$(BIN)/python -m scripts.try_label_studio

fuzz: setup  ## attack parsers and a real service with changed inputs (ARGS="--seed 1 --inputs 5000")
	@$(KEEP_BLOCKS) $(BIN)/python -m scripts.fuzz $(ARGS)

mutants: setup  ## break the code place by place: tests must notice (ARGS="--only drain"; an hour)
	@$(BIN)/python -m scripts.mutants $(ARGS)

check:  ## format, lint, types, direction of imports; images, Compose file, chart, dashboards, rules
	@scripts/setup checks
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m scripts.deploy.check
	@$(BIN)/python -m scripts.observability.check

check-upgrade:  ## upgrade from the release before with a mixed pair of gateways (needs the history)
	@scripts/setup everything
	@$(BIN)/python -m scripts.deploy.upgrade

release:  ## build wheels and tarball into dist/, and try each in an empty environment (minutes)
	@scripts/setup packages
	@$(BIN)/python -m scripts.deploy.release

check-images:  ## run each stage's steps of the Dockerfile without Docker (minutes; ARGS="--stage gateway")
	@scripts/setup everything
	@$(BIN)/python -m scripts.deploy.images $(ARGS)

manifests:  ## render the chart to build/manifests (VALUES=cpu, gpu or gpu-tensorrt; ARGS for helm)
	@scripts/setup deploy
	@mkdir -p build/manifests
	@$(HELM) template tamvt $(CHART) -n tamvt -f $(CHART)/values/$(VALUES).yaml $(ARGS) >build/manifests/rendered.yaml
	@cp deploy/kubernetes/overlay/*.yaml build/manifests
	@echo "build/manifests: kubectl apply -k build/manifests"

sbom:  ## write a bill of materials (CycloneDX) of each image's packages to build/sbom
	@scripts/setup packages
	@$(BIN)/python -m scripts.deploy.sbom build/sbom

measure:  ## print how well the house is kept (docs/architecture.md)
	@scripts/setup packages
	@$(BIN)/python -m scripts.measure_house

lock:  ## write the locks of requirements/ anew (minutes)
	@scripts/setup packages
	@$(BIN)/python -m scripts.lock

audit:  ## look for known faults in the locked dependencies
	@scripts/setup packages
	@$(BIN)/python -m scripts.audit

bench:  ## time the engine
	@scripts/setup gateway
	@$(KEEP_BLOCKS) $(BIN)/tamvt bench engine $(ARGS)

loadtest:  ## load the service in many ways, MINUTES (10) in all; tables and plots in build/loadtest
	@scripts/setup loadtests
	@$(KEEP_BLOCKS) $(BIN)/python -m loadtests --minutes $(MINUTES) $(ARGS)

train: setup  ## train a model (docs/training.md; ARGS holds the options)
	@$(KEEP_BLOCKS) $(BIN)/tamvt-model train $(ARGS)

ablate: setup  ## train and score the ablations (docs/ablations.md; ARGS="-o runs/ablations")
	@$(KEEP_BLOCKS) $(BIN)/tamvt-model ablate $(ARGS)

clean:  ## remove the virtual environment and what the tools left behind
	rm -rf .venv .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -prune -exec rm -rf {} +
