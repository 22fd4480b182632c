#!/usr/bin/env bash
# Checks style and runs every test, in an environment that it makes itself.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
ruff check .
ruff format --check .
python -m pytest "$@"
