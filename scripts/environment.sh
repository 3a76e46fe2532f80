#!/bin/sh
# Makes a virtual environment with every version of requirements.lock and this checkout in it.
#
#   scripts/environment.sh VENV [VERSION or PATH of a Python]
#
# Uses uv where it is on PATH; else installs it into the environment, since it is several times
# faster than pip for packages of this size.
set -eu
venv=$1
python=$(sh scripts/find_python.sh "${2-}")
log=$(mktemp)
ticker=

finish() {
    code=$?
    if [ -n "$ticker" ]; then
        kill "$ticker" 2>/dev/null || true
        printf '\r\033[K' >&2
    fi
    if [ "$code" -ne 0 ]; then
        cat "$log" >&2
        echo "The environment $venv could not be made; the reason stands above." >&2
    fi
    rm -f "$log"
}
trap finish EXIT
trap 'exit 130' INT TERM

echo "Installing requirements.lock into $venv for $("$python" -V)" \
    "(the first time, some GB of PyTorch and CUDA libraries are fetched)" >&2
if [ -t 2 ]; then # a clock, for a terminal only
    (
        seconds=0
        while :; do
            printf '\r  %s s' "$seconds" >&2
            sleep 1
            seconds=$((seconds + 1))
        done
    ) &
    ticker=$!
fi

if [ -x "$venv/bin/python" ] && [ "$("$venv/bin/python" -V)" != "$("$python" -V)" ]; then
    rm -rf "$venv"
fi
if command -v uv >/dev/null && uv --version >/dev/null 2>&1; then
    uv=uv
    [ -x "$venv/bin/python" ] || uv venv --quiet --python "$python" "$venv" 2>"$log"
else
    uv=$venv/bin/uv
    if ! [ -x "$uv" ]; then
        "$python" -m venv "$venv" >"$log" 2>&1 || {
            echo "$python can make no virtual environment: install its venv module" \
                "(Debian and Ubuntu: apt install python3-venv) or uv." >>"$log"
            exit 1
        }
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            --constraint requirements.lock uv >"$log" 2>&1
    fi
fi
install() {
    VIRTUAL_ENV=$venv "$uv" pip install --quiet --python "$venv/bin/python" "$@" 2>"$log"
}
install --requirements requirements.lock
install --no-deps --no-build-isolation --editable .
