"""A program is measured from its start to its exit, and its failure is reported."""

import sys
from pathlib import Path

import pytest

from benchmarks.launch import run

pytestmark = pytest.mark.unit

SIZE = 200_000_000


def test_time_and_memory_are_the_programs_own(tmp_path: Path) -> None:
    # Larger than the programs that are measured.
    ours = bytearray(SIZE)

    code = "import sys, time; time.sleep(0.3); print(sys.argv[1:])"
    small = run([sys.executable, "-c", code, "a b"], output=tmp_path / "output", log=tmp_path / "log", environment={})
    code = f"memory = bytearray({SIZE})"
    large = run([sys.executable, "-c", code], output=tmp_path / "output", log=tmp_path / "log", environment={})

    assert len(ours) == SIZE
    assert small.output == "['a b']\n"
    # The program sleeps that long; how much longer it takes depends on the machine.
    assert small.seconds >= 0.3
    assert 0 < small.cpu_seconds < small.seconds
    assert 0 < small.peak_bytes < SIZE < large.peak_bytes < 2 * SIZE


def test_a_failing_program_is_reported(tmp_path: Path) -> None:
    code = "import sys; sys.exit('no such thing')"

    with pytest.raises(RuntimeError, match="exited with 1:\nno such thing"):
        run([sys.executable, "-c", code], output=tmp_path / "output", log=tmp_path / "log", environment={})
