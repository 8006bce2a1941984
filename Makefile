# make demo       a picture from the embedded model, drawn inside a real ComfyUI: output/demo.png
# make ui         ComfyUI with this pack, left running
# make test       every quick check        make test-full   also the slow ones and ComfyUI 0.3.52
# make tokens     whether every example draws the same tokens in each ComfyUI
# make campaign   odd calls, damaged files, random graphs, kills: MINUTES=60 SEED=0; the same again goes on where it was
# make lint       style                    make workflows   builds workflows/ anew
# make bench-comfyui   what the pack costs inside ComfyUI: its start, and a step beyond the same without ComfyUI
#
# make gpu-report   tests and tables of a CUDA card, written to docs/gpu.md
#
# COMFYUI_DIR=/path/to/ComfyUI             use that ComfyUI; its own venv, or COMFYUI_PYTHON, runs it for demo and ui,
#                                          an environment on top of .venv for the tests, and where it has no venv
# COMFYUI_FRONTEND=/path/to/static         the browser tests' frontend; the newest, or with COMFYUI_DIR that ComfyUI's own
# COMFYUI_ARGS=                            arguments of ComfyUI's main.py; --cpu unless you say otherwise

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

ROOT := $(CURDIR)
PYTHON ?= python3
VENV := $(ROOT)/.venv
BIN := $(VENV)/bin
PIP_INSTALL := -m pip install --disable-pip-version-check
COMFYUI_ARGS ?= --cpu
MINUTES ?= 60
SEED ?= 0
NEWEST := 0.3.75
OLDEST := 0.3.52
# The newest frontend of the package index, for the browser tests.
FRONTEND := $(ROOT)/.comfyui/frontend
STATIC := $(FRONTEND)/comfyui_frontend_package/static
OLD_VENV := $(ROOT)/.comfyui/$(OLDEST)/venv
# The floors of pyproject.toml; the oldest ComfyUI runs with them.
FLOORS := 'diffusers==0.33.*' 'transformers==4.50.3'

ifdef COMFYUI_DIR
  COMFYUI := $(abspath $(COMFYUI_DIR))
  LAYER := $(ROOT)/.comfyui/layer$(subst /,_,$(COMFYUI))
  TEST_PYTHON := $(LAYER)/bin/python
  TEST_READY := $(LAYER)/.ready
  COMFYUI_PYTHON ?= $(firstword $(wildcard $(COMFYUI)/.venv/bin/python $(COMFYUI)/venv/bin/python) $(TEST_PYTHON))
  LINKED := $(ROOT)/.comfyui/existing$(subst /,_,$(COMFYUI))
  COMFYUI_READY := $(if $(filter $(TEST_PYTHON),$(COMFYUI_PYTHON)),$(TEST_READY),$(LINKED))
else
  COMFYUI := $(ROOT)/.comfyui/$(NEWEST)/ComfyUI
  COMFYUI_PYTHON ?= $(BIN)/python
  COMFYUI_READY := $(ROOT)/.comfyui/$(NEWEST)/.ready
  TEST_PYTHON := $(BIN)/python
  TEST_READY := $(COMFYUI_READY)
  COMFYUI_FRONTEND ?= $(STATIC)
  FRONTEND_READY := $(FRONTEND)/.ready
endif

# Somebody may have removed the pack's link in custom_nodes.
LINK := $(BIN)/python tools/install_comfyui.py --link

.PHONY: demo ui test test-full campaign tokens lint workflows bench-comfyui gpu-report clean

demo: $(COMFYUI_READY)
	@$(LINK) "$(COMFYUI)"
	@$(BIN)/python tools/demo.py "$(COMFYUI)" --python "$(COMFYUI_PYTHON)" $(COMFYUI_ARGS)

ui: $(COMFYUI_READY)
	@$(LINK) "$(COMFYUI)"
	@$(BIN)/python tools/ui.py "$(COMFYUI)" --python "$(COMFYUI_PYTHON)" $(COMFYUI_ARGS)

test: lint $(TEST_READY) $(FRONTEND_READY)
	@$(LINK) "$(COMFYUI)"
	COMFYUI_DIR="$(COMFYUI)" COMFYUI_FRONTEND="$(COMFYUI_FRONTEND)" $(TEST_PYTHON) -m pytest tests -m "not slow"

# The browser tests run with the newest frontend, and with the one that ComfyUI itself brings.
test-full: lint $(ROOT)/.comfyui/$(NEWEST)/.ready $(ROOT)/.comfyui/$(OLDEST)/.ready $(FRONTEND)/.ready
	@$(LINK) "$(ROOT)/.comfyui/$(NEWEST)/ComfyUI" "$(ROOT)/.comfyui/$(OLDEST)/ComfyUI"
	COMFYUI_DIR="$(ROOT)/.comfyui/$(NEWEST)/ComfyUI" COMFYUI_FRONTEND="$(STATIC)" $(BIN)/python -m pytest tests
	COMFYUI_DIR="$(ROOT)/.comfyui/$(NEWEST)/ComfyUI" $(BIN)/python -m pytest tests/browser
	COMFYUI_DIR="$(ROOT)/.comfyui/$(OLDEST)/ComfyUI" $(OLD_VENV)/bin/python -m pytest tests -m "not slow" --ignore tests/browser

