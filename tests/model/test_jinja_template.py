"""A checkpoint's own chat template beside ours."""

from __future__ import annotations

import json
import re

import pytest

from kerasft.model.text.jinja_template import difference, found_in

jinja2 = pytest.importorskip("jinja2")

NAMES = {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2}
CHATML = {
    "begin": "{token:<|endoftext|>}",
    "system": "{token:<|im_start|>}system\n{content}{token:<|im_end|>}\n",
    "user": "{token:<|im_start|>}user\n{content}{token:<|im_end|>}\n",
    "assistant": "{token:<|im_start|>}assistant\n{content}{token:<|im_end|>}\n",
}
SAME = (
    "{{ eos_token }}{% for message in messages %}\n"
    "{{ '<|im_start|>' + message.role + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}\n"
    "{% endfor %}\n{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


class Tokenizer:
    """What templates ask of a tokenizer: numbers of tokens, and back."""

    end_token_id = 0

    def token_to_id(self, name):
        return NAMES[name]

    def id_to_token(self, number):
        return list(NAMES)[number]


def checkpoint(folder, template, **config):
    config = {"eos_token": {"content": "<|endoftext|>"}, "chat_template": template, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return folder


@pytest.mark.parametrize("form", ["text", "list", "file"])
def test_the_same_template_is_not_told(form, tmp_path):
    named = [{"name": "tools", "template": "x"}, {"name": "default", "template": SAME}]
    folder = checkpoint(tmp_path, {"text": SAME, "list": named, "file": "x"}[form])
    if form == "file":
        (folder / "chat_template.jinja").write_text(SAME, "utf-8")
    assert found_in(folder)[0] == SAME
    assert difference(folder, CHATML, Tokenizer()) == ""


@pytest.mark.parametrize(("template", "said"), [
    (SAME.replace("message.role", "message.role.upper()"),
     r"writes a conversation otherwise than template=...: .*im_start\|>USER.* and here .*user"),
    (SAME.replace("assistant\\n' }}", "assistant: ' }}"), "writes a prompt otherwise"),
    (SAME.replace("{% for", "{% if messages[0].role == 'system' %}Hm{% endif %}{% for", 1),
     "writes a conversation with a system message otherwise"),
    ("{% for", "cannot be read: "),
    ("{{ ''.__class__.__mro__ }}", "fails on a conversation: .*unsafe"),
    ("{% for i in range(10**4) %}{% endfor %}", "its loops take more than 5000 turns"),
    ("{{ raise_exception('never') }}", "fails on a conversation: never"),
])  # fmt: skip
def test_another_one_is_told(template, said, tmp_path):
    found = difference(checkpoint(tmp_path, template), CHATML, Tokenizer())
    assert re.search(said, found), found


def test_a_system_message_may_be_refused(tmp_path):
    strict = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + SAME
    )
    assert difference(checkpoint(tmp_path, strict), CHATML, Tokenizer()) == ""


def test_checkpoints_without_one_are_as_good(tmp_path):
    assert difference(tmp_path, CHATML, Tokenizer()) == ""
    assert difference(checkpoint(tmp_path, None), CHATML, Tokenizer()) == ""
    (tmp_path / "tokenizer_config.json").write_text("[", "utf-8")
    assert difference(tmp_path, CHATML, Tokenizer()) == ""


def test_a_checkpoint_on_hugging_face_is_asked_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "models--some--chat"
    held = kept / "snapshots" / ("a" * 40)
    for folder in (held, kept / "refs"):
        folder.mkdir(parents=True)
    (kept / "refs" / "main").write_text("a" * 40)
    checkpoint(held, SAME.replace("message.role", "message.role.upper()"))
    assert "writes a conversation otherwise" in difference("hf://some/chat", CHATML, Tokenizer())
    # A file of its own goes before.
    (held / "chat_template.jinja").write_text(SAME, "utf-8")
    assert found_in("hf://some/chat")[0] == SAME
    assert difference("hf://some/chat", CHATML, Tokenizer()) == ""
    for other in ("hf://some/other", "hf://no name", "kaggle://a/b/keras/c", "gpt2_base_en"):
        assert found_in(other) == ("", {})


def test_a_checkpoint_in_a_package_is_asked_too(tmp_path, monkeypatch):
    package = tmp_path / "carries_a_chat"
    package.mkdir()
    (package / "__init__.py").write_text("")
    checkpoint(package, SAME)
    monkeypatch.syspath_prepend(tmp_path)
    assert found_in("package://carries_a_chat")[0] == SAME
