#!/usr/bin/env bash
# Make or update a virtual environment from one hashed lock and install this checkout into it, editable.
#   scripts/venv.sh FOLDER LOCK [LOCK…]
# Needs Python 3.11 or later with pip; PYTHON=… says which. Every package comes from the lock: exact version, checked hash.
set -euo pipefail

folder=$1
shift

if ! "$folder/bin/python" -m pip --version >/dev/null 2>&1; then # absent, or an earlier run was stopped halfway
  for python in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      found=$python
      break
    fi
  done
  if [ -z "${found:-}" ]; then
    echo "Setpoint needs Python 3.11 or later, and found none among: ${PYTHON:-python3.11 python3.12 python3.13 python3}." >&2
    echo "Install one (Debian: apt-get install python3 python3-venv), or name yours: make … PYTHON=/path/to/python" >&2
    exit 1
  fi
  echo "making $folder with $("$found" --version)"
  if ! "$found" -m venv "$folder"; then
    echo "$found cannot make virtual environments; on Debian: apt-get install python3-venv" >&2
    exit 1
  fi
fi

quiet=(--quiet --quiet --disable-pip-version-check --no-input)
for lock in "$@"; do
  echo "installing $(grep -c == "$lock") packages of $lock (the first time, a minute)"
  # --no-deps: the lock is complete, so there is nothing to resolve, and a hole in it shows as an import error here.
  "$folder/bin/python" -m pip install "${quiet[@]}" --require-hashes --no-deps -r "$lock"
done
# hatchling comes from the lock; build isolation would fetch an unlocked one.
"$folder/bin/python" -m pip install "${quiet[@]}" --no-deps --no-build-isolation --editable .
