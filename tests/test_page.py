"""The report as a page: what it holds, and what a browser makes of it."""

import re
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
from made import one, rows

from experiments import __main__ as door
from experiments import iterations, sparsity_fixed_params
from experiments.claims import claims_table
from experiments.drawing import Study
from experiments.page import page
from inn_lab import tracking, ui

DOCS = Path(__file__).parent.parent / "docs/runs"
EVIL = "<script>alert(1)</script>"


def of(module, runs: pd.DataFrame, **tables: pd.DataFrame) -> Study:
    name = module.__name__.partition(".")[2]
    note = f"all of them; choose others by lr={EVIL}"
    return Study(name, {"lr": EVIL}, module, runs, note, tables, claims_table(module.CLAIMS, runs, **tables))


@pytest.fixture(scope="module")
def html() -> str:
    """Two studies of made runs, whose names are as bad as they can be."""
    R = (0.05, 0.1, 1.0)
    sparse = [one(r, n, 0.3, seed=seed, device=EVIL) for r in R for n in (100_000, 50_000) for seed in (0, 1)]
    still = [one(data="mnist_classification", seed=seed, **{"data.iterations": k}) for k in (1, 2, 3, 4) for seed in (0, 1)]
    probe = pd.DataFrame(
        {"run_id": run["run_id"], "iteration": k, "acc_end": 0.5, "distance": 1 / k, "norm": 1.0}
        for run in still
        for k in (1, 5, 20)
    )
    return page([of(sparsity_fixed_params, rows(*sparse)), of(iterations, rows(*still), probe=probe)], [EVIL])


def test_a_page_is_one_file_that_asks_for_nothing(html):
    assert not re.search(r"https?:|url\((?!#)|src=|@import", html)
    assert html.count("<svg") == 3


def test_what_comes_from_runs_is_escaped(html):
    assert EVIL not in html and html.count("&lt;script&gt;") > 4
    assert html.count("<script") == 1


def test_ids_are_of_one_figure_and_what_is_referred_to_is_there(html):
    ids = Counter(re.findall(r'\bid="([^"]+)"', html))
    assert set(ids.values()) == {1}
    referred = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', html)
    assert len(referred) > 20 and {a or b for a, b in referred} <= ids.keys()


def test_a_curve_says_its_runs_and_they_are_in_the_table(html):
    said = re.findall(r'data-runs="([^"]+)"[^>]*>\s*<title>([^<]+)<', html)
    assert "R=0.05 (100,000) · seeds 0, 1 · 0.30 at the end" in {title for _, title in said}
    rows = set(re.findall(r'<tr id="run-([^"]+)"', html))
    assert {run for ids, _ in said for run in ids.split()} == rows and len(rows) == 20


def test_a_page_says_question_command_and_verdicts(html):
    assert "how often must a still image be iterated? 100,000 weights, 50 epochs." in html
    assert "python -m inn_lab experiment=iterations -m" in html
    for study in (sparsity_fixed_params, iterations):
        assert all(claim.sentence in html for claim in study.CLAIMS)
    assert "ACC_end: the share of inputs" in html


def asked(monkeypatch, tmp_path, *words: str) -> Path:
    monkeypatch.setattr(sys, "argv", ["experiments", *words, "--html", "--runs", str(DOCS)])
    monkeypatch.setenv("INN_LAB_OUTPUTS", str(tmp_path))
    door.main()
    return tmp_path / "report"


def test_pages_are_written_of_what_is_named(monkeypatch, tmp_path, capsys):
    folder = asked(monkeypatch, tmp_path, "iterations", "sru_equivalence", "scale=paper")
    made = sorted(path.name for path in (folder / "scale=paper").iterdir())
    assert made == ["iterations.html", "sru_equivalence.html"] and "scale=paper/iterations.html" in capsys.readouterr().out
    text = (folder / "scale=paper/iterations.html").read_text()
    assert (
        "<title>iterations</title>" in text and "<form" not in text and "python -m experiments iterations scale=paper" in text
    )


def test_runs_link_to_the_server_that_has_them(monkeypatch, tmp_path):
    study = of(sparsity_fixed_params, rows(one()))
    (run,) = study.runs["run_id"].unique()
    monkeypatch.setattr(tracking, "experiment_id", lambda outputs, name: "7")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@there:5000/")
    there = door.links(door.read(["--html", "--outputs", str(tmp_path)]), [study])
    assert there == {run: f"http://there:5000/#/experiments/7/runs/{run}?{ui.PAGE}"}
    assert f'<a href="{there[run]}">{run[:8]}</a>' in page([study], links=there)
    assert door.links(door.read(["--html", "--runs", str(DOCS)]), [study]) == {}  # a file's runs are in no MLflow that is known
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert door.links(door.read(["--html", "--outputs", str(tmp_path)]), [study]) == {}


def test_runs_link_to_the_pages_of_inn_lab_ui_while_it_runs_and_has_them(monkeypatch, tmp_path):
    study = of(sparsity_fixed_params, rows(one()))
    (run,) = study.runs["run_id"].unique()
    monkeypatch.setattr(tracking, "experiment_id", lambda outputs, name: "7")
    asked = door.read(["--html", "--outputs", str(tmp_path)])
    here: set[str] = {run}

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == f"/api/2.0/mlflow/runs/get?run_id={run}" and here else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        (tmp_path / "ui").write_text(address)
        assert door.links(asked, [study])[run] == f"{address}/#/experiments/7/runs/{run}?{ui.PAGE}"
        here.clear()  # another database's
        assert door.links(asked, [study]) == {}
        server.shutdown()
    assert door.links(asked, [study]) == {}


