#!/usr/bin/env bash
# A run on a Cloud TPU slice, on all of its hosts, until it is finished: a preempted slice is made again.
#
#   BUCKET=my-bucket ZONE=us-west4-a SLICE=v5e:4x4 launch/tpu_vm.sh \
#     configs/semi.py:mer2024,root=/mnt/bucket/MER2024 /mnt/bucket/runs/mer2024
#
# From a checkout, with gcloud (a project chosen, the TPU API on) and a bucket in the zone's region, which every host
# mounts at /mnt/bucket: data, workdir and cache lie there. Further arguments go to mer_jax.train. Slices: v5e, v5p, v6e
# with the shapes of the compile check, which is run first, here, before anything costs. SPOT=0 asks for one that is
# not preempted; KEEP=1 leaves the slice when the run is done.
#
# Not run: no project was at hand. shellcheck is clean, and `train --distributed` was run with simulated hosts.
set -euo pipefail

config=${1:?usage: BUCKET=... ZONE=... SLICE=v5e:4x4 launch/tpu_vm.sh CONFIG WORKDIR [flag ...]}
workdir=${2:?usage: BUCKET=... ZONE=... SLICE=v5e:4x4 launch/tpu_vm.sh CONFIG WORKDIR [flag ...]}
shift 2
: "${BUCKET:?name of the bucket that holds the data and takes the runs}" "${ZONE:?such as us-west4-a}"
slice=${SLICE:-v5e:4x4}
name=${NAME:-mer-jax}
chips=$(($(tr x '*' <<<"${slice#*:}")))
case $slice in
  v5e:*) type=v5litepod-$chips runtime=v2-alpha-tpuv5-lite ;;
  v5p:*) type=v5p-$((2 * chips)) runtime=v2-alpha-tpuv5 ;; # named by its cores
  v6e:*) type=v6e-$chips runtime=v2-alpha-tpuv6e ;;
  *) echo "SLICE=$slice: expected v5e, v5p or v6e and a shape, such as v5e:4x4" >&2 && exit 2 ;;
esac
tpu() { gcloud compute tpus tpu-vm "$1" "$name" --zone="$ZONE" "${@:2}"; }
state() { tpu describe --format='value(state)' 2>/dev/null || echo NONE; }
on_all_hosts() { tpu ssh --worker=all --command="$1"; }

python -m launch.compile_check --slice="$slice" --config="$config"

flags=$(printf ' %q' --config="$config" --workdir="$workdir" "$@")
archive=$(mktemp --suffix=.tar.gz)
trap 'rm -f "$archive"' EXIT
git archive --output="$archive" HEAD
spot=(--spot)
[ "${SPOT:-1}" = 1 ] || spot=()
for attempt in $(seq 50); do
  case $(state) in
    READY) ;;
    NONE) tpu create --accelerator-type="$type" --version="$runtime" "${spot[@]}" ;;
    *) tpu delete --quiet && tpu create --accelerator-type="$type" --version="$runtime" "${spot[@]}" ;;
  esac || { sleep 300 && continue; } # no room in the zone: ask again
  gcloud compute tpus tpu-vm scp "$archive" "$name:mer_jax.tar.gz" --zone="$ZONE" --worker=all &&
    on_all_hosts "set -e; mkdir -p mer_jax && tar -xzf mer_jax.tar.gz -C mer_jax
      echo deb https://packages.cloud.google.com/apt gcsfuse-\$(lsb_release -cs) main |
        sudo tee /etc/apt/sources.list.d/gcsfuse.list
      curl -s https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee /etc/apt/trusted.gpg.d/gcsfuse.asc >/dev/null
      sudo apt-get -qq update && sudo apt-get -qq install -y python3.11-venv gcsfuse
      sudo mkdir -p /mnt/bucket && sudo chown \$USER /mnt/bucket
      mountpoint -q /mnt/bucket || gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 $BUCKET /mnt/bucket
      python3.11 -m venv env && env/bin/pip install -q -r mer_jax/requirements.txt 'jax[tpu]'" &&
    on_all_hosts "cd mer_jax && MER_JAX_CACHE=/mnt/bucket/cache HF_HOME=/mnt/bucket/cache/huggingface \
      ../env/bin/python -m mer_jax.train --distributed$flags" && break
  [ "$(state)" != READY ] || { echo "the run has failed on a slice that is whole; see above" >&2 && exit 1; }
  echo "start $attempt: the slice is $(state); made again" >&2
done
[ "${KEEP:-0}" = 1 ] || tpu delete --quiet
