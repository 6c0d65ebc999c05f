"""What tells a person about the machine: the doctor, and the line that `make ui` prints."""

import re
import shutil
import socket
from pathlib import Path

import pytest

from inn_lab import doctor, ui


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
    assert ui.announce(5000) == "MLflow: http://127.0.0.1:5000  (Ctrl-C ends it)"
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 50000 10.0.0.2 22")
    assert re.search(r"ssh -N -L 5001:127\.0\.0\.1:5001 \w+@10\.0\.0\.2", ui.announce(5001))


def test_a_database_that_is_none_is_one_line(outputs):
    outputs.mkdir()
    (outputs / "mlflow.db").write_bytes(b"no database" * 100)
    with pytest.raises(SystemExit, match=r"^ui: MLflow at .* does not answer .file is not a database"):
        ui.main()


def test_with_a_server_the_ui_is_the_server_s(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://lab:5000")
    ui.main()
    assert capsys.readouterr().out == "MLflow: http://lab:5000  (MLFLOW_TRACKING_URI)\n"