@pytest.mark.parametrize("words", [["curves", "iterations"], ["--export", "somewhere"]])
def test_a_page_is_of_reports(monkeypatch, tmp_path, capsys, words):
    with pytest.raises(SystemExit) as exit:
        asked(monkeypatch, tmp_path, *words)
    assert (
        exit.value.code == 2 and "--html: a page is made of reports; leave out curves and --export" in capsys.readouterr().err
    )


@pytest.fixture
def opened(chromium, tmp_path):
    """`opened(html, …)`: the page of a text or file, seen to print nothing on the console and to ask for no other address."""
    said = []

    def open_(html: str | Path, **how):
        file = html if isinstance(html, Path) else tmp_path / "index.html"
        if isinstance(html, str):
            file.write_text(html)
        shown = chromium.new_page(**how)
        shown.on("console", lambda message: said.append(message.text))
        shown.on("pageerror", lambda error: said.append(str(error)))
        shown.on("request", lambda request: said.append(request.url) if request.url != file.as_uri() else None)
        shown.goto(file.as_uri())
        return shown

    yield open_
    assert said == []


@pytest.mark.browser
def test_every_figure_has_a_size_and_the_page_does_not_scroll_sideways(opened, html):
    for width in (1280, 390):
        shown = opened(html, viewport={"width": width, "height": 800})
        boxes = [svg.bounding_box() for svg in shown.query_selector_all("svg")]
        assert len(boxes) == 3 and all(box["width"] > 300 and box["height"] > 100 for box in boxes)
        assert shown.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.browser
def test_filters(opened, html):
    shown = opened(html)
    sections, claims = shown.locator("section:visible"), shown.locator(".claims tbody tr:visible")
    whole = claims.count()
    assert sections.count() == 2 and shown.locator(".overview tbody tr:visible").count() == 2
    shown.select_option("[name=by]", "this lab")
    assert sections.count() == 1 and claims.count() == 1 and shown.locator(".overview tbody tr:visible").count() == 1
    shown.click("[type=reset]")
    shown.wait_for_function("document.querySelector('[name=by]').value == ''")
    assert sections.count() == 2 and claims.count() == whole
    shown.select_option("[name=kind]", "open")
    assert 0 < claims.count() < whole and set(shown.locator(".claims tr:visible .verdict").all_inner_texts()) <= {
        "not enough runs", "other setting",
    }  # fmt: skip
    shown.click("[type=reset]")
    shown.select_option("[name=name]", "iterations")
    assert sections.count() == 1 and shown.locator("h2:visible").inner_text() == "iterations"


@pytest.mark.browser
def test_a_table_is_sorted_by_keyboard(opened, html):
    shown = opened(html)
    shown.locator("#sparsity_fixed_params summary").first.click()
    head = shown.locator("#sparsity_fixed_params .runs th").nth(1)
    column = shown.locator("#sparsity_fixed_params .runs tbody td:nth-child(2)")
    head.locator("button").focus()
    for order, expected in (("ascending", sorted), ("descending", lambda values: sorted(values, reverse=True))):
        shown.keyboard.press("Enter")
        values = [float(text) for text in column.all_inner_texts()]
        assert head.get_attribute("aria-sort") == order and values == expected(values) and len(set(values)) > 1


@pytest.mark.browser
def test_a_curve_that_is_pressed_names_its_runs(opened, html):
    shown = opened(html)
    curve = shown.locator("#sparsity_fixed_params [data-runs]").first
    curve.dispatch_event("click")
    ids = curve.get_attribute("data-runs").split()
    output = shown.locator("#sparsity_fixed_params figure output").first
    assert all(run[:8] in output.inner_text() for run in ids)
    assert shown.locator("tr.shown").evaluate_all("rows => rows.map(row => row.id)") == [f"run-{run}" for run in ids]
    output.locator("a").first.click()
    assert shown.locator(f"#run-{ids[0]}").is_visible()


@pytest.mark.browser
def test_it_reads_without_javascript_and_in_the_dark(opened, chromium, html):
    shown = opened(html, java_script_enabled=False, color_scheme="dark")
    assert not shown.locator("form").is_visible() and shown.locator("svg:visible").count() == 3
    shown.locator("#iterations summary").first.click()
    assert shown.locator("#iterations .runs tbody tr:visible").count() == 8


@pytest.mark.slow
@pytest.mark.browser
def test_the_page_of_all_studies_is_small_and_quick(opened, monkeypatch, tmp_path):
    file = asked(monkeypatch, tmp_path) / "index.html"
    assert file.stat().st_size < 15e6
    opened(file)  # the browser itself has begun
    begun = time.monotonic()
    shown = opened(file)
    assert time.monotonic() - begun < 2
    assert shown.locator("section").count() == len(list(DOCS.glob("*.parquet")))
    boxes = [svg.bounding_box() for svg in shown.query_selector_all("svg, img")]
    assert len(boxes) > 15 and all(box["width"] > 0 and box["height"] > 0 for box in boxes)
