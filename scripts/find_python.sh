#!/bin/sh
# Prints the path of a Python that the lock file is made for (3.10 to 3.14).
#
#   scripts/find_python.sh          the first that fits
#   scripts/find_python.sh 3.10     of that version
#   scripts/find_python.sh PATH     that one, if it fits
#
# Looks on PATH, then among pyenv's versions. Says in one sentence what is missing.
set -u
want=${1-}

fits() {
    "$1" -c '
import sys
want = sys.argv[1]
here = "%d.%d" % sys.version_info[:2]
fits = (3, 10) <= sys.version_info[:2] <= (3, 14) and want in ("", here)
if not fits:
    sys.exit(1)
print(sys.executable)' "$2" 2>/dev/null
}

case $want in
'' | 3.[0-9] | 3.[0-9][0-9]) version=$want ;;
*)
    fits "$want" '' && exit 0
    echo "$want is not a Python from 3.10 to 3.14." >&2
    exit 1
    ;;
esac

for name in python$version python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
    path=$(command -v "$name") || continue
    fits "$path" "$version" && exit 0
done
for minor in 13 14 12 11 10; do
    for path in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python; do
        [ -x "$path" ] && fits "$path" "$version" && exit 0
    done
done

if [ -n "$version" ]; then
    echo "Python $version was not found on PATH or among pyenv's versions." >&2
else
    echo "A Python from 3.10 to 3.14 is needed and was not found on PATH or among pyenv's" \
        "versions: install one, or name it with PYTHON=/path/to/python3." >&2
fi
exit 1
