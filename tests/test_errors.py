import errno
import os
import subprocess
import sys

import pytest

from warmray.errors import InputError, InterruptedRunError, ManipulationCheckError, run_and_exit, storage_error


def _raising(error):
    def main() -> int:
        raise error

    return main


@pytest.mark.parametrize(
    ("main", "code"),
    [
        (lambda: 0, 0),
        (_raising(InputError("x")), 2),
        (_raising(ManipulationCheckError("x")), 4),
        (_raising(InterruptedRunError("x")), 5),
        (_raising(KeyboardInterrupt()), 5),
        (_raising(RuntimeError("a bug")), 70),
    ],
)
def test_every_ending_has_its_exit_code(main, code):
    with pytest.raises(SystemExit) as ended:
        run_and_exit(main)
    assert ended.value.code == code


def test_an_error_that_people_cause_prints_one_line_without_a_traceback(capsys):
    with pytest.raises(SystemExit):
        run_and_exit(_raising(InputError("the file x is empty")))
    assert capsys.readouterr().err == "warmray: error: the file x is empty\n"


def test_a_cause_inside_another_exception_is_what_is_told(capsys):
    outer = RuntimeError("a worker failed")
    outer.__cause__ = InputError("the file x is empty")
    with pytest.raises(SystemExit) as ended:
        run_and_exit(_raising(outer))
    assert ended.value.code == 2
    assert "the file x is empty" in capsys.readouterr().err


@pytest.mark.parametrize("output", ["print('x' * 10**6)", "print('x')"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_who_has_seen_enough_is_no_error(output, unbuffered):
    program = f"from warmray.errors import run_and_exit\ndef main():\n    {output}\n    return 0\nrun_and_exit(main)"
    reader, writer = os.pipe()
    os.close(reader)
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_a_broken_pipe_elsewhere_is_told():
    with pytest.raises(SystemExit) as ended:
        run_and_exit(_raising(BrokenPipeError("a socket")))
    assert ended.value.code == 70


def test_a_full_disk_is_resumable_and_a_read_only_one_is_not():
    assert isinstance(storage_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "/x"), InterruptedRunError)
    assert isinstance(storage_error(OSError(errno.EROFS, os.strerror(errno.EROFS)), "/x"), InputError)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError("ray::Evaluator.generate() failed: I/O error: No space left on device (os error 28)"),
        RuntimeError("(sqlite3.OperationalError) database or disk is full"),
    ],
)
def test_a_full_disk_is_told_in_one_line_whichever_library_met_it(error, capsys):
    with pytest.raises(SystemExit) as ended:
        run_and_exit(_raising(error))
    assert ended.value.code == 5
    assert capsys.readouterr().err.startswith("warmray: error: disk full while writing below WARMRAY_HOME: free some")
