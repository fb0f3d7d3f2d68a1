#!/usr/bin/env bash
# Make or update the environment of PyTorch's tests: the development environment, and torch on top of it in a folder of its own.
#   scripts/torch_venv.sh FOLDER DEVELOPMENT_ENVIRONMENT
# No lock of ours holds torch: which build a machine can have depends on the machine. Where it cannot be had, this says so and
# succeeds, and `make test-torch` leaves those tests out.
set -euo pipefail

folder=$1
development=$2
packages=(torch==2.13.0 onnxscript==0.7.2 safetensors==0.8.0 transformers==5.23.0)

site() { "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

[ -x "$folder/bin/python" ] || "$development/bin/python" -m venv "$folder"
# What the development environment has, at its versions, without installing it twice.
printf '%s\n%s\n' "$(site "$development")" "$PWD/src" >"$(site "$folder")/setpoint-development.pth"
rm -f "$folder/.absent"
echo "installing ${packages[*]} (the first time, a minute or two)"
if ! "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-input "${packages[@]}"; then
  echo "torch cannot be had here: the tests of its formats and engine are left out" >&2
  touch "$folder/.absent"
fi
