"""Tests end what they have started, and nothing else."""

from __future__ import annotations

import signal
import subprocess

from process_groups import kill_group


def test_what_is_left_of_a_group_is_killed() -> None:
    script = "sleep 600 &"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True) as leader:
        assert leader.stdout is not None
        assert leader.wait() == 0
        kill_group(leader)
        assert leader.stdout.read() == b""  # it comes when nobody has the pipe any more


def test_a_group_is_killed_with_its_leader() -> None:
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as leader:
        kill_group(leader)
        assert leader.wait() == -signal.SIGKILL


def test_one_that_has_the_number_now_stays() -> None:
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as other:
        before = subprocess.Popen(["true"])
        before.wait()
        before.pid = other.pid
        kill_group(before)
        assert other.poll() is None
        other.kill()
        assert other.wait() == -signal.SIGKILL
