#!/usr/bin/env bash
# Checks style and types and runs every test, a process for each core, in an environment that it makes itself.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
ruff check .
ruff format --check .
mypy
export OMP_NUM_THREADS=1
python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder "$@"
