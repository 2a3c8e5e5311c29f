# Each target sets up what it needs, and can be run again at no cost. `make` alone lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# What virtual machines need, and what the tests compare with.
PACKAGES := qemu-system-x86 e2fsprogs busybox-static python3-venv skopeo umoci docker-registry buildah debootstrap bubblewrap libseccomp2
# On some systems a part of qemu-system-x86, on others a package of its own.
VIRTIOFSD = command -v virtiofsd || test -x /usr/libexec/virtiofsd || test -x /usr/lib/qemu/virtiofsd
INSTALLED = command -v qemu-system-x86_64 && { $(VIRTIOFSD); } && command -v skopeo && command -v umoci \
	&& command -v bwrap && command -v docker-registry && command -v buildah \
	&& PATH="$$PATH:/usr/sbin:/sbin" command -v debootstrap && busybox true \
	&& PATH="$$PATH:/usr/sbin:/sbin" command -v mke2fs && $(PYTHON) -c 'import ensurepip, venv'

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup packages demo test lint proto bench docs lab lab-shell lab-bench clean

help:
	@echo "make setup   install everything into $(VENV), and the missing system packages"
	@echo "make demo    run a few commands in a real virtual machine"
	@echo "make test    run the checks and the tests, those in virtual machines included"
	@echo "make lint    run the checks alone: ruff, mypy, import-linter"
	@echo "make proto   generate the code of proto/boxlite/v1 again"
	@echo "make bench   measure, and print ratios"
	@echo "make lab     run the tests that need a /dev/kvm in a machine that has one, see docs/lab.md"
	@echo "make lab-bench   measure boxes there, beside bare libkrun; PEERS='boxlite ...' beside other packages too;"
	@echo "                 BOXES='--samples 0.3' measures less"
	@echo "make lab-shell CMD='...'   run a command in a machine that has a /dev/kvm, see docs/lab.md"
	@echo "make docs    write the reference, made from docstrings, to build/reference"
	@echo "make clean   remove $(VENV) and caches"

setup: $(VENV)/.complete

packages:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed: install it, then name it: make PYTHON=python3.12 ..." >&2; exit 1; }
	@{ $(INSTALLED); } >/dev/null 2>&1 || { \
		command -v apt-get >/dev/null || { \
			echo "install these with your system's package manager, then try again: $(PACKAGES) virtiofsd" >&2; exit 1; }; \
		[ "$$(id -u)" = 0 ] || command -v sudo >/dev/null || { \
			echo "run this as root, then try again: apt-get install $(PACKAGES)" >&2; exit 1; }; \
		echo "installing system packages: $(PACKAGES)"; \
		$(SUDO) apt-get update -qq && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(PACKAGES) \
			$$(apt-cache show virtiofsd >/dev/null 2>&1 && echo virtiofsd) \
			>$(or $(TMPDIR),/tmp)/boxlite-apt.log 2>&1 || { \
			cat $(or $(TMPDIR),/tmp)/boxlite-apt.log >&2; \
			echo "apt-get failed; run it by hand, then try again: apt-get install $(PACKAGES)" >&2; exit 1; }; \
	}

$(VENV)/.complete: pyproject.toml | packages
	@echo "installing Python packages into $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { echo "cannot make $(VENV): install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --editable '.[krun,dev]' || { \
		echo "pip failed: is a package index within reach?" >&2; exit 1; }
	@touch $@

demo: setup
	@$(BIN)/python docs/examples/demo.py

test: lint
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: setup
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --quiet --check
	$(BIN)/mypy
	$(BIN)/mypy docs/examples/*.py
	$(BIN)/lint-imports

proto: setup
	$(BIN)/python -m proto.generate

bench: setup
	@$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python -m benchmarks actors
	$(BIN)/python -m benchmarks simulation
	$(BIN)/python -m benchmarks boxes

lab: setup
	$(BIN)/python -m lab test

lab-bench: setup
	@mkdir -p build
	$(BIN)/python -m lab run -- python -m benchmarks boxes --engine krun --lab $(BOXES) --json - >build/performance-krun.part
	@mv build/performance-krun.part build/performance-krun.json
	@echo "build/performance-krun.json has the rows, and python -m benchmarks report makes a page of them: see docs/lab.md"
	$(BIN)/python -m lab bench --only ours libkrun $(PEERS) --rounds $(or $(ROUNDS),1)

lab-shell: setup
	@$(BIN)/python -m lab run -- sh -c '$(or $(CMD),boxlite doctor)'

docs: setup
	@$(BIN)/pdoc boxlite actors --docformat google --output-directory build/reference
	@echo "open build/reference/index.html"

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
