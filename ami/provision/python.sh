#!/usr/bin/env bash
# The virtual environment in /opt/tl-fif/.venv: each package by version and hash, the project beside it, all compiled.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

home=/opt/tl-fif
python=$home/.venv/bin/python
lock=$SOURCE/ami/requirements.lock

install_packages() {
    run env PIP_DISABLE_PIP_VERSION_CHECK=1 "$python" -m pip install --quiet --no-input --no-cache-dir --no-compile \
        --no-deps --require-hashes --requirement "$1"
}

[[ -x $(root "$python") ]] || run "python$PYTHON_VERSION" -m venv "$home/.venv"
# First pip itself: the one that Python brings takes twice the time for the rest.
install_packages /dev/stdin <<<"$(grep '^pip==' "$lock")"
install_packages "$lock"

# Found from anywhere, not only from its own folder.
write_file 0644 "$home/.venv/lib/python$PYTHON_VERSION/site-packages/tl-fif.pth" <<<"$home"

# On all cores, which pip does not; the worker's user may not write here, so what is missing now stays missing. A few
# packages ship templates that are no valid Python, hence the `|| true`.
run "$python" -m compileall -q -j 0 "$home/.venv/lib" "$home/worker" "$home/router_lambda" "$home/ami" || true
