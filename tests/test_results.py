"""docs/results.md says what today's rules find in docs/runs."""

import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_of_results_is_what_the_runs_beside_it_say(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    import redraw

    def text(page: str) -> str:
        return "".join(f"{part}\n" for part in redraw.redrawn(page) if isinstance(part, str))

    page = (DOCS / "results.md").read_text()
    assert text(page) == page, "run python docs/redraw.py, and read what the text beside a row says"
    one = page[page.index("## When it does matter") : page.index("## An INN against an LSTM")]
    assert one.count("| agrees |") and text(one.replace("| agrees |", "| differs |").replace("0.33", "0.11")) == one
    with pytest.raises(SystemExit, match=r"docs/runs has no runs of pruning; export them"):
        text("    python -m experiments pruning\n")
    del sys.modules["redraw"]
