"""What tells a person about the machine: the doctor, and the line that `make ui` prints."""

import os
import re
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from inn_lab import doctor, tracking, ui


def test_the_doctor_says_what_there_is(outputs, capsys, monkeypatch):
    monkeypatch.setenv("INN_LAB_DATA", "~/nowhere")
    assert doctor.main() == 0
    out = capsys.readouterr().out
    assert [line.split()[:2] for line in out.splitlines()] == [["ok", name] for name in doctor.CHECKS]
    assert "torch 2." in out and "digits (bundled)" in out and "sqlite:///" in out
    assert f"its first run downloads it to {Path.home() / 'nowhere'}" in out
    assert "hydra/launcher=local" in out and ("slurm:" in out) == (shutil.which("srun") is None)


@pytest.mark.parametrize("whole", [True, False])
def test_the_doctor_looks_into_the_files(whole, made_mnist, monkeypatch, capsys):
    monkeypatch.setenv("INN_LAB_DATA", str(made_mnist))
    monkeypatch.setattr(doctor, "CHECKS", {"data": doctor.data})
    path = made_mnist / "MNIST/raw/train-images-idx3-ubyte"
    if not whole:
        path.write_bytes(path.read_bytes()[:-1])
    assert doctor.main() == (0 if whole else 1)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert re.match(rf"ok   data .* mnist \({path.parent}\)" if whole else f"ILL  data      {path}: damaged", out)


def test_one_ill_part_does_not_hide_the_others(outputs, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody listens there
    outputs.parent.joinpath("file").write_text("")
    monkeypatch.setenv("INN_LAB_OUTPUTS", str(outputs.parent / "file"))
    assert doctor.main() == 1
    out = capsys.readouterr().out
    assert re.search(r"^ILL  outputs .*Not a directory", out, re.MULTILINE) and re.search(r"^ILL  runs ", out, re.MULTILINE)
    assert out.count("\nok ") >= 3 and "Traceback" not in out


def test_the_ui_takes_a_free_port_and_tells_the_way_to_a_remote_machine(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert ui.free_port(port) > port
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    assert ui.tunnel(5000) == []
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 50000 10.0.0.2 22")
    assert re.search(r"ssh -N -L 5001:127\.0\.0\.1:5001 \w+@10\.0\.0\.2", "\n".join(ui.tunnel(5001)))


def test_the_ui_opens_on_the_runs(outputs, monkeypatch, capsys):
    """The newest experiments, the newest first; the server is started on the database."""
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    for number in range(7):
        there = tracking.experiment_id(outputs, f"e{number}")
        if number:  # e0 has no runs
            tracking.client(outputs).create_run(there, start_time=10 - number)
    started = []
    monkeypatch.setattr(os, "execv", lambda *what: started.append(what))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(ui, "free_port", lambda: 5003)
    ui.main()
    first, *lines, last = capsys.readouterr().out.splitlines()
    assert first == "MLflow: http://127.0.0.1:5003  (Ctrl-C ends it)"
    assert [line.split()[0] for line in lines] == ["e1", "e2", "e3", "e4", "e5"]
    assert lines[0].endswith("  http://127.0.0.1:5003/#/experiments/2/runs?workflowType=machine_learning")
    assert last.startswith("    and 1 more: http://127.0.0.1:5003/#/experiments, ")
    assert started[0][1][1:] == ["-m", "mlflow", "ui", "--workers", "1", "--port", "5003"]
    assert os.environ["MLFLOW_BACKEND_STORE_URI"] == tracking.uri(outputs)


NOWHERE = "http://127.0.0.1:9"  # nobody listens there


@pytest.mark.parametrize(
    "ill, message",
    [
        ("no database", r"MLflow at sqlite.* does not answer \(file is not a database\)"),
        ("a file", r"outputs cannot be written: \[Errno 17\] File exists: "),
        ("no server", f"MLflow at {NOWHERE} does not answer"),
        ("no port", "no port is free from 5000 to 5099"),
    ],
)
def test_what_the_ui_cannot_show_is_one_line(outputs, monkeypatch, capsys, ill, message):
    match ill:
        case "no database":
            outputs.mkdir()
            (outputs / "mlflow.db").write_bytes(b"no database" * 100)
        case "a file":
            outputs.write_text("")
        case "no server":
            monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
        case "no port":
            monkeypatch.setattr(socket.socket, "bind", lambda *_: (_ for _ in ()).throw(OSError("taken")))
    with pytest.raises(SystemExit, match="2"):
        ui.main()
    assert re.fullmatch(rf"ui: {message}.*\n", capsys.readouterr().err)


def test_with_a_server_the_ui_is_the_server_s(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@lab:5000/")
    monkeypatch.setattr(tracking, "client", lambda _: SimpleNamespace(search_experiments=list))
    ui.main()
    first, second = capsys.readouterr().out.splitlines()
    assert first == "MLflow: http://lab:5000  (MLFLOW_TRACKING_URI)" and "no runs yet" in second
