"""The jobs: manifests by the published schemas, scripts by shellcheck and with stand-ins for a cluster's commands."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from string import Template

import jsonschema
import kubernetes_validate
import pytest
import yaml

LAUNCH = Path(__file__).parents[2] / "launch"
SCHEMA = json.loads(Path(__file__).with_name("jobset.json").read_text("utf-8"))
VALUES = {"NAME": "run", "IMAGE": "mer_jax:1", "BUCKET": "b", "QUEUE": "q", "CONFIG": "c", "WORKDIR": "/bucket/w"}


def manifest(name):
    """A JobSet as `envsubst` and kubectl read it."""
    text = (LAUNCH / name).read_text("utf-8").replace("$(", "$$(")  # which Kubernetes fills in
    return yaml.safe_load(Template(text).substitute(VALUES))


@pytest.mark.parametrize("name", ["gke_tpu.yaml", "gke_gpu.yaml"])
def test_manifests_follow_the_published_schemas(name):
    jobset = manifest(name)
    jsonschema.validate(jobset, SCHEMA)
    (job,) = jobset["spec"]["replicatedJobs"]
    as_job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": job["template"]["spec"]}
    kubernetes_validate.validate(as_job, "1.35", strict=True)
    assert jobset["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "q"
    as_job["spec"]["parallelism"] = "four"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(as_job, "1.35", strict=True)


@pytest.mark.parametrize("name", ["gke_tpu.yaml", "gke_gpu.yaml"])
def test_manifests_call_commands_and_flags_that_there_are(name):
    (job,) = manifest(name)["spec"]["replicatedJobs"]
    job_spec = job["template"]["spec"]
    pod = job_spec["template"]["spec"]
    assert job_spec["parallelism"] == job_spec["completions"]
    for container in (*pod["initContainers"], *pod["containers"]):
        module, *arguments = container["args"]
        known = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True).stdout
        for argument in arguments:
            assert re.search(rf"--(\[no\])?{argument.removeprefix('--').partition('=')[0]}\b", known), argument
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
    hosts = [argument for argument in pod["containers"][0]["args"] if argument.startswith("--hosts=")]
    assert hosts in ([], [f"--hosts={job_spec['parallelism']}"])


@pytest.mark.parametrize("script", sorted(LAUNCH.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_clean(script):
    done = subprocess.run([Path(sys.executable).with_name("shellcheck"), script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_image_copies_what_there_is():
    sources = re.findall(r"^COPY (.+) \S+$", (LAUNCH / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    root = LAUNCH.parent
    allowed = {line.removeprefix("!") for line in (root / ".dockerignore").read_text("utf-8").splitlines()}
    names = [name for line in sources for name in line.split()]
    assert names and all((root / name).exists() and name in allowed for name in names)


@pytest.fixture
def nodes(tmp_path, monkeypatch):
    """A folder to start jobs from, whose `python`, `srun` and `scontrol` note how they are called in `calls`."""
    bin_ = tmp_path / "bin"
    environment = tmp_path / ".venv-slurm" / "bin"
    for folder in (bin_, environment):
        folder.mkdir(parents=True)
    (environment / "activate").write_text("")
    (environment.parent / "complete").touch()
    stand_in = '#!/bin/sh\necho "$(basename "$0") $* $JAX_LOCAL_DEVICE_IDS" >> calls\n'
    for name, rest in (("python", "exit ${CHECK_CODE:-0}"), ("srun", "exit $CODE"), ("scontrol", "")):
        path = bin_ / name
        path.write_text(stand_in + rest)
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "4")
    monkeypatch.delenv("JAX_LOCAL_DEVICE_IDS", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("code", "ends_with", "requeued"), [(0, 0, False), (1, 1, False), (2, 2, False), (6, 0, True), (137, 0, True)]
)
def test_a_slurm_job_goes_on_after_all_but_wrong_input(nodes, monkeypatch, code, ends_with, requeued):
    monkeypatch.setenv("CODE", str(code))
    script = [LAUNCH / "slurm.sh", "configs/semi.py", "runs/a", "--config.cv.folds=3"]
    assert subprocess.run(script, cwd=nodes).returncode == ends_with
    check, step, *rest = (nodes / "calls").read_text().splitlines()
    assert check == "python -m launch.compile_check --slice=h100 --config=configs/semi.py "
    command = "python -m mer_jax.train --config=configs/semi.py --workdir=runs/a --distributed --config.cv.folds=3"
    assert step == f"srun --kill-on-bad-exit=0 {command} 0,1,2,3"
    assert rest == ["scontrol requeue 7 0,1,2,3"] * requeued


def test_a_slurm_job_does_not_start_what_does_not_fit(nodes, monkeypatch):
    monkeypatch.setenv("CHECK_CODE", "1")
    assert subprocess.run([LAUNCH / "slurm.sh", "configs/semi.py", "runs/a"], cwd=nodes).returncode == 1
    assert len((nodes / "calls").read_text().splitlines()) == 1
