#!/usr/bin/env bash
# Proves in about five minutes that a GPU serves the model: with ONNX Runtime, and with TensorRT.
#   deploy/triton/smoke.sh            wherever tritonserver is: in NVIDIA's container
#   BACKENDS=onnxruntime deploy/triton/smoke.sh
# It needs a checkout with `make setup` done, tritonserver, and for TensorRT trtexec.
# It writes the repositories, builds the plans, starts a real Triton, and runs the same clips
# through it and through ONNX Runtime on the CPU. Expected:
#   onnxruntime: label maps agree in P% of pixels, N ms a clip: ok        (P at least 99.9)
#   tensorrt: label maps agree in P% of pixels, N ms a clip: ok
#   the GPU serves tamvt-mobile
# Not yet run on a GPU: none was at hand. BACKENDS=python runs it on a CPU, with the wheel's Triton;
# `make check-images` makes that comparison with the repository of the image.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

python=${PYTHON:-.venv/bin/python}
backends=${BACKENDS:-onnxruntime tensorrt}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ "$backends" != python ]; then
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader \
        || { echo "smoke: no NVIDIA driver answers here" >&2; exit 1; }
fi
for backend in $backends; do
    repository=$work/$backend
    "$python" -m model export --triton "$repository" --backend "$backend" >&2
    if [ "$backend" = tensorrt ]; then
        deploy/triton/build_engine.sh "$repository" "$work/cache"
    fi
    "$python" -m scripts.deploy.smoke "$repository" --backend "$backend"
done
if [ "$backends" = python ]; then echo "a CPU serves tamvt-mobile"; else echo "the GPU serves tamvt-mobile"; fi
