#!/bin/sh
# Create the virtual environment with uv. If uv is not installed, install it into the environment first.
# Reads PYTHON, VENV and CONSTRAINTS from the environment. Needs Python 3.10 or newer.
set -eu

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
    echo "Python 3.10 or newer is required, but $PYTHON is $("$PYTHON" --version 2>&1)." >&2
    echo "Choose another one: make PYTHON=python3.12 …" >&2
    exit 1
}

uv_version=$(sed -n 's/^uv==\([^ ;]*\).*/\1/p' "$CONSTRAINTS")
uv=$(command -v uv || true)

if [ -z "$uv" ]; then
    if "$PYTHON" -c 'import ensurepip' 2>/dev/null; then
        [ -x "$VENV/bin/pip" ] || "$PYTHON" -m venv "$VENV"
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$uv_version"
        uv="$VENV/bin/uv"
    elif "$PYTHON" -m pip --version >/dev/null 2>&1; then
        # Without ensurepip, which some distributions package separately, venv cannot install pip.
        mkdir -p "$VENV"
        "$PYTHON" -m pip install --quiet --disable-pip-version-check --target "$VENV/bootstrap" "uv==$uv_version"
        uv="$VENV/bootstrap/bin/uv"
    else
        echo "$PYTHON has neither ensurepip nor pip. On Debian and Ubuntu: apt-get install python3-venv" >&2
        exit 1
    fi
fi

[ -x "$VENV/bin/python" ] || "$uv" venv --quiet --allow-existing --python "$PYTHON" "$VENV"
echo "Installing into $VENV, pinned by $CONSTRAINTS …"
"$uv" pip install --quiet --compile-bytecode --python "$VENV/bin/python" --editable ".[dev]" \
    --constraint "$CONSTRAINTS" --build-constraint "$CONSTRAINTS"
