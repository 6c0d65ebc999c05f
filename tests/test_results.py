"""docs/results.md says what today's rules find in docs/runs."""

import sys
from pathlib import Path

import pytest

from experiments import report

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_of_results_is_what_the_runs_beside_it_say(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(DOCS)
    monkeypatch.setenv("INN_LAB_OUTPUTS", str(tmp_path))
    import redraw

    def write(name, figures, runs, folder, claims, **tables):  # no pictures: they take most of the time
        folder.mkdir(parents=True)
        claims.to_csv(folder / f"{name}_claims.csv", index=False)
        return []

    monkeypatch.setattr(report, "write", write)
    page = (DOCS / "results.md").read_text()
    assert redraw.redrawn(page, tmp_path) == page, "run python docs/redraw.py, and read what the text beside a row says"
    assert redraw.redrawn(page.replace("| agrees |", "| differs |"), tmp_path / "changed") == page
    with pytest.raises(SystemExit, match=r"docs/runs has no runs of pruning; export them"):
        redraw.redrawn("    python -m experiments pruning\n", tmp_path / "none")
    del sys.modules["redraw"]
