# What people run. Everything here works on a clean clone: tools/ and sandbox/ install what is missing.
.POSIX:
.PHONY: help demo test test-fast lint preview deploy drift unlock sandbox new-app reference faults bench transcript clean

PYTHON = .venv/bin/python
WORKFLOWS = templates/gitops/github/.github/workflows
SHELL_SCRIPTS = .ci/run releve policy/pack templates/gitops/hook/post-receive tests/server/docker_stub.sh server/in_container/*.sh $$(grep -rlE '^\#!/bin/(sh|bash)' tools sandbox) $$(find tools sandbox -name '*.sh')

help:
	@echo 'make demo       fresh machine to a release that serves, and back, on a sandbox on this machine'
	@echo 'make test       everything: lint, types, unit, server, engine, e2e'
	@echo 'make test-fast  what needs no Docker, in under a minute'
	@echo 'make preview    STACK=prod: the plan, under the policy pack; leaves it in .releve/gitops/prod/'
	@echo 'make deploy     STACK=prod RELEVE_APPROVED=<fingerprint>: previews again, and rolls out just that'
	@echo 'make drift      STACK=prod: what is no longer as it was released'
	@echo 'make unlock     STACK=prod: removes the lock that a killed rollout has left on the state'
	@echo 'make sandbox    a registry and a server to try things on; then: sandbox/run pulumi up -s local'
	@echo 'make new-app    DIR=../my-app: a production Dockerfile and Compose file for an application that has none'
	@echo 'make reference  writes docs/configuration.md, docs/stack.schema.json and docs/gitops.svg'
	@echo 'make faults     everything that can go wrong in a rollout, at each of its parts; writes docs/faults.md'
	@echo 'make bench      measures builds, previews and rollouts on the sandbox, and writes docs/benchmark.md'
	@echo 'make transcript records what a terminal shows of a release on the sandbox; writes docs/transcript.md'
	@echo 'make clean      removes what the others made in this checkout, and the sandbox'

demo:
	tools/python-env
	sandbox/up
	$(PYTHON) sandbox/demo

# Three at a time, a file each: most of a test is waiting for a server. Each has a sandbox of its own.
test: lint
	$(PYTHON) -m pytest --numprocesses 3 --dist loadfile tests/unit tests/server tests/engine tests/e2e

# Of tests/server a few: each of its cases starts the program and docker's stub many times.
QUICK = requests profiles pull_policy kept_images
test-fast: lint
	$(PYTHON) -m pytest --numprocesses 2 tests/unit $(QUICK:%=tests/server/test_%.py)

lint:
	tools/python-env
	.venv/bin/ruff check --quiet .
	.venv/bin/ruff format --quiet --check .
	.venv/bin/mypy .
	.venv/bin/vermin --quiet --violations --no-tips --target=3.9- server
	.venv/bin/vermin --quiet --violations --no-tips --target=3.5- server/bootstrap.py
	.venv/bin/shellcheck --external-sources $(SHELL_SCRIPTS)
	.venv/bin/zizmor --quiet --offline $(WORKFLOWS)
	tools/actionlint $(WORKFLOWS)/*.yml
	.venv/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows $(WORKFLOWS)/*.yml
	.venv/bin/check-jsonschema --quiet --builtin-schema vendor.renovate templates/gitops/github/.github/renovate.json
	.venv/bin/check-jsonschema --quiet --builtin-schema vendor.gitlab-ci --data-transform gitlab-ci \
	    templates/gitops/gitlab/.gitlab-ci.yml

# With the engine that tools/ gets, where there is none on PATH.
WITH_PULUMI = tools/python-env && PATH="$$PWD/.venv/bin:$$(tools/engine | tail -n 1):$$PATH"

preview:
	@$(WITH_PULUMI) ./releve gitops preview --stack '$(STACK)'

# RELEVE_APPROVED arrives in the environment, also from make's command line.
deploy:
	@$(WITH_PULUMI) ./releve gitops deploy --stack '$(STACK)'

drift:
	@$(WITH_PULUMI) ./releve gitops drift --stack '$(STACK)'

unlock:
	@$(WITH_PULUMI) ./releve unlock --stack '$(STACK)'

sandbox:
	tools/python-env
	sandbox/up

new-app:
	@tools/new-app '$(DIR)'

reference:
	tools/python-env
	$(PYTHON) -m configuration.reference
	$(PYTHON) -m gitops.picture

faults:
	tools/python-env
	rm -rf .releve/faults
	RELEVE_FAULTS=all $(PYTHON) -m pytest --numprocesses 2 tests/e2e/faults tests/e2e/test_rolling.py \
	    -k 'faults or whatever_is_killed'; \
	status=$$?; $(PYTHON) -m tests.e2e.faults.report && exit $$status

bench:
	tools/python-env
	sandbox/up
	sandbox/run $(PYTHON) -m benchmark.build docs/benchmark.md
	sandbox/run $(PYTHON) -m benchmark.rollouts docs/benchmark.md
	sandbox/run $(PYTHON) -m benchmark.load docs/benchmark.md
	sandbox/run $(PYTHON) -m benchmark.speed docs/benchmark.md

transcript:
	tools/python-env
	sandbox/up
	sandbox/run $(PYTHON) sandbox/transcript

clean:
	sandbox/down
	for sandbox in .sandbox-tests*; do RELEVE_SANDBOX=$$sandbox sandbox/down; done
	rm -rf .releve .mypy_cache .ruff_cache .pytest_cache
	rm -f .venv
