"""The first signal waits for what is under way, a second one does not. Each in a process of its own: it may end one."""

import signal
import subprocess
import sys

HEAD = "import signal\nfrom mer_jax.runtime.signals import stop_requests\n"


def run(*lines):
    done = subprocess.run([sys.executable, "-c", HEAD + "\n".join(lines)], capture_output=True, text=True)
    return done.returncode, done.stdout.split(), done.stderr


def test_the_first_signal_takes_its_course_at_the_end():
    code, printed, errors = run(
        "with stop_requests() as stopping:",
        "    print(stopping())",
        "    signal.raise_signal(signal.SIGINT)",
        "    print(stopping(), flush=True)",
    )
    assert printed == ["False", "True"] and code != 0 and "KeyboardInterrupt" in errors


def test_a_second_signal_takes_its_course_at_once():
    code, printed, _ = run(
        "with stop_requests() as stopping:",
        "    signal.raise_signal(signal.SIGINT)",
        "    print(stopping(), flush=True)",
        "    signal.raise_signal(signal.SIGTERM)",
        "    print('still here', flush=True)",
    )
    assert printed == ["True"] and code == -signal.SIGTERM


def test_what_a_group_is_sent_does_not_reach_a_worker():
    code, printed, _ = run(
        "import os, subprocess, sys",
        "from mer_jax.runtime.signals import signals_blocked",
        "with signals_blocked():",
        "    worker = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)",
        "for number in (signal.SIGINT, signal.SIGTERM):",
        "    worker.send_signal(number)",
        "worker.communicate(b'go on')",
        "print(worker.returncode, flush=True)",
        "signal.raise_signal(signal.SIGTERM)",
    )
    assert printed == ["0"] and code == -signal.SIGTERM


def test_without_a_signal_nothing_changes():
    code, printed, _ = run(
        "both = signal.SIGINT, signal.SIGTERM",
        "usual = [signal.getsignal(number) for number in both]",
        "with stop_requests() as stopping:",
        "    print(stopping())",
        "print([signal.getsignal(number) for number in both] == usual)",
    )
    assert (code, printed) == (0, ["False", "True"])
