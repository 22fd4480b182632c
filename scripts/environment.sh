# Sourced by quickstart.sh and test.sh: a virtual environment in .venv with the package and its test extra, made on the
# first run and refreshed when setup.cfg changes.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! cmp -s setup.cfg .venv/installed-setup.cfg; then
    python=$(command -v python3) || { echo "error: python3 was not found; install Python 3.10 to 3.13" >&2; exit 1; }
    "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || {
        echo "error: $("$python" --version) is not supported; put Python 3.10 to 3.13 first in PATH" >&2; exit 1; }
    "$python" -m venv .venv || { echo "error: no venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
    echo "Installing synthset and its dependencies into .venv (several GB on the first run) ..."
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
    cp setup.cfg .venv/installed-setup.cfg
fi
export PATH="$PWD/.venv/bin:$PATH"
