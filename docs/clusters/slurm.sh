#!/usr/bin/env bash
# A Slurm job that is a Ray cluster for one run. NOT RUN HERE: a template to adapt.
# sbatch docs/clusters/slurm.sh rollout=gpu model=local model.path=/shared/models/policy   (from the checkout, on a shared disk)
#SBATCH --job-name=entrain
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=12:00:00
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
bin=$PWD/.venv/bin

# Only processes with the token may talk to this cluster. The file is on the shared disk, for this user alone.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$PWD/.ray-token-$SLURM_JOB_ID
(umask 077; head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH")
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"; kill $(jobs -p) 2>/dev/null || true' EXIT

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(srun --nodes=1 --ntasks=1 -w "$head" hostname -I | cut -d' ' -f1)
# Other jobs may share the nodes, so the ports follow from the job.
port=$((20000 + SLURM_JOB_ID % 10000))
dashboard=$((30000 + SLURM_JOB_ID % 10000))
resources=(--num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --disable-usage-stats --block)

srun --overlap --nodes=1 --ntasks=1 -w "$head" "$bin/ray" start --head --node-ip-address="$address" --port="$port" \
  --dashboard-host="$address" --dashboard-port="$dashboard" "${resources[@]}" &
for _ in $(seq 60); do
  "$bin/ray" health-check --address "$address:$port" >/dev/null 2>&1 && break
  sleep 2
done
if [ "$SLURM_NNODES" -gt 1 ]; then
  srun --overlap --nodes=$((SLURM_NNODES - 1)) --ntasks=$((SLURM_NNODES - 1)) --exclude="$head" \
    "$bin/ray" start --address="$address:$port" "${resources[@]}" &
fi

# Waits up to cluster.start_timeout_s for the workers to join.
"$bin/python" -m launch.submit --address "http://$address:$dashboard" cluster.start_timeout_s=300 \
  output.folder="$PWD/runs/$SLURM_JOB_ID" output.display=lines "$@"
