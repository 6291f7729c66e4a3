"""The command that ranks transcripts."""

import csv
import os
import subprocess
import sys

import pytest

from tests.text.chat_server import KEY, LABELS, ChatServer, expected


@pytest.fixture
def server(running):
    return running(ChatServer(faults=0.6, kinds=("refusal",)))


def annotate(folder, server, *arguments, key=KEY, variant=""):
    with open(folder / "clips.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("name", "label", "text"))
        writer.writerows((f"clip{i}", LABELS[i % 6], "" if i == 3 else f"第{i // 2}句") for i in range(40))
    command = [
        *(sys.executable, "-m", "mer_jax.annotate"),
        f"--config=configs/semi.py:folder,encoders=bundled,root={folder}{variant}",
        *(f"--workdir={folder}/run", f"--config.ranking.cache={folder}/cache", "--config.ranking.annotator=openai"),
        *(f"--config.ranking.openai.base_url={server.url}", *arguments),
    ]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OPENAI_API_KEY": key})


def test_annotate(tmp_path, server):
    plan = annotate(tmp_path, server, "--dry-run")
    assert plan.returncode == 0 and not server.asked and "20 requests" in plan.stderr
    done = annotate(tmp_path, server)
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "run" / "rankings.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [f"clip{i}" for i in range(40)] and rows[3]["reason"] == "no transcript"
    ranked = {f"第{i // 2}句": row["ranking"] for i, row in enumerate(rows) if row["ranking"]}
    assert all(ranking.split(">") == expected(text) for text, ranking in ranked.items())
    assert f"{len(ranked)} of 20 distinct" in done.stdout and "ranking adds" in done.stdout
    assert f"{20 - len(ranked)} without: the model refuses" in done.stdout and len(ranked) < 20
    assert KEY not in done.stdout + done.stderr
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_dry_run_needs_no_key(tmp_path, server):
    plan = annotate(tmp_path, server, "--dry-run", "--config.ranking.openai.base_url=", key="")
    assert plan.returncode == 0 and "20 requests" in plan.stderr, plan.stderr


@pytest.mark.parametrize("variant", [",modalities=speech", ",modalities=speech+text,text_feature=ready"])
def test_where_nothing_reads_rankings_nothing_is_asked(tmp_path, server, variant):
    """As in every other command: `InputSettings.reads_rankings`."""
    (tmp_path / "features" / "ready").mkdir(parents=True)
    refused = annotate(tmp_path, server, variant=variant)
    assert refused.returncode == 2 and "nothing would read rankings" in refused.stderr and not server.asked


def test_a_template_that_does_not_exist_is_one_line(tmp_path, server):
    refused = annotate(tmp_path, server, "--config.ranking.template=zh-9")
    assert refused.returncode == 2 and "template='zh-9': unknown" in refused.stderr and not server.asked
