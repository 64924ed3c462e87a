# bash is process 1: it hands the signal on, and waits until the state is saved.
trap 'kill -TERM $!; wait $!; exit 143' TERM
# A pod that joins later does not find the store that the first ones share (PyTorch 2.13).
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
torchrun --nnodes "$NODES" --nproc-per-node gpu --max-restarts 3 --rdzv-backend c10d --rdzv-endpoint "$RENDEZVOUS" --rdzv-id "$RECIPE" -m model train "$RECIPE" -o "/runs/$RECIPE" --workers "$WORKERS" --world-size "$PROCESSES" --resume &
wait $!
trap - TERM
[ "$JOB_COMPLETION_INDEX" = 0 ] || exit 0
tamvt-model export "$BUILD" --weights "/runs/$RECIPE/last.pt" -o /runs/graphs
# One repository for each backend: `triton.repository.folder` names the one that is loaded.
for backend in python onnxruntime tensorrt; do
    tamvt-model export "$BUILD" --from /runs/graphs --triton "/models/$backend" --backend "$backend"
done
