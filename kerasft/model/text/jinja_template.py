"""A checkpoint's own chat template, held against ours.

Checkpoints of Hugging Face bring a template in Jinja. It is a program that comes from anywhere: it
is run in Jinja's sandbox, on a few words of ours, before training, and never by what is exported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasft.errors import in_short
from kerasft.model.hub import checkpoint_file
from kerasft.model.text import templates

if TYPE_CHECKING:
    import keras_hub

FILE, CONFIG = "chat_template.jinja", "tokenizer_config.json"
# The most letters of a template, turns of all its loops, and letters that are shown.
MOST, TURNS, SHOWN = 50_000, 5_000, 120
TALK = (("user", "How are you?"), ("assistant", "Fine."), ("user", "Bye"), ("assistant", "Bye!"))
SYSTEM = ("system", "Be brief.")


def difference(
    checkpoint: str | Path, template: Mapping[str, str], tokenizer: keras_hub.tokenizers.Tokenizer
) -> str:
    """Say where a checkpoint's own chat template and ours give other texts.

    Args:
        checkpoint: One in the layout of Hugging Face, see `hub.checkpoint_file`.
        template: Ours, by piece.
        tokenizer: A KerasHub tokenizer.

    Returns:
        A sentence; `""` where both give the same, or the checkpoint has none.
    """
    source, names = found_in(checkpoint)
    if not source:
        return ""
    try:
        rendered = renderer(source, names)
    except ImportError:
        return (
            f"the checkpoint has a chat template of its own, which is compared with template=... "
            f"where the package jinja2 is installed: pip install 'kerasft[jinja]' ({checkpoint})"
        )
    except Exception as error:
        return f"the checkpoint's own chat template cannot be read: {in_short(error)}"
    tried = (
        ("a conversation", TALK, False), ("a prompt", TALK[:1], True),
        ("a conversation with a system message", (SYSTEM, *TALK[:2]), False),
    )  # fmt: skip
    for what, turns, prompt in tried:
        try:
            theirs = rendered(turns, prompt)
        except Exception as error:
            if turns[0] == SYSTEM:  # some families refuse it, and say so
                continue
            return f"the checkpoint's own chat template fails on {what}: {in_short(error)}"
        mine = written(template, tokenizer, turns, prompt=prompt)
        if theirs != mine:
            place = next((i for i, (a, b) in enumerate(zip(theirs, mine, strict=False)) if a != b),
                         min(len(theirs), len(mine)))  # fmt: skip
            start = max(place - 20, 0)
            return (
                f"the checkpoint's own chat template writes {what} otherwise than template=...: "
                f"{theirs[start : start + SHOWN]!r}, and here {mine[start : start + SHOWN]!r}. A "
                "model that has learned to converse knows the first; after training it knows this "
                "one"
            )
    return ""


def found_in(checkpoint: str | Path) -> tuple[str, dict[str, str]]:
    """Return the template of a checkpoint, `""` where there is none, and its special tokens."""
    config: Any = {}
    if (file := checkpoint_file(str(checkpoint), CONFIG)) is not None:
        with suppress(OSError, ValueError):  # what a network needs of it, KerasHub has read
            config = json.loads(file.read_text("utf-8"))
    config = config if isinstance(config, dict) else {}
    source: Any = config.get("chat_template")
    if isinstance(source, list):
        named = {one.get("name"): one.get("template") for one in source if isinstance(one, dict)}
        source = named.get("default")
    if (file := checkpoint_file(str(checkpoint), FILE)) is not None:
        source = file.read_text("utf-8", "replace")
    if not isinstance(source, str) or len(source) > MOST:
        return "", {}
    names = {}
    for key in ("bos_token", "eos_token", "unk_token", "pad_token"):
        value = config.get(key)
        value = value.get("content") if isinstance(value, dict) else value
        names[key] = value if isinstance(value, str) else ""
    return source, names


def renderer(
    source: str, names: Mapping[str, str]
) -> Callable[[Sequence[tuple[str, str]], bool], str]:
    """Return a function of turns, and of whether a prompt is to follow, to a text.

    Args:
        source: A template.
        names: Special tokens by name, as they are written.

    Raises:
        ImportError: Without the package jinja2.
    """
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    left = [0]

    def few(*args: int) -> range:
        made = range(*args)
        left[0] -= len(made)
        if left[0] < 0:
            raise TemplateError(f"its loops take more than {TURNS} turns")
        return made

    def refused(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.globals |= {"range": few, "raise_exception": refused,
                            "strftime_now": lambda form: "today"}  # fmt: skip
    template = environment.from_string(source)

    def rendered(turns: Sequence[tuple[str, str]], prompt: bool) -> str:
        left[0] = TURNS
        messages = [{"role": role, "content": said} for role, said in turns]
        return template.render(
            messages=messages, add_generation_prompt=prompt, tools=None, documents=None, **names
        )

    return rendered


def written(
    template: Mapping[str, str], tokenizer: keras_hub.tokenizers.Tokenizer,
    turns: Sequence[tuple[str, str]], *, prompt: bool,
) -> str:
    """Return a conversation as our template writes it, special tokens by their names."""
    pieces = templates.segments(template, tokenizer)
    text = [_text(segment, "", tokenizer) for segment in pieces["begin"]]
    for role, said in turns:
        text += [_text(segment, said, tokenizer) for segment in pieces[role]]
    if prompt:
        text += [_text(segment, "", tokenizer) for segment in pieces["prompt"]]
    return "".join(text)


def _text(segment: templates.Segment, said: str, tokenizer: keras_hub.tokenizers.Tokenizer) -> str:
    if segment.token >= 0:
        return str(tokenizer.id_to_token(segment.token))
    return segment.before + (said if segment.content else "") + segment.after
