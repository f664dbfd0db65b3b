"""Ctrl-C while a command cleans up after Ctrl-C."""

import os
import signal
import subprocess
import sys

import pytest

CODE = """
import time
from manyheads import __main__ as program

def slow(*_):
    try:
        print("works", flush=True)
        time.sleep(60)
    finally:
        print("cleans up", flush=True)
        time.sleep(60)

program._run = slow
program.main(["train"])
"""


@pytest.mark.timeout(50)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_row_54_a_second_interrupt_ends_the_command_with_the_same_status(number):
    command = [sys.executable, "-c", CODE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in ("works\n", "cleans up\n"):
            assert process.stdout.readline() == line
            os.kill(process.pid, number)
        _, errors = process.communicate()
    assert process.returncode == 130
    assert errors == "interrupted: the same command continues from the last complete result\n"
