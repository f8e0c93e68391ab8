# Every target works as the very first command in a fresh clone. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help build test demo lint clean

# make build ROS=jazzy PYTHON=python3.12
export ROS PYTHON
# make demo DATA=root VERSION=v1.0-mini SCENE=scene-0061
DATA ?=
VERSION ?=
SCENE ?=
# make test TESTS='test/sensors -k dead'
TESTS ?=

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

build: ## .venv with everything; ROS=jazzy for those wheels, PYTHON=python3.12 for that interpreter
	@tools/bootstrap.sh

# Tests that start ROS nodes and processes run one after the other, by the clock; the others two at a time.
WITH_ROS := test/nodes test/launch $(addprefix test/cli/test_,ask.py drive.py replay.py up.py)

test: build ## all tests; TESTS='...' passes arguments to pytest
ifeq ($(strip $(TESTS)),)
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadfile $(addprefix --ignore=,$(WITH_ROS))
	.venv/bin/python -m pytest $(WITH_ROS)
else
	.venv/bin/python -m pytest $(TESTS)
endif

demo: build ## replay through the stack, report in out/demo/; DATA=root VERSION=v1.0-mini SCENE=scene-0061 for nuScenes
	.venv/bin/python -m sparseoccvla_ros.cli.demo $(if $(DATA),--data '$(DATA)') $(if $(VERSION),--version '$(VERSION)') $(if $(SCENE),--scene '$(SCENE)')

lint: build ## style and common errors
	.venv/bin/ruff check
	.venv/bin/ruff format --check

clean: ## everything that was built or written
	rm -rf .venv build install log out dist *.egg-info .pytest_cache .ruff_cache
	find sparseoccvla_ros test tools examples launch -name __pycache__ -prune -exec rm -rf {} +
