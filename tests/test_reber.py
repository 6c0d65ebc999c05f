"""Reber strings: the grammar against the regular expression of it, what is drawn, what is read, and how it reaches a model."""

import gzip
import itertools
import lzma
import re
from collections import Counter

import pytest
import torch
from conftest import SMOKE
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import selection
from inn_lab import parts
from inn_lab.data import Reber
from inn_lab.data import grammar as reber
from inn_lab.data.grammar import decode, encode, is_valid, kind
from inn_lab.data.reber import MOST, read
from inn_lab.errors import ConfigError
from inn_lab.models import LSTM
from inn_lab.seeding import generator
from inn_lab.training.objectives import StringClassification

# Fig. 4.1 of Darji 2022 as an expression: from 1 over 2 or 3 to the first V or S, round by 4 and 5, and out.
EXPRESSION = re.compile(r"B(TS*X(S|XT*V(PXT*V)*(PS|V))|PT*V(PXT*V)*(PS|V))E")
SIZES = {"n_train": 300, "n_val": 60, "n_test": 100}
PARTS = ("train", "val", "test")

steady = settings(deadline=None, derandomize=True, max_examples=60)


def data(path: str | None = None, **changes) -> Reber:
    return Reber(path, **{**SIZES, "batch_size": 32, "seed": 0, **changes})


@pytest.fixture(scope="module")
def small() -> Reber:
    return data()


# ---------------------------------------------------------------------------------------------------------- the grammar


def test_the_grammar_is_its_expression() -> None:
    """On all strings of its letters between B and E, up to 8 letters."""
    for length in range(7):
        for middle in itertools.product("PSTVX", repeat=length):
            string = f"B{''.join(middle)}E"
            assert is_valid(string) == bool(EXPRESSION.fullmatch(string)), string


@pytest.mark.parametrize("string", ["BTXSE", "BPVVE", "BPTVPXTTVVE", "BTSSXXTTVVE", "BTXXVPXTVVE", "BPTTTTVPSE"])
def test_valid_strings_are_valid_and_nothing_near_them_is(string: str) -> None:
    assert is_valid(string) and kind(string) == "valid"
    beside = [string.lower(), string[:-1], string[1:], string + "E", " " + string, string + "\n", string + "\0", string * 2]
    assert not any(map(is_valid, [*beside, "B" + string, string[:1] + string[2:]]))


@pytest.mark.parametrize("string", ["", "B", "E", "BE", "ß", "ＢＴＸＳＥ", "БTXSE", "BTSXE", "BTTVPXTVPSE", "B" * 1000])
def test_other_strings_are_not_valid(string: str) -> None:
    assert not is_valid(string) and kind(string) != "valid"


@given(st.text(alphabet="BEPSTVX", max_size=14) | st.from_regex(EXPRESSION, fullmatch=True))
@steady
def test_any_string_is_judged_by_the_expression(string: str) -> None:
    assert is_valid(string) == bool(EXPRESSION.fullmatch(string))


# ------------------------------------------------------------------------------------------------------------- drawing


def test_a_walk_takes_either_branch_with_probability_one_half() -> None:
    """So it has 2^−(L−2) for each string of L letters: those of 5 to 8 letters come as often as that."""
    n = 2**15
    drawn = Counter(decode(reber.walks(n, generator(0, "test"))))
    assert all(map(is_valid, drawn)) and drawn.total() == n
    strings = [f"B{''.join(m)}E" for length in range(7) for m in itertools.product("PSTVX", repeat=length)]
    for string in filter(is_valid, strings):
        p = 2.0 ** -(len(string) - 2)
        assert abs(drawn[string] - n * p) < 5 * (n * p) ** 0.5, string


def test_valid_strings_are_the_walks_one_after_the_other_without_repeats() -> None:
    rng, n = generator(0, "test"), 1000
    expected: list[str] = []
    while len(expected) < n:
        for string in decode(reber.walks(reber.WALKS, rng)):
            if len(string) >= 11 and string not in expected:
                expected.append(string)
            if len(expected) == n:
                break
    assert reber.valid_strings(n, generator(0, "test")) == expected


VALID = reber.valid_strings(400, generator(0, "strings"))


@steady
@given(st.sampled_from(VALID), st.sampled_from(reber.EXCHANGED + reber.REPLACED))
def test_other_letters_are_the_same_walk_and_never_valid(valid: str, letters: str) -> None:
    string = reber.relettered(valid, letters)
    assert len(string) == len(valid) and string[0] + string[-1] == "BE"
    assert kind(string) == ("exchanged" if letters in reber.EXCHANGED else "replaced")
    assert reber.relettered(valid, "TPSXTVXSPV") == valid
    steps, node = [], 1
    for letter in valid[1:-1]:
        steps.append((node, letter))
        node = reber.GRAMMAR[node][letter]
    assert {*zip(steps, string[1:-1], strict=True)} <= {*zip(reber.STEPS, letters, strict=True)}


