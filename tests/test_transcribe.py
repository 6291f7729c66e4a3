"""The command that makes transcripts, and what other commands make of them."""

import csv
import signal
import subprocess
import sys
import time

import pytest

from tests.data.media_files import tone, write_sound
from tests.text.chat_server import KEY
from tests.text.speech_server import SpeechServer, heard


@pytest.fixture
def server(running):
    return running(SpeechServer(latency=0.05))


def command(folder, server, *arguments, name="transcribe", variant=""):
    return [
        *(
            sys.executable,
            "-m",
            f"mer_jax.{name}",
            f"--config=configs/semi.py:folder,encoders=bundled,root={folder}{variant}",
        ),
        *(f"--workdir={folder}/run", f"--config.transcripts.cache={folder}/cache"),
        *("--config.transcripts.transcriber=openai", f"--config.transcripts.openai.base_url={server.url}"),
        *arguments,
    ]


def write_folder(folder, count):
    (folder / "media").mkdir()
    for i in range(count):
        write_sound(folder / "media" / f"clip{i}.wav", [tone(0.5, 300 + 10 * i)[None]], "pcm_s16le", "mono")
    (folder / "media" / "clip2.wav").write_bytes(b"damaged")
    with open(folder / "clips.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("name", "label", "text"))
        writer.writerows((f"clip{i}", "xy"[i % 2], "known" if i == 1 else "") for i in range(count))


def run(*arguments):
    return subprocess.run(command(*arguments), capture_output=True, text=True)


def test_transcribe_and_what_reads_it(tmp_path, server):
    write_folder(tmp_path, 6)
    table = (tmp_path / "clips.csv").read_bytes()
    plan = run(tmp_path, server, "--dry-run")
    assert plan.returncode == 0 and not server.asked and "5 clips, about 0.0 minutes" in plan.stderr
    done = run(tmp_path, server)
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "run" / "transcripts.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [heard(300), "known", "", *(heard(300 + 10 * i) for i in (3, 4, 5))]
    assert "4 of 5 clips without a transcript" in done.stdout and "1 without: cannot decode" in done.stdout
    assert (tmp_path / "clips.csv").read_bytes() == table and server.stats()["requests"] == 4
    ranked = subprocess.run(command(tmp_path, server, name="annotate"), capture_output=True, text=True)
    assert ranked.returncode == 0 and "of 5 distinct transcripts ranked" in ranked.stdout, ranked.stderr
    extract = command(
        tmp_path, server, "--config.corruptions.evaluation.probability=0", name="extract", variant=",modalities=text"
    )
    extracted = subprocess.run(extract, capture_output=True, text=True)
    assert extracted.returncode == 0 and "text: 5 of 6 clips have it" in extracted.stdout, extracted.stderr
    assert "no transcript (cannot decode" in extracted.stderr and "[2/4] transcripts" in extracted.stderr
    assert server.stats()["requests"] == 4
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_killed_and_started_again_nothing_is_paid_twice(tmp_path, server, sign):
    write_folder(tmp_path, 40)
    line = command(tmp_path, server, "--config.transcripts.openai.concurrency=2")
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL)
    while len(server.paid) < 8:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(sign)
    assert process.wait() == (143 if sign == signal.SIGTERM else -sign)
    assert len(server.paid) < 38
    assert subprocess.run(line, capture_output=True).returncode == 0
    assert len(server.paid) == 38 and not server.stats()["paid_twice"]
    if sign == signal.SIGTERM:  # waits for what is under way
        assert not server.repeated


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config.transcripts.transcriber=none"], "nobody is to transcribe"),
        (["--config.data.modalities=speech"], "nothing would read transcripts"),
        (["--config.transcripts.language=Chinese"], "transcripts.language='Chinese': expected a code"),
    ],
)
def test_what_cannot_work_is_one_line(tmp_path, server, arguments, said):
    refused = run(tmp_path, server, *arguments)
    assert refused.returncode == 2 and refused.stderr.startswith("error: ") and said in refused.stderr


def test_a_folder_without_transcripts_says_how_to_get_some(tmp_path, server):
    write_folder(tmp_path, 4)
    (tmp_path / "clips.csv").write_text("name,label\nclip0,x\nclip1,y\nclip3,x\n")
    extract = command(
        tmp_path, server, "--config.transcripts.transcriber=none", name="extract", variant=",modalities=text"
    )
    extracted = subprocess.run(extract, capture_output=True, text=True)
    assert extracted.stderr.count("no clip has a transcript") == 1 and not server.asked, extracted.stderr
