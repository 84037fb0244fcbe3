# HTC-Grid: everything a newcomer runs. Needs Python 3.11 or newer and make; brings the rest itself.

.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

# The first Python on the PATH that is new enough; override with `make PYTHON=/path/to/python3.12`.
ifndef PYTHON
PYTHON := $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$python; exit; fi; done; echo python3)
endif

export UV_PYTHON_DOWNLOADS := never
export UV_NO_PROGRESS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

UV := .tools/uv/bin/uv
VENV := .venv/.installed
MINISTACK := .tools/ministack/.installed
SAM := .tools/sam/.installed
SECOND_OPINION := .tools/second-opinion/.jars .tools/second-opinion/.dynoxide
KUBERNETES := .tools/kubernetes/.cluster .tools/kubernetes/.tools
# The runtime client for Node.js, which only the tests of Node.js handlers need, is built where all of these are.
NODE_TOOLS := node npm cmake autoconf automake libtoolize g++
NODE_LACKS := $(strip $(foreach tool,$(NODE_TOOLS),$(if $(shell command -v $(tool)),,$(tool))))
NODE := $(if $(NODE_LACKS),node-is-left-out,.tools/node/.installed)

PACKAGES := $(patsubst %/pyproject.toml,%,$(wildcard */pyproject.toml))
# mypy refuses a folder without Python files.
with-python = $(foreach folder,$(wildcard $(1)),$(if $(shell find $(folder) -name '*.py' -print -quit),$(folder)))
TYPED := $(call with-python,$(addsuffix /src,$(PACKAGES)) $(addsuffix /tests,$(PACKAGES)) functions tests examples benchmarks) conftest.py

.PHONY: help
help: ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

GRID := $(VENV) $(MINISTACK) $(SAM)

.PHONY: install
install: $(GRID) $(NODE) ## build .venv and .tools (a second run does nothing)

.PHONY: demo
demo: $(GRID) ## start a whole grid on this machine and value a portfolio on it
	HTCGRID_HOME="$${HTCGRID_HOME:-$(CURDIR)/.htcgrid/demo}" .venv/bin/python examples/portfolio/demo.py

# Two workers per processor, since tests wait most of their time; each starts embedded AWSs of its own, so more than four
# would only take memory.
WORKERS ?= $(shell getconf _NPROCESSORS_ONLN | awk '{print ($$1 > 1) ? 4 : 2}')
PYTEST := .venv/bin/pytest --numprocesses $(WORKERS)

.PHONY: test
test: install ## run all tests
	$(PYTEST) $(ARGS)

.PHONY: unit
unit: $(VENV) ## run the tests that need no grid
	$(PYTEST) -m 'not grid' $(ARGS)

# Where a tool is missing, this says so; where CI=true, that is an error.
.PHONY: test-second-opinion
test-second-opinion: install ## run the tests of queues and rows on ElasticMQ and Dynoxide (needs Java, Maven, cargo)
	@.venv/bin/python -m tests.second_opinion.tools || { test "$(CI)" != true; exit; }; \
	$(MAKE) --no-print-directory $(SECOND_OPINION) && \
	$(PYTEST) --second-opinion chunks/tests controlplane/tests agent/tests tests/second_opinion $(ARGS)

# Agents start in environments of their own making, which carry no variable of ours. So for as long as the run takes,
# every Python of .venv is told to measure itself when it starts, and so is that of the embedded AWS.
MEASURED := $(PACKAGES) functions
# Where something is missing, this says so; where CI=true, that is an error.
.PHONY: test-kubernetes
test-kubernetes: install ## run the tests on a real cluster (needs root, Go 1.26, and packages that it names)
	@.venv/bin/python -m tests.kubernetes.tools || { test "$(CI)" != true; exit; }; \
	$(MAKE) --no-print-directory $(KUBERNETES) && \
	.venv/bin/python -m tests.kubernetes.prepare && \
	.venv/bin/python -m tests.kubernetes .venv/bin/pytest tests/kubernetes $(ARGS)