# From the file test_data.csv of Darji's data set: the first letterings' strings, and the others'.
PUBLISHED = (
    "BPXXTTTTVVE BTVPXTVPXVPXVVE BTSSSSXPTTVXPTTVSE BTXPTVXPTTTVXPTVXPTTVSE BPVXPTTTTTVSE BTTTTTTTTTTTVXSSXPSE "
    "BTTTTVXSSSSSXPXXVE BPSXPXXPXSXPXXPXXPSE BTXXXSXVVVTPSE BTSXTPXVTPXVVVTPXTPSE BPVVTPXTPXVVTPXVVTPSE",
    "BMOOQUVZUWWWVZUWWWVYE BNVZUWWWWWVZUVZRE BMQUAFUCCCCAFRE BNCAFUAFUAFUCCCCADE BMOOOOQUCCAFUCADE BOCAFUCCCCCCAFUCCCCCADE "
    "BQMMMMMMNUCCCCCAFRE BADDFHILHJILHJJJILHJIKE BCILHJJJJJJJJJJILGE BAFHJJILHJILHJJJJILHJJJJJJJIKE",
)


@pytest.mark.parametrize("letterings, strings", list(zip((reber.EXCHANGED, reber.REPLACED), PUBLISHED, strict=True)))
def test_darjis_invalid_strings_are_walks_in_these_letters(letterings, strings) -> None:
    used = set()
    for string in strings.split():
        assert not is_valid(string)
        for letters in letterings:
            walk, node = "B", 1
            for letter in string[1:-1]:
                turns = [own for (at, own), new in zip(reber.STEPS, letters, strict=True) if (at, new) == (node, letter)]
                if not turns:
                    break
                walk, node = walk + turns[0], reber.GRAMMAR[node][turns[0]]
            if is_valid(walk + "E") and len(walk) + 1 == len(string):
                assert reber.relettered(walk + "E", letters) == string
                used.add((string, letters))
    assert len(used) == len(strings.split()) and {letters for _, letters in used} == set(letterings)  # each in one of them


def test_half_of_the_invalid_strings_are_of_each_kind_and_all_are_as_long_as_the_valid_ones() -> None:
    strings = reber.invalid_strings(300, VALID, generator(0))
    assert len(set(strings)) == 300
    assert Counter(map(kind, strings)) == {"exchanged": 150, "replaced": 150}
    assert Counter(map(len, strings)) == Counter(map(len, VALID[:300]))
    firsts = Counter(string[1] for string in strings if kind(string) == "replaced")  # which lettering, or two
    assert min(firsts[letters] for letters in "MNAC") > 0 and firsts["A"] + firsts["C"] < 75


@steady
@given(st.lists(st.text(st.characters(min_codepoint=1, max_codepoint=127), min_size=1), min_size=1, max_size=8))
def test_codes_are_the_strings(strings: list[str]) -> None:
    codes = encode(strings)
    assert codes.shape == (len(strings), max(map(len, strings))) and codes.dtype == torch.uint8
    assert [[chr(code) for code in row if code] for row in codes.tolist()] == [list(string) for string in strings]
    assert decode(codes) == strings


# ------------------------------------------------------------------------------------------------------- the data group


def test_half_are_valid_and_none_is_in_two_parts(small: Reber) -> None:
    parts = {part: small.strings(part) for part in PARTS}
    assert small.sizes == {"train": 300, "val": 60, "test": 100}
    everything = [string for strings, _ in parts.values() for string in strings]
    assert len(set(everything)) == len(everything) == 460
    assert all(
        label == is_valid(string) for strings, valid in parts.values() for string, label in zip(strings, valid, strict=True)
    )
    assert sum(sum(valid) for _, valid in parts.values()) == 230 and sum(parts["val"][1]) == 30
    assert min(map(len, everything)) == 11 and max(map(len, everything)) == small.steps
    for part in PARTS:  # an odd number of strings, too
        assert abs(2 * sum(data(n_test=101).strings(part)[1]) - data(n_test=101).sizes[part]) < 60


def test_lengths_tell_nothing(small: Reber) -> None:
    lengths = {True: Counter(), False: Counter()}
    for part in PARTS:
        for string in small.strings(part)[0]:
            lengths[is_valid(string)][len(string)] += 1
    assert lengths[True] == lengths[False]


