#!/usr/bin/env bash
# A run on a SLURM cluster with GPUs: one process a node, which has all of the node's GPUs.
#
#   sbatch --nodes=2 --gpus-per-node=8 launch/slurm.sh configs/semi.py:mer2024,root=/data/MER2024 /shared/runs/mer2024
#
# Start it from a checkout on a file system that all nodes share; the workdir lies on one as well. Further arguments go
# to mer_jax.train (--config.cv.folds=5). SLICE=a100 names other cards for the compile check, COMMAND=extract, tune or
# sweep another command. The environment, in .venv-slurm beside the checkout, is made once.
#
# Preempted, out of time or short of a node, the job is put back into the queue and goes on where it ended; what is wrong
# with data or settings (codes 1 and 2) ends it. Not run on a cluster: only with stand-ins for its commands
# (tests/launch/test_jobs.py), and the run itself with simulated hosts.
#SBATCH --job-name=mer_jax
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
#SBATCH --output=mer_jax-%j.log
set -euo pipefail

config=${1:?usage: sbatch launch/slurm.sh CONFIG WORKDIR [flag ...]}
workdir=${2:?usage: sbatch launch/slurm.sh CONFIG WORKDIR [flag ...]}
shift 2
cd "${SLURM_SUBMIT_DIR:-.}"

environment=.venv-slurm
if [ ! -e "$environment/complete" ]; then
  python3 -m venv "$environment"
  "$environment/bin/pip" install --quiet -r requirements.txt "jax[cuda13]"
  touch "$environment/complete"
fi
# shellcheck source=/dev/null
. "$environment/bin/activate"

# Whether every program fits the card, before the others wait; compiled on the host, once.
if [ "${SLURM_RESTART_COUNT:-0}" = 0 ] && [ "${COMMAND:-train}" != sweep ]; then
  python -m launch.compile_check --slice="${SLICE:-h100}" --config="$config"
fi

requeue() {
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
}

# SLURM tells JAX all but the devices: by default it would give a process the first one.
gpus=${SLURM_GPUS_ON_NODE:-1}
JAX_LOCAL_DEVICE_IDS=$(seq --separator=, 0 $((gpus - 1)))
export JAX_LOCAL_DEVICE_IDS

srun --kill-on-bad-exit=0 python -m "mer_jax.${COMMAND:-train}" \
  --config="$config" --workdir="$workdir" --distributed "$@" &
step=$!
trap 'kill -TERM "$step"; wait "$step" || true; requeue' TERM
code=0
wait "$step" || code=$?
case $code in
  0 | 1 | 2) exit "$code" ;; # done, or an error that another start would find again
  *) requeue ;;              # a host is gone (6), a signal, a node
esac
