"""What whole commands of the lab take on this machine, from their start to their end, each in an empty folder.

    python -m benchmarks.job_speed [--trainer cpu|gpu] [--source digits|mnist] [--smoke] [WHAT …]

WHAT is what is run, by default everything: `run`, 100 epochs of random anomaly with 100,000 weights at R=0.1; `step`, training
steps of 100,000 and 1,000,000 weights, plain and on CUDA also replayed; `sweep`, all of Hershey 2023, 3.4.2
(`experiment=sparsity_fixed_params`), which takes a CPU hours. With `--smoke` each is made small, to see whether it runs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import write
from inn_lab import tracking

COMMANDS = {
    "run": ["R=0.1", "n_weights=100000", "trainer.max_epochs=100"],
    "step": [
        *("experiment=training_speed", "-m", "n_weights=100000,1000000", "R=1.0,0.2,0.1,0.05,0.02,0.005"),
        "model.linear=csr,masked",
    ],
    "sweep": ["experiment=sparsity_fixed_params", "-m"],
}
COLUMNS = ["speed/step_ms_min", "speed/replayed_ms_min", "memory/peak_mb"]


def took(what: str, words: list[str], root: Path) -> list[dict[str, object]]:
    """Runs a command; a row for all of it, or one a job where a job tells what it measured."""
    outputs, start = root / what, time.perf_counter()
    command = [sys.executable, "-m", "inn_lab", *COMMANDS[what], *words]
    done = subprocess.run(command, env={**os.environ, "INN_LAB_OUTPUTS": str(outputs)})
    seconds = time.perf_counter() - start
    if not (outputs / "jobs").is_dir():  # it has said why
        raise SystemExit(done.returncode)
    (experiment,) = (path.name for path in (outputs / "jobs").iterdir())
    runs = tracking.read(outputs, experiment)
    jobs = runs.drop_duplicates("run_id", keep="last")
    of_all = {
        "what": what,
        "seconds": seconds,
        "jobs": len(jobs),
        "exit_code": done.returncode,
        "device": jobs["device"].iloc[0],
    }
    if "speed/step_ms_min" in runs:
        settings = ["n_weights", "R", "model.linear"]
        found = jobs.reindex(columns=[*settings, *COLUMNS]).to_dict("records")
        return [{**of_all, **row} for row in found]
    by_job = runs.groupby("run_id")["time/epoch_s"].sum()
    return [{**of_all, "training_s": by_job.sum(), "epochs": int(runs["time/epoch_s"].count())}]


def main() -> None:
    parser = argparse.ArgumentParser(description="What whole commands of the lab take on this machine.")
    parser.add_argument("what", nargs="*", help=f"{', '.join(COMMANDS)}; all where none is named")
    parser.add_argument("--trainer", choices=["auto", "cpu", "gpu"], default="auto")
    parser.add_argument("--source", choices=["digits", "mnist"], default="digits")
    parser.add_argument("--smoke", action="store_true", help="small, to see whether it runs")
    options = parser.parse_args()
    if unknown := set(options.what) - set(COMMANDS):
        parser.error(f"{min(unknown)}: name {', '.join(COMMANDS)}, or nothing for all")
    words = [f"trainer={options.trainer}", f"source={options.source}", *(["scale=smoke"] if options.smoke else [])]
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as root:
        for what in options.what or COMMANDS:
            rows += took(what, words, Path(root))
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for row in rows:
        print("  ".join(f"{key} {row[key]:.3g}" if isinstance(row[key], float) else f"{key} {row[key]}" for key in row))
    print(f"written to {write('job_speed', [dict.fromkeys(columns, '') | row for row in rows])}")


if __name__ == "__main__":
    main()
