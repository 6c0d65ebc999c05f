"""docs/tutorial.md, as a new user would follow it: every command and every piece of code, in an empty folder."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[1] / "docs/tutorial.md"
SWEEP = "inn-lab experiment=my_study -m"
FILES = {"class Gated": "my_study.py", "_target_: my_study.Gated": "conf/model/gated.yaml"}  # where a block is written to


def blocks() -> list[tuple[str, str]]:
    """The tutorial's commands and code, in order: ("sh", a line), ("python", …), ("yaml", …)."""
    found: list[tuple[str, str]] = []
    for fenced, kind, code, line in re.findall(r"(```(\w+)\n(.*?)```)|^    (\S[^\n]*)$", TUTORIAL.read_text(), re.S | re.M):
        found.append((kind, code) if fenced else ("sh", line))
    return found


def interrupt(command: str, folder: Path, env: dict[str, str]) -> None:
    """Begins a sweep and presses Ctrl-C when its first job is done; the tutorial types the same command again."""
    with subprocess.Popen(command.split(), cwd=folder, env=env, stdout=subprocess.PIPE, text=True) as sweep:
        for line in sweep.stdout:
            if "finished" in line:
                sweep.send_signal(signal.SIGINT)
                break
        sweep.stdout.read()
    assert sweep.returncode == 128 + signal.SIGINT


@pytest.mark.slow
def test_every_command_of_the_tutorial_runs(tmp_path):
    place = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{place}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    env.pop("INN_LAB_OUTPUTS", None)
    folder, ran = tmp_path, 0
    for kind, code in blocks():
        if kind == "sh":
            command, _, comment = code.partition("#")
            if command.startswith("pip install"):
                continue  # the suite's environment has it
            if command.startswith("cd "):
                folder = folder / command.split()[1]
                continue
            if command.strip() == SWEEP:
                interrupt(command, folder, env)
            done = subprocess.run(command, shell=True, cwd=folder, env=env, capture_output=True, text=True)
            wanted = int(comment.split()[-1]) if "exit code" in comment else 0
            assert done.returncode == wanted, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        elif target := next((file for begins, file in FILES.items() if code.startswith(begins)), None):
            path = folder / target
            path.write_text((path.read_text() + "\n\n" if path.exists() else "") + code)
        else:
            done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-2000:]
            assert "test/acc_end" in done.stdout
        ran += 1
    assert ran > 12
    claims = next((folder / "outputs/figures").glob("*max_epochs=20*/my_study_claims.csv")).read_text()
    assert "agrees" in claims
