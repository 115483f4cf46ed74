# Each target does its own set-up. PYTHON chooses the interpreter (3.11 or newer, with venv).
PYTHON ?= python3
BIN := .venv/bin
COMPILED := build/compiled
STAMP := .venv/.stamp
KUBECTL := $(BIN)/kubectl
PEERS := $(BIN)/granian
MKDOCS := $(BIN)/mkdocs
PROVIDER := tests/peers/oidc-provider/node_modules/.stamp
COMPILER := $(BIN)/cython
WORKERS ?= auto
SOAK_SECONDS ?= 600

.PHONY: setup installed demo test e2e soak check compiled test-compiled soak-compiled docs docs-serve bench kube-apiserver format lock clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "aggmw needs Python 3.11 or newer; set PYTHON=…")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "setting up .venv (about a minute)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]' --group dev
	@touch $(STAMP)

$(KUBECTL): $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group e2e
	@touch $(KUBECTL)

# Everything that comes from elsewhere, for what decides whether a change lands.
installed: $(STAMP) $(KUBECTL) $(PROVIDER) $(COMPILER) $(MKDOCS)

demo: $(STAMP)
	@$(BIN)/aggmw demo

test: $(STAMP)
	@$(BIN)/python -m pytest -n $(WORKERS) --durations=10 --ignore=tests/e2e

# The OpenID provider that the end-to-end tests sign in with.
$(PROVIDER): tests/peers/oidc-provider/package.json
	@cd tests/peers/oidc-provider && npm install --no-audit --no-fund --no-package-lock --loglevel=error >/dev/null
	@touch $(PROVIDER)

e2e: $(STAMP) $(KUBECTL) $(PROVIDER)
	@$(BIN)/python -m pytest --durations=10 tests/e2e

soak: $(STAMP)
	@$(BIN)/python -m pytest --whole tests/soak
	@$(BIN)/python -m tests.soak --seconds $(SOAK_SECONDS)

check: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy tests/typing/api.py
	@$(BIN)/lint-imports --no-cache

compiled: $(COMPILED)/.stamp

$(COMPILER): $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group compiled
	@touch $(COMPILER)

# A wheel of the same sources with compiled modules, installed beside the plain package: PYTHONPATH=build/compiled uses it.
$(COMPILED)/.stamp: $(STAMP) $(COMPILER) hatch_build.py $(shell find src -name '*.py')
	@echo "compiling (half a minute)"
	@rm -rf build
	@HATCH_BUILD_HOOK_ENABLE_CUSTOM=true $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation -w build .
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(COMPILED) build/*.whl
	@PYTHONPATH=$(COMPILED) $(BIN)/aggmw version
	@touch $@

# Those that read sources, docs or types would read the same ones; those of real clients are run against the plain package.
NOT_COMPILED := docs e2e examples bench typing test_architecture.py test_readme.py test_typing.py

test-compiled: $(COMPILED)/.stamp
	@PYTHONPATH=$(COMPILED) $(BIN)/python -m pytest -n $(WORKERS) $(NOT_COMPILED:%=--ignore=tests/%)

soak-compiled: $(COMPILED)/.stamp
	@PYTHONPATH=$(COMPILED) $(BIN)/python -m pytest --whole tests/soak
	@PYTHONPATH=$(COMPILED) $(BIN)/python -m tests.soak --seconds $(SOAK_SECONDS)

$(MKDOCS): $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group docs
	@touch $(MKDOCS)

docs: $(STAMP) $(MKDOCS)
	@NO_MKDOCS_2_WARNING=1 $(MKDOCS) build --strict --quiet
	@echo "built site/index.html"

docs-serve: $(STAMP) $(MKDOCS)
	@NO_MKDOCS_2_WARNING=1 $(MKDOCS) serve

$(PEERS): $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group bench && touch $(PEERS) \
		|| echo "peers cannot be installed: measuring without those that are missing"

bench: $(STAMP) $(PEERS)
	@$(MAKE) --no-print-directory compiled || echo "cannot be compiled: measuring the plain package alone"
	@$(BIN)/python -m benchmarks

# The peer of P3K: Kubernetes' own API server, built from Go modules (ten minutes on two cores, two GiB of modules).
kube-apiserver: .cache/benchmarks/kube-apiserver

.cache/benchmarks/kube-apiserver: $(wildcard benchmarks/peers/kube_apiserver/*)
	@mkdir -p $(@D)
	@cd benchmarks/peers/kube_apiserver && go build -trimpath -ldflags '-s -w' -o $(abspath $@) .

format: $(STAMP)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: $(STAMP)
	@{ echo '# Versions that development and CI use (names and versions only). `make lock` renews it.'; $(BIN)/python -m pip freeze --exclude-editable; } > constraints.txt

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist site
