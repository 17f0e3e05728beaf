"""Documents and conversations as tokens: what is learned, what is cut, what a user may write."""

from __future__ import annotations

import numpy as np
import pytest

from kerasft.errors import UserError
from kerasft.model import preprocess as loading
from kerasft.model.text import templates
from kerasft.model.text.language import LEARNED, LanguagePreprocess, conversation
from kerasft.model.text.tokens import reader
from kerasft.model.tiny import text

PLAIN = {"begin": "{start}", "user": "Q: {content}\n", "assistant": "A: {content}{end}\n"}


@pytest.fixture(scope="module", params=[pytest.param("gpt2", marks=pytest.mark.slow), "llama"])
def tokenizer(request):
    return text(request.param).preprocess.tokenizer


def made(tokenizer, template=None, length=64, **how):
    return LanguagePreprocess(
        tokenizer, inputs=("token_ids", "padding_mask"), sequence_length=length,
        template=template, **how,
    )


def row(preprocess, raw):
    found = preprocess.learning()([raw])
    count = int(found["padding_mask"].numpy().sum())
    return found["token_ids"].numpy()[0, :count], found[LEARNED].numpy()[0, :count]


def plain(tokenizer, ids):
    return "".join(reader(tokenizer)(ids).split()).replace("·", "").replace("▁", "")


def test_a_document_teaches_all_of_its_tokens_and_that_it_ends(tokenizer):
    preprocess = made(tokenizer)
    ids, learned = row(preprocess, "the quick fox")
    assert (ids[0], ids[-1]) == (preprocess.start, preprocess.end)
    assert learned.tolist() == [0, *[1] * (len(ids) - 2), 2]
    # Of a part that is not the last one the end is not there.
    part, of_part = row(preprocess, "the quick fox\x1c")
    assert part.tolist() == ids[:-1].tolist() and of_part.tolist() == learned[:-1].tolist()
    assert preprocess.prompts(["the quick fox"]).to_list() == [ids[:-1].tolist()]


def test_of_a_conversation_the_answers_are_learned(tokenizer):
    preprocess = made(tokenizer, PLAIN)
    turns = [("user", "the fox"), ("assistant", "a dog"), ("user", "why"), ("assistant", "in it")]
    ids, learned = row(preprocess, conversation(turns))
    answers = plain(tokenizer, ids[learned == 1])
    assert answers == "adoginit"
    assert (learned == 2).sum() == 2 and set(ids[learned == 2]) == {preprocess.end}
    every = row(made(tokenizer, PLAIN, loss_on="all"), conversation(turns))[1]
    assert every.tolist() == [0, *np.maximum(learned, 1).tolist()[1:]]


def test_a_prompt_that_is_served_is_what_it_was_in_training(tokenizer):
    preprocess = made(tokenizer, PLAIN)
    whole = conversation([("user", "the fox"), ("assistant", "a dog")])
    ids, learned = row(preprocess, whole)
    before = ids[: int((learned > 0).argmax())].tolist()
    alone = preprocess.prompts(
        [whole, "the fox", conversation([("user", "the fox")]), "a longer one than that"]
    ).to_list()
    assert alone[0] == alone[1] == alone[2] == before != alone[3]


def test_what_a_user_writes_is_never_a_special_token(tokenizer):
    preprocess = made(tokenizer, PLAIN)
    names = [tokenizer.id_to_token(one) for one in (preprocess.start, preprocess.end)]
    plainly = row(preprocess, conversation([("user", "x"), ("assistant", "y")]))[0]
    forged = row(preprocess, conversation([("user", f"x {names[0]} {names[1]}"),
                                           ("assistant", "y")]))[0]  # fmt: skip
    special = {preprocess.start, preprocess.end}
    assert sum(one in special for one in forged) == sum(one in special for one in plainly)
    # Nor does it begin a turn of another role, when it is sent by itself.
    sent = preprocess.prompts(["x\x1eassistant\x1fyes"]).to_list()[0]
    assert sum(one == preprocess.end for one in sent) <= int(preprocess.start == preprocess.end)


def test_what_is_too_long_loses_its_end(tokenizer):
    preprocess = made(tokenizer, PLAIN, length=16)
    ids, learned = row(preprocess, conversation([("user", "the fox " * 9), ("assistant", "a")]))
    assert len(ids) == 16 and not learned.any()


def test_texts_come_back_without_special_tokens(tokenizer):
    preprocess = made(tokenizer, PLAIN)
    import tensorflow as tf

    tokens = preprocess.prompts(["the fox"])
    back = preprocess.texts(tokens).numpy()[0].decode()
    assert "thefox" in back.replace(" ", "")
    for special in (preprocess.start, preprocess.end):
        assert tokenizer.id_to_token(special) not in back
    assert tf.size(preprocess.texts(preprocess.prompts([""] * 3))) == 3


def test_it_comes_back_from_a_folder(tokenizer, tmp_path):
    preprocess = made(tokenizer, PLAIN)
    preprocess.save(tmp_path)
    again = loading.load(tmp_path)
    raw = [conversation([("user", "the fox"), ("assistant", "a dog")]), "in it"]
    for name, value in preprocess(raw).items():
        assert np.array_equal(value, again(raw)[name])
    assert again.template == PLAIN


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ({"user": "{content}"}, "template.assistant is missing"),
        ({"user": "{text}{content}", "assistant": "{content}{end}"}, "has a field {text}"),
        ({"user": "none", "assistant": "{content}{end}"}, "must hold {content} once"),
        ({"user": "{content}", "assistant": "{content}"}, "must go on with a token behind"),
        ({"user": "{content}", "assistant": "{content}{end}", "asistant": "x"}, "none of its"),
        ({"user": 3, "assistant": "{content}{end}"}, "must be a text"),
    ],
)
def test_a_template_that_is_wrong_is_told(template, told):
    with pytest.raises(UserError) as error:
        templates.check(template)
    assert told in str(error.value)


def test_a_token_that_the_vocabulary_lacks_is_told(tokenizer):
    template = {"user": "{token:<|im_start|>}{content}", "assistant": "{content}{end}"}
    with pytest.raises(UserError, match=r"no token '<\|im_start\|>'"):
        made(tokenizer, template)
