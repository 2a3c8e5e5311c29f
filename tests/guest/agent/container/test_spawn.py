"""How a command begins."""

from __future__ import annotations

import signal

import pytest

from guest.agent.container.messages import Spawn
from guest.agent.container.spawn import environment
from proto.boxlite.v1 import TtySize
from tests.guest.agent.harness import Shared

DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def request(*env: str, terminal: bool = False) -> Spawn:
    return Spawn(1, [b"x"], [variable.encode() for variable in env], b"/", "", 0, 0, terminal, False)


def test_what_docker_adds_to_the_environment_is_added() -> None:
    assert environment(request(), "/home/x", "name") == {
        b"PATH": DEFAULT_PATH,
        b"HOSTNAME": b"name",
        b"HOME": b"/home/x",
    }
    assert environment(request(terminal=True), "/", "name")[b"TERM"] == b"xterm"


def test_what_was_asked_for_wins_and_the_last_of_a_name_counts() -> None:
    wanted = request("HOME=/other", "TERM=dumb", "A=1", "A=2=3", "EMPTY=", terminal=True)
    found = environment(wanted, "/home/x", "name")
    assert (found[b"HOME"], found[b"TERM"], found[b"A"], found[b"EMPTY"]) == (b"/other", b"dumb", b"2=3", b"")


def test_a_command_begins_in_its_directory_with_its_users_home(box: Shared) -> None:
    run = box.shell("pwd; echo $HOME; umask", user="alice", cwd=b"/tmp")
    assert run.stdout == b"/tmp\n/home/alice\n0022\n"


@pytest.mark.parametrize("user", ["", "alice"])
@pytest.mark.parametrize("tty", [None, TtySize(rows=10, columns=10)])
def test_a_command_inherits_its_three_streams_and_nothing_else(box: Shared, user: str, tty: TtySize | None) -> None:
    run = box.shell("exec ls -1 --color=never /proc/self/fd", user=user, tty=tty)
    assert run.stdout.split() == [b"0", b"1", b"2", b"3"]  # 3 is the listing's own.


def test_a_command_is_the_leader_of_its_session_and_group(box: Shared) -> None:
    run = box.shell("cut -d' ' -f1,5,6 /proc/$$/stat")
    pid, group, session = run.stdout.split()
    assert pid == group == session == str(run.pid).encode()


def test_signals_are_neither_ignored_nor_blocked(box: Shared) -> None:
    """But for the two that the C library keeps for itself: no program can name them, and some launchers ignore them."""
    run = box.shell("exec grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status")
    nameable = sum(1 << number - 1 for number in signal.valid_signals())
    masks = [int(line.split()[1], 16) & nameable for line in run.stdout.splitlines()]
    assert masks == [0, 0, 0]


def test_numbers_need_no_entry(box: Shared) -> None:
    run = box.shell("id -u; id -g; id -G; echo $HOME", user="4321:8765")
    assert run.stdout == b"4321\n8765\n8765\n/\n"


def test_a_command_has_the_normal_priority_and_is_the_first_to_go_when_memory_is_short(box: Shared) -> None:
    """Whatever init gave itself."""
    run = box.shell("cut -d' ' -f19 /proc/$$/stat; cat /proc/$$/oom_score_adj")
    assert run.stdout == b"0\n0\n"


def test_limits_are_those_that_programs_expect(box: Shared) -> None:
    assert box.shell("ulimit -n").stdout == b"1024\n"


def test_a_script_without_an_interpreter_is_not_found(box: Shared) -> None:
    box.shell("printf '#!/no/such/shell\\n' >/tmp/script; chmod 755 /tmp/script")
    assert box(lambda host: host.run("/tmp/script")).exited.exit_code == 127


def test_a_file_that_is_no_program_is_not_executable(box: Shared) -> None:
    box.shell("head -c 1000 /dev/zero >/tmp/zeros; chmod 755 /tmp/zeros")
    run = box(lambda host: host.run("/tmp/zeros"))
    assert (run.exited.exit_code, run.stderr) == (126, b"boxlite: /tmp/zeros: Exec format error\n")


def test_hostile_user_files_hold_nothing_up(box: Shared) -> None:
    """A pipe, a device or a directory in place of /etc/passwd is an empty one."""
    for trap in ("mkfifo /etc/passwd", "ln -s /dev/zero /etc/passwd", "mkdir /etc/passwd"):
        box.shell(f"mv /etc/passwd /etc/kept; {trap}")
        try:
            assert box.shell("grep Uid /proc/self/status", user="7").stdout.split() == [b"Uid:", *[b"7"] * 4]
            assert box(lambda host: host.run("true", user="alice")).failed.message
        finally:
            box.shell("rm -rf /etc/passwd; mv /etc/kept /etc/passwd")
