#!/bin/sh
# Makes .venv with exactly what dev.lock says, and the package itself, editable. Called by `make setup` from the project's root.
set -eu

suits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))'

if ! { [ -x .venv/bin/python ] && .venv/bin/python -c "$suits" 2>/dev/null; }; then
    found=
    for candidate in python3.13 python3.12 python3.11 python3; do
        if "$candidate" -c "$suits" 2>/dev/null; then found=$candidate; break; fi
    done
    if [ -z "$found" ]; then
        echo "setup: no CPython 3.11, 3.12 or 3.13 on PATH (looked for python3.13, python3.12, python3.11, python3); install one of them" >&2
        exit 1
    fi
    if ! "$found" -c 'import venv, ensurepip' 2>/dev/null; then
        echo "setup: $found cannot make virtual environments; on Debian and Ubuntu: apt install $("$found" -c \
            'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" >&2
        exit 1
    fi
    echo "setup: making .venv with $("$found" --version)"
    "$found" -m venv --clear .venv
fi

echo "setup: installing what requirements/dev.lock names: about a minute, from the package registry that pip is set up for"
pip='.venv/bin/python -m pip --disable-pip-version-check --no-input --quiet'
$pip install --require-hashes --requirement requirements/dev.lock
$pip install --no-deps --no-build-isolation --editable .
echo "setup: done"