.PHONY: coverage
coverage: install ## run the tests and tell what they reach, in agents, commands and functions too
	rm -rf .coverage .coverage.* .tools/lent
	places='import sysconfig; print(sysconfig.get_path("purelib"))'; \
	ours="$$(.venv/bin/python -c "$$places")"; theirs="$$(.tools/ministack/bin/python -c "$$places")"; \
	trap 'rm -rf "$$ours/a0_measure.pth" "$$theirs/a0_measure.pth" .tools/lent' EXIT; \
	mkdir .tools/lent && ln -s "$$ours/coverage" .tools/lent/coverage; \
	printf '%s' 'import os; os.environ.setdefault("COVERAGE_PROCESS_START", "$(CURDIR)/pyproject.toml");' \
		'os.environ["COVERAGE_FILE"] = "$(CURDIR)/.coverage"' >"$$ours/a0_measure.pth"; \
	printf '%s' 'import sys; sys.path.append("$(CURDIR)/tests/support"); import measured_functions;' \
		'measured_functions.start("$(CURDIR)/.tools/lent")' >"$$theirs/a0_measure.pth"; \
	$(PYTEST) $(ARGS)
	.venv/bin/coverage combine --quiet; rm -f .coverage.* # what was killed while it saved
	.venv/bin/coverage report
	@for part in $(MEASURED); do \
		echo "$$part: $$(.venv/bin/coverage report --include="$$part/*" --format=total || true) %"; done

.PHONY: bench
bench: $(GRID) ## measure a grid on this machine, and others beside it (BENCH=full for larger sessions)
	.venv/bin/python -m benchmarks $(if $(filter full,$(BENCH)),--full)

.PHONY: chaos
chaos: $(GRID) ## disturb a grid in every way and check what must always hold (SEED=…, MINUTES=…, STORE=…, RECOVERY=1)
	.venv/bin/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) \
		$(if $(STORE),--store $(STORE)) $(if $(RECOVERY),--recovery)

TEMPLATES := template.yaml partition.yaml network.yaml eks/cluster.yaml eks/node-group.yaml

.PHONY: lint
lint: $(VENV) $(SAM) ## ruff, import contracts, mypy --strict, hadolint, cfn-lint, sam validate
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	PYTHONPATH=$(CURDIR) .venv/bin/lint-imports --no-logo --no-cache
	.venv/bin/mypy --strict $(TYPED)
	.venv/bin/hadolint $(wildcard eks/images/*/Dockerfile)
	.venv/bin/cfn-lint $(TEMPLATES)
	for template in $(TEMPLATES); do \
		SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 .tools/sam/bin/sam validate --lint --template-file $$template; done

# Apart from lint, because it brings a hundred packages for the sake of a few files.
.PHONY: checkov
checkov: .tools/checkov/.installed $(VENV) ## check the templates and what the chart renders against the rules of checkov
	.tools/checkov/bin/checkov --config-file .checkov.yaml --file $(TEMPLATES)
	rm -rf .tools/rendered && PYTHONPATH=$(CURDIR) .venv/bin/python -m eks.tests.rendering .tools/rendered
	.tools/checkov/bin/checkov --config-file .checkov.yaml --framework kubernetes --directory .tools/rendered

# Not locked, since its answers change with its database anyway; it installs nothing of what it reads.
.PHONY: audit
audit: $(UV) ## ask a database for known weaknesses of all locked packages (needs the network)
	for name in uv dev functions ministack sam checkov node_drainer $(IMAGE_LOCKS); do \
		$(UV) tool run pip-audit --disable-pip --require-hashes --progress-spinner off -r requirements/$$name.txt; done

.PHONY: format
format: $(VENV) ## format the code and mend what ruff can mend
	.venv/bin/ruff check --fix-only .
	.venv/bin/ruff format .