@pytest.mark.parametrize("part", PARTS)
def test_batches_are_the_strings_letter_by_letter(small: Reber, part: str) -> None:
    strings, valid = small.strings(part)
    seen: list[tuple[str, int]] = []
    batches = small.batches(part)
    assert len(batches) == -(-len(strings) // 32)
    for x, y in batches:
        assert x.dtype == torch.float32 and y.dtype == torch.int64 and x.shape[2] == small.n_inputs == 128
        assert ((x == 0) | (x == 1)).all() and (x.sum(dim=2) == 1).all()
        padded = ["".join(map(chr, row)) for row in x.argmax(dim=2).tolist()]
        assert max(len(string.rstrip("\0")) for string in padded) == x.shape[1] <= small.steps
        seen += [(string.rstrip("\0"), label) for string, label in zip(padded, y.tolist(), strict=True)]
    assert sorted(seen) == sorted(zip(strings, valid, strict=True))
    assert (seen == list(zip(strings, valid, strict=True))) == (part != "train")  # training is in another order


def test_seed_and_epoch_alone_fix_what_is_drawn(small: Reber) -> None:
    again, other = data(batch_size=460), data(seed=1)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for part in PARTS:
        assert small.strings(part) == again.strings(part) != other.strings(part)
    orders = [torch.cat([y for _, y in it.batches("train", epoch)]) for it in (small, again) for epoch in (0, 1, 0)]
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(orders[i], orders[j]) for i, j in ((0, 2), (0, 3), (1, 4)))
    assert not torch.equal(orders[0], orders[1])


def test_more_strings_than_are_drawn() -> None:
    with pytest.raises(ConfigError, match=rf"n_train={MOST}: {MOST + 160} strings in all, and at most {MOST}"):
        data(n_train=MOST)


def test_the_fewest_strings_there_can_be() -> None:
    for n_test in (1, 2, 3):
        parts = data(n_train=1, n_val=1, n_test=n_test)
        assert len({string for part in PARTS for string in parts.strings(part)[0]}) == 2 + n_test


def test_an_unknown_part_is_an_error(small: Reber) -> None:
    with pytest.raises(ValueError, match="part must be one of train, val, test, got tset"):
        small.batches("tset")


# --------------------------------------------------------------------------------------------------------------- files


TABLE = ",string,valid\n7,BTXSE,1\n8,BMOQE,0\n9,BPVVE,1\n10,hello world,0\n"


def test_a_file_is_read_and_divided(tmp_path) -> None:
    (tmp_path / "own.csv").write_text(TABLE)
    path = str(tmp_path / "own.csv")
    assert read(path) == (["BTXSE", "BMOQE", "BPVVE", "hello world"], [1, 0, 1, 0])
    parts = [data(path, n_train=1, n_val=2, n_test=1, seed=seed) for seed in range(6)]
    for own in parts:
        found = {string: label for part in PARTS for string, label in zip(*own.strings(part), strict=True)}
        assert found == {"BTXSE": 1, "BMOQE": 0, "BPVVE": 1, "hello world": 0} and sum(own.strings("val")[1]) == 1
    assert len({own.strings("test")[0][0] for own in parts}) > 1


@pytest.mark.parametrize(
    "table, text",
    [
        (None, "there is no such file; give a CSV file with the columns string and valid, or path=null"),
        ("", "it cannot be read as a table .*No columns"),
        (b"string,valid\n\xff\xfe,1\n", "it cannot be read as a table .*utf-8"),
        ("string,vaild\nBTXSE,1\n", "it has no column valid, only string, vaild"),
        ("word,valid\nBTXSE,1\n", "it has no column string, only word, valid"),
        ("string,valid\nBTXSE,1\nBTSE,no\n", "line 3 has valid='no'; it must be 1 .* and 0"),
        ("string,valid\nBTXSE\n", "line 2 has valid=''"),
        ("string,valid\n,1\n", "line 2 has the string ''; it must be printable ASCII"),
        ("string,valid\nBTXSÉ,1\n", "line 2 has the string 'BTXSÉ'"),
        ("string,valid\nBTXSE,1\nBE,0\nBTXSE,1\n", "BTXSE stands in line 2 and in line 4, with the same label"),
        ("string,valid\nBTXSE,1\nBTXSE,0\n", "BTXSE stands in line 2 and in line 3, once valid and once not"),
        ("string,valid\n\nBTXSE,1\n\n\nBE,0\n\nBTXSE,0\n\n", "BTXSE stands in line 3 and in line 8, once valid and once not"),
        ("\nstring,valid\nBTXSE,1\n", "it has no column string, only a blank first line"),
        (TABLE, "it has 4 strings and n_train=300, n_val=60, n_test=100 take 460; ask for fewer"),
    ],
)
def test_a_file_that_will_not_do(tmp_path, table: str | bytes | None, text: str) -> None:
    path = tmp_path / "own.csv"
    if table is not None:
        path.write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(ConfigError, match=rf"path={re.escape(str(path))}: .*{text}") as caught:
        data(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "own.csv.gz", "own.csv.xz", "own.zip", "~nobody-of-that-name/own.csv"])
