"""Samples of a language model: which examples, what they begin with, and how they end."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kerasft.errors import UserError
from kerasft.model.assemble import assemble
from kerasft.model.heads.language import tied
from kerasft.model.text.language import conversation
from kerasft.model.tiny import text
from kerasft.rows import Rows
from kerasft.runs.finetuned import FineTuned
from kerasft.spec import Examples, Labels
from kerasft.steps.measuring import samples
from kerasft.tasks.causal_lm import CausalLM
from kerasft.tasks.reading import begun

TEMPLATE = {"begin": "{start}", "user": "Q: {content}\n", "assistant": "A: {content}{end}"}


def finetuned(task, length=32):
    keras.utils.set_random_seed(2)
    backbone = task.reading(text("gpt2", sequence_length=length))
    return FineTuned(assemble(backbone, tied), backbone.preprocess, task, Labels("language"))


def part(texts):
    return Examples("text", texts, Rows.of({}, len(texts)), tuple(f"n{i}" for i in range(50))[
        : len(texts)])  # fmt: skip


def test_a_page_has_what_is_given_the_truth_and_the_answer():
    found = samples.Samples(
        ["a", "b"],
        [begun("to be or not", conversation=False), begun("x" * 3000, conversation=False)],
        {"text": np.array([b" or\xff", "y"], object), "tokens": np.array([1, 2]),
         "stopped": np.array([True, False])},
        5, 7, {},
    )  # fmt: skip
    page = samples.page(found)
    assert page.startswith("2 of 7 validation texts, gone on with: the likeliest token each time, "
                           "at most 5.\n\n=== a\n--- given\nto be\n--- truth\n or not\n"
                           "--- answer: 1 token, ended by itself\n or\ufffd\n\n=== b\n")
    assert page.endswith(f"--- truth\n{'x' * 1000} ...\n--- answer: 2 tokens, cut off\ny\n")


@pytest.mark.slow
def test_answers_are_written_beside_the_truth_and_counted(tmp_path, capsys):
    talks = [conversation([("system", "be brief"), ("user", f"say {i}"), ("assistant", f"it {i}")])
             for i in range(40)]  # fmt: skip
    made = finetuned(CausalLM(packing="none", template=TEMPLATE, generate={"max_new": 4}))
    figures = {"loss": 1.0}
    samples.add(made, part(talks), figures, file=tmp_path / "samples.txt")
    page = (tmp_path / "samples.txt").read_text("utf-8")
    assert page.count("=== n") == 32 and "=== n0\n" in page and "=== n39\n" in page
    assert "--- given\nsystem: be brief\nuser: say 39\n--- truth\nit 39\n--- answer: " in page
    ended = page.count("ended by itself")
    assert figures == {"loss": 1.0, "ended": pytest.approx(ended / 32)}
    assert f"samples: {ended} of 32 answers end by themselves within 4 tokens" in (
        capsys.readouterr().out
    )


@pytest.mark.slow
def test_documents_are_gone_on_with_and_have_no_share(tmp_path):
    made = finetuned(CausalLM(packing="none"))
    figures = {}
    samples.add(made, part(["the quick fox jumps"] * 9), figures, file=tmp_path / "samples.txt")
    page = (tmp_path / "samples.txt").read_text("utf-8")
    assert page.startswith("8 of 9 validation texts") and not figures
    assert "--- given\nthe quick\n--- truth\n fox jumps\n" in page


@pytest.mark.parametrize(("example", "sent", "truth"), [
    ("to be or not", "to be", " or not"),
    ("to be\nor not\x1c", "to be", "\nor not"),
    ("unbroken", "unbr", "oken"),
    ("a", "a", ""),
    ("x " * 400, ("x " * 120)[:-1] , " " + "x " * 280),
])  # fmt: skip
def test_a_document_begins_with_whole_words(example, sent, truth):
    one = begun(example, conversation=False)
    assert (one.sent, one.truth) == (sent, truth)


def test_answers_that_leave_no_room_are_refused_before_training():
    with pytest.raises(UserError, match=r"max_new must be below backbone\.sequence_length=32"):
        finetuned(CausalLM(packing="none", generate={"max_new": 32}))
