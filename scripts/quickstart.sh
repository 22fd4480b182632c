#!/usr/bin/env bash
# `synthset quickstart` in a clone, where nothing is installed yet: 40 photos of a field, pairs that a model draws of it,
# and what they are worth, on one page, quickstart/index.html. Takes the flags of the command.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
synthset quickstart "$@"