campaign: $(VENV)/.extras $(TEST_READY)
	@$(LINK) "$(COMFYUI)"
	COMFYUI_DIR="$(COMFYUI)" $(TEST_PYTHON) -m tests.campaign --minutes $(MINUTES) --seed $(SEED)

tokens: $(COMFYUI_READY) $(ROOT)/.comfyui/$(NEWEST)/.ready $(ROOT)/.comfyui/$(OLDEST)/.ready
	@$(LINK) "$(ROOT)/.comfyui/$(OLDEST)/ComfyUI" "$(ROOT)/.comfyui/$(NEWEST)/ComfyUI" "$(COMFYUI)"
	$(BIN)/python tools/token_hashes.py $(sort "$(ROOT)/.comfyui/$(OLDEST)/ComfyUI" "$(ROOT)/.comfyui/$(NEWEST)/ComfyUI" "$(COMFYUI)")

lint: $(VENV)/.extras
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

workflows: $(COMFYUI_READY)
	@$(LINK) "$(COMFYUI)"
	$(BIN)/python tools/build_workflows.py "$(COMFYUI)"

bench-comfyui: $(COMFYUI_READY)
	@$(LINK) "$(COMFYUI)"
	$(BIN)/python tools/bench_startup.py "$(COMFYUI)"
	$(BIN)/python tools/bench_comfyui.py "$(COMFYUI)"

gpu-report: $(VENV)/.extras
	$(BIN)/python -m pytest tests/core/model/test_gpu.py
	$(BIN)/amused bench --device cuda --shape 256 --output build/gpu-256
	$(BIN)/amused bench --device cuda --shape 512 --output build/gpu-512
	(printf '# Speed on a GPU\n\nWritten by `make gpu-report`.\n\n'; cat build/gpu-256/device.md build/gpu-512/device.md) > docs/gpu.md

clean:
	rm -rf .venv .comfyui build dist *.egg-info

# Every stamp is written last, so a step that was cut off runs again.
$(VENV)/.torch:
	@echo "== torch into .venv: up to 3 GB to download, 6 GB on the disk. pip is silent for a minute while it unpacks."
	@$(PYTHON) -m venv "$(VENV)"
	@began=$$SECONDS; $(BIN)/python $(PIP_INSTALL) torch torchvision; echo "== torch is there ($$((SECONDS - began)) s)"
	@touch $@

$(VENV)/.pack: $(VENV)/.torch pyproject.toml
	@echo "== amused with what it needs: about 40 MB to download"
	@began=$$SECONDS; $(BIN)/python $(PIP_INSTALL) --editable .; echo "== amused is there ($$((SECONDS - began)) s)"
	@touch $@

# What tests, style and training need, and the demo does not.
$(VENV)/.extras: $(VENV)/.pack
	@echo "== tools for tests and training: about 100 MB to download"
	@$(BIN)/python $(PIP_INSTALL) --editable '.[train,test]'
	@touch $@

$(ROOT)/.comfyui/$(NEWEST)/.ready: $(VENV)/.pack requirements.txt tools/install_comfyui.py
	@echo "== ComfyUI $(NEWEST) into .comfyui/: about 220 MB to download"
	@began=$$SECONDS; $(BIN)/python tools/install_comfyui.py $(NEWEST); echo "== ComfyUI is there ($$((SECONDS - began)) s)"
	@touch $@

$(ROOT)/.comfyui/$(OLDEST)/.ready: requirements.txt pyproject.toml tools/install_comfyui.py
	@echo "== ComfyUI $(OLDEST) with an environment of its own into .comfyui/"
	$(PYTHON) -m venv "$(OLD_VENV)"
	$(OLD_VENV)/bin/python $(PIP_INSTALL) torch torchvision
	$(OLD_VENV)/bin/python tools/install_comfyui.py $(OLDEST)
	$(OLD_VENV)/bin/python $(PIP_INSTALL) --editable '.[train,test]' $(FLOORS)
	@touch $@

$(ROOT)/.comfyui/layer%/.ready: $(VENV)/.pack requirements.txt tools/install_comfyui.py
	@echo "Installing what $(COMFYUI) needs into an environment on top of .venv"
	$(BIN)/python tools/install_comfyui.py --existing "$(COMFYUI)" --layer "$(@D)"
	@touch $@

$(FRONTEND)/.ready: $(VENV)/.torch
	@echo "== ComfyUI's newest frontend into .comfyui/frontend: about 30 MB"
	@$(BIN)/python $(PIP_INSTALL) --no-deps --upgrade --target "$(FRONTEND)" comfyui-frontend-package
	@touch $@

$(ROOT)/.comfyui/existing%: $(VENV)/.pack requirements.txt tools/install_comfyui.py
	$(BIN)/python tools/install_comfyui.py --existing "$(COMFYUI)" --python "$(COMFYUI_PYTHON)"
	@mkdir -p $(@D) && touch $@
