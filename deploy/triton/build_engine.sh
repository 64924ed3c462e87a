#!/usr/bin/env bash
# Builds the TensorRT plans of a repository that was written with
#   tamvt-model export --triton DIR --backend tensorrt
# on the machine, and in the container, that will serve them: a plan is of one GPU and one TensorRT.
#   deploy/triton/build_engine.sh DIR [CACHE]
# A plan that was built before for this GPU, TensorRT and weights is taken from CACHE. With TENSORRT,
# as in 11.4, it stops where trtexec is of another version.
# Not yet run: no GPU was at hand. See deploy/triton/README.md.
set -euo pipefail

repository=${1:?usage: build_engine.sh DIR [CACHE]}
cache=${2:-${XDG_CACHE_HOME:-$HOME/.cache}/tamvt/engines}

say() { echo "build_engine: $*" >&2; }
stop() { say "$*"; exit 1; }

command -v trtexec >/dev/null || stop "trtexec is not on PATH: run this in the container that serves the plans"
command -v nvidia-smi >/dev/null || stop "there is no NVIDIA driver here"

gpu=$(nvidia-smi --query-gpu=name,compute_cap --format=csv,noheader | head -n 1 | tr -cs 'A-Za-z0-9.\n' -)
tensorrt=$(trtexec --help 2>&1 | sed -n 's/.*\[TensorRT v\([0-9]*\)\].*/\1/p' | head -n 1)
[ -n "$tensorrt" ] || stop "trtexec does not say its version"
version=$((tensorrt / 10000)).$((tensorrt / 100 % 100))
[ "${TENSORRT:-$version}" = "$version" ] || stop "this is TensorRT $version, and not $TENSORRT"
# From TensorRT 11 on the types are those of the graph, and trtexec knows no --fp16.
precision=()
[ "$tensorrt" -ge 110000 ] || precision=(--fp16)

shopt -s nullglob
graphs=("$repository"/*/trtexec.args)
[ ${#graphs[@]} -gt 0 ] || stop "$repository was not written for TensorRT: use --backend tensorrt"

for arguments in "${graphs[@]}"; do
    folder=$(dirname "$arguments")
    graph=$(basename "$folder")
    model=("$folder"/*/model.onnx)
    weights=$(sed -n 's/^--key=//p' "$arguments")
    plan=$cache/$gpu/tensorrt-$tensorrt/$graph-$weights.plan
    if [ ! -s "$plan" ]; then
        say "building $graph for $gpu, TensorRT $tensorrt (minutes)"
        mkdir -p "$(dirname "$plan")"
        mapfile -t options < <(grep -v '^--key=' "$arguments")
        trtexec --onnx="${model[0]}" --saveEngine="$plan.part" "${precision[@]}" "${options[@]}"
        mv "$plan.part" "$plan"
    fi
    cp "$plan" "$(dirname "${model[0]}")/model.plan"
    say "$graph is ready"
done