def test_a_folder_half_an_archive_and_nobodys_home_are_no_table(tmp_path, name: str) -> None:
    for path, pack in ((tmp_path / "own.csv.gz", gzip.compress), (tmp_path / "own.csv.xz", lzma.compress)):
        path.write_bytes(pack(TABLE.encode())[:-10])
    (tmp_path / "own.zip").write_bytes(b"PK\3\4 and no more")
    with pytest.raises(ConfigError, match="it cannot be read as a table") as caught:
        data(name if name.startswith("~") else str(tmp_path / name))
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------------- the answer


def answers(objective: StringClassification, n: int) -> list[torch.Tensor]:
    """What an untrained LSTM answers to 60 strings that come in batches of n."""
    model = LSTM(128, 2, hidden_size=5, generator=generator(0)).double()
    with torch.no_grad():
        return [
            objective.answer(objective.read(model(x.double()), x), y)[0]
            for x, y in data(batch_size=n).batches("val")
        ]  # fmt: skip


def test_the_last_letters_answer_does_not_depend_on_the_batch() -> None:
    alone, together = (torch.cat(answers(StringClassification(readout="last_char"), n)) for n in (1, 60))
    assert torch.allclose(alone, together, atol=1e-12, rtol=0)
    alone, together = (torch.cat(answers(StringClassification(), n)) for n in (1, 60))
    longest = torch.tensor([len(string) for string in data().strings("val")[0]]) == max(map(len, data().strings("val")[0]))
    same = (alone - together).abs().amax(dim=1) < 1e-12
    assert torch.equal(same, longest)  # at the padded end it does


def test_reading_takes_the_step_that_it_says() -> None:
    outputs = torch.randn(2, 4, 3, generator=generator(0))
    x = torch.eye(128)[torch.tensor([[66, 67, 0, 0], [66, 67, 68, 69]])]
    y = torch.tensor([0, 2])
    end, last = StringClassification(), StringClassification(readout="last_char")
    assert torch.equal(end.answer(end.read(outputs, x), y)[0], outputs[:, 3])
    assert torch.equal(last.answer(last.read(outputs, x), y)[0], torch.stack([outputs[0, 1], outputs[1, 3]]))
    for objective in (end, last):
        read = objective.read(outputs, x)
        answer, true = objective.answer(read, y)
        assert objective.loss(read, y) == torch.nn.functional.cross_entropy(answer, true)
        right = (answer.argmax(1) == true).sum()
        assert objective.correct(read, y) == (right, right)


# -------------------------------------------------------------------------------------------------------- from the door


def test_training_on_strings_takes_no_images_and_says_where_they_come_from(lab, runs, outputs, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(parts, "load", None)
    (tmp_path / "own.csv").write_text(TABLE)
    own = [f"data.path={tmp_path / 'own.csv'}", "data.n_train=1", "data.n_val=2", "data.n_test=1"]
    common = ["data=reber", "scale=smoke", "trainer.progress=false", "trainer.max_epochs=1", "model=gru"]
    for words in (["objective.readout=last_char"], own):
        assert lab(*common, *words)[0] == 0
    found = runs("adhoc")
    (tmp_path / "own.csv").rename(tmp_path / "moved.csv")
    assert "finished already" in lab(*common, f"data.path={tmp_path / 'moved.csv'}", *own[1:])[1]
    (tmp_path / "own.csv").write_text(TABLE.replace("world", "there"))
    assert lab(*common, *own)[0] == 0 and len(runs("adhoc")) == len(found) + 1  # other strings are another job
    assert "1 of 2 runs; choose others by data.content=" in selection.select(runs("adhoc"), (), {"source": "own.csv"})[1]
    assert sorted(found["source"]) == ["own.csv", "reber"] and set(found["data"]) == {"reber"}
    assert set(found["state"]) == {"finished"} and (found["test/acc_end"] == found["test/acc_seq"]).all()
    assert len(list(outputs.glob("data/*/strings.pt"))) == 1


@pytest.mark.parametrize(
    "words, message",
    [
        (["data.path=nowhere.csv"], "data.path=nowhere.csv: there is no such file"),
        (["objective.readout=begin"], "objective.readout=begin: "),
        (["data.pth=x"], "data.pth: there is no such key; did you mean data.path?"),
    ],
)
def test_mistakes_are_one_line(lab, words, message) -> None:
    code, _, err = lab(*SMOKE, "data=reber", *words)
    assert code == 2 and message in err and len(err.strip().splitlines()) == 1