# Hashes and no addresses, so that the locks hold against any mirror. boto3's own tree stays out of the layer:
# the Lambda runtime brings it.
COMPILE := $(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate

# What images hold; in the versions that the tests run with.
IMAGE_LOCKS := agent client controller worker-python

.PHONY: lock
lock: $(UV) ## lock requirements/*.in anew (versions move)
	for name in uv dev ministack sam checkov; do $(COMPILE) requirements/$$name.in -o requirements/$$name.txt; done
	$(COMPILE) $(addprefix --no-emit-package ,botocore python-dateutil six urllib3) \
		requirements/functions.in -o requirements/functions.txt
	for name in node_drainer $(IMAGE_LOCKS); do $(COMPILE) --constraint requirements/dev.txt \
		requirements/$$name.in -o requirements/$$name.txt; done
	$(if $(shell command -v npm),cd requirements/node && npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund)

# Built by the locked hatchling of .venv, so that nothing unlocked takes part; the sums say what was built.
.PHONY: dist
dist: $(VENV) ## build the packages' wheels, and their hashes, into dist
	rm -rf dist
	for package in $(PACKAGES); do \
		$(UV) build --quiet --wheel --no-build-isolation --python .venv --out-dir dist $$package; done
	cd dist && sha256sum *.whl >SHA256SUMS && cat SHA256SUMS

# Whichever builder is there; they know the same words. TAG is the project's version unless given, BASE the Dockerfile's own.
IMAGES := $(patsubst eks/images/%/Dockerfile,%,$(wildcard eks/images/*/Dockerfile))
REGISTRY := localhost/htcgrid
TAG := $(shell sed -n 's/^VERSION = "\(.*\)"/\1/p' events/src/htcgrid_events/version.py)
REVISION := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
.PHONY: images
images: ## build images (IMAGES="agent client", REGISTRY=…, TAG=…, BASE=…, ARGS=… for the builder's own options)
	@if docker info >/dev/null 2>&1; then builder=docker; \
	elif command -v podman >/dev/null; then builder=podman; \
	elif command -v buildah >/dev/null; then builder=buildah; \
	else echo "make images needs docker with its daemon, podman or buildah: install one of them." >&2; exit 1; fi; \
	$(MAKE) --no-print-directory dist >/dev/null; \
	for image in $(IMAGES); do \
		$$builder build --file eks/images/$$image/Dockerfile --tag "$(REGISTRY)/$$image:$(TAG)" \
			$(if $(BASE),--build-arg "BASE=$(BASE)") --build-arg "VERSION=$(TAG)" --build-arg "REVISION=$(REVISION)" \
			$(ARGS) .; done

.PHONY: clean
clean: ## remove everything that make built
	rm -rf .venv .tools dist .aws-sam .htcgrid .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# --- environments: each is rebuilt when its lock changes, and its stamp says that it is whole ---

$(UV): requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "HTC-Grid needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Install one, or name it: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "This Python cannot make virtual environments. Run: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear .tools/uv
	.tools/uv/bin/pip install --quiet --require-hashes -r requirements/uv.txt
	@touch $@

# Locked packages and the project's own are two steps, so that a changed pyproject.toml costs a second only.
.venv/.locked: requirements/dev.txt | $(UV)
	test -x .venv/bin/python || $(UV) venv --quiet --python $(PYTHON) .venv
	$(UV) pip sync --quiet --python .venv --require-hashes requirements/dev.txt
	@touch $@

$(VENV): .venv/.locked $(addsuffix /pyproject.toml,$(PACKAGES)) events/src/htcgrid_events/version.py
	$(UV) pip install --quiet --python .venv --no-deps --no-build-isolation $(addprefix -e ./,$(PACKAGES))
	@touch $@

.tools/%/.installed: requirements/%.txt | $(UV)
	test -x .tools/$*/bin/python || $(UV) venv --quiet --python $(PYTHON) .tools/$*
	$(UV) pip sync --quiet --python .tools/$* --require-hashes $<
	@touch $@

.PHONY: node-is-left-out
node-is-left-out:
	@echo "The tests of Node.js handlers will be skipped; all else works. They need: $(NODE_LACKS)." \
		"Install these and run make install again." >&2

# It has a part in C++, which is compiled against the headers beside the node on the PATH. Where that fails, all else
# works, so it only says so, and the next make install tries again. Its own makefiles must not see this make's flags.
.tools/node/.installed: requirements/node/package-lock.json
	rm -rf $(@D) && mkdir -p $(@D)
	cp requirements/node/package.json requirements/node/package-lock.json $(@D)
	prefix=$$(dirname "$$(dirname "$$(readlink -f "$$(command -v node)")")"); \
	if test -f "$$prefix/include/node/node.h"; then export npm_config_nodedir="$$prefix"; fi; \
	export MAKEFLAGS="-j$$(getconf _NPROCESSORS_ONLN)"; unset MAKELEVEL MFLAGS; \
	if npm ci --prefix $(@D) --no-audit --no-fund --fetch-retries=1 >$(@D)/install.log 2>&1 \
		&& test -f $(@D)/node_modules/aws-lambda-ric/dist/rapid-client.node; then touch $@; else \
		echo "aws-lambda-ric could not be built, so the tests of Node.js handlers will be skipped; all else works." \
			"$(@D)/install.log says what went wrong." >&2; fi

# Maven and cargo fetch the pinned servers and what these depend on; cargo compiles its one, for some minutes, unless it
# has that version already.
.tools/second-opinion/.jars: requirements/second-opinion/pom.xml
	rm -rf $(@D)/jars
	mvn --batch-mode --quiet --strict-checksums --file $< dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$(@D)/jars
	@touch $@

.tools/second-opinion/.dynoxide: requirements/second-opinion/crate.txt
	nice cargo install --quiet --locked $$(cat $<) --root $(@D)/cargo --target-dir $(@D)/cargo/build \
		--no-default-features --features native-sqlite,http-server,cli
	rm -rf $(@D)/cargo/build
	@touch $@

# Kubernetes and what scales on it, compiled from the modules that two go.mod files name. They are two, since KEDA asks for
# a newer API of etcd than the etcd of this Kubernetes compiles with. The definitions that these programs read and
# the API server is told lie in their modules. The first time takes from ten to thirty minutes and 4 GB of memory.
GO_BUILD := CGO_ENABLED=0 nice go build -trimpath -buildvcs=false
KUBERNETES_VERSION = $$(cd $(<D) && go list -m -f '{{.Version}}' k8s.io/kubernetes)
.tools/kubernetes/.cluster: $(addprefix tests/kubernetes/cluster/,go.mod go.sum main.go pause/main.go)
	mkdir -p $(@D)/bin
	version=$(KUBERNETES_VERSION); set=-X=k8s.io/component-base/version.git; \
	cd $(<D) && $(GO_BUILD) -ldflags "-s -w $${set}Version=$$version $${set}Major=1 $${set}Minor=$$(cut -d. -f2 <<<$$version)" \
		-o $(CURDIR)/$(@D)/bin/cluster . && $(GO_BUILD) -ldflags '-s -w' -o $(CURDIR)/$(@D)/bin/pause ./pause
	@touch $@

GO_TOOLS := github.com/kedacore/keda/v2/cmd/operator=keda-operator github.com/kedacore/keda/v2/cmd/adapter=keda-adapter \
	sigs.k8s.io/kwok/cmd/kwok=kwok sigs.k8s.io/karpenter/kwok=karpenter
# Folder below definitions, module, folder in it.
GO_DEFINITIONS := keda=github.com/kedacore/keda/v2=config/crd/bases kwok=sigs.k8s.io/kwok=kustomize/stage \
	karpenter/kwok=sigs.k8s.io/karpenter=kwok/apis/crds karpenter/aws=github.com/aws/karpenter-provider-aws=pkg/apis/crds
.tools/kubernetes/.tools: $(addprefix tests/kubernetes/tools/,go.mod go.sum crds.go)
	mkdir -p $(@D)/bin && rm -rf $(@D)/definitions
	cd $(<D) && for tool in $(GO_TOOLS); do $(GO_BUILD) -ldflags '-s -w' -o $(CURDIR)/$(@D)/bin/$${tool#*=} $${tool%=*}; done
	cd $(<D) && for part in $(GO_DEFINITIONS); do IFS='=' read -r name module folder <<<"$$part"; \
		mkdir -p $(CURDIR)/$(@D)/definitions/$$name; \
		cp -r --no-preserve=mode "$$(go list -m -f '{{.Dir}}' $$module)/$$folder/." $(CURDIR)/$(@D)/definitions/$$name; done
	@touch $@
