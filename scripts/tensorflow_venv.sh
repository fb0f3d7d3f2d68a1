#!/usr/bin/env bash
# Make or update the environment of TensorFlow's tests: complete in itself, since TensorFlow wants versions of its own.
#   scripts/tensorflow_venv.sh FOLDER DEVELOPMENT_ENVIRONMENT
# No lock of ours holds it. Where it cannot be had, this says so and succeeds, and `make test-tensorflow` leaves those tests out.
set -euo pipefail

folder=$1
development=$2
packages=(tensorflow-cpu==2.21.0 tf2onnx==1.17.0 onnxruntime onnx msgspec click cloudpickle httptools ml_dtypes orjson rich uvloop pytest hypothesis)

[ -x "$folder/bin/python" ] || "$development/bin/python" -m venv "$folder"
rm -f "$folder/.absent"
echo "installing ${packages[*]} (the first time, some minutes)"
if ! "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-input "${packages[@]}"; then
  echo "TensorFlow cannot be had here: its tests are left out" >&2
  touch "$folder/.absent"
fi
