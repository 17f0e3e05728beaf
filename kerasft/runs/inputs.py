"""Parses what `kerasft predict` and `kerasft evaluate` are given: words, files, folders."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kerasft.errors import UserError
from kerasft.runs import run_folder
from kerasft.spec import SPLIT_NAMES, Labels
from kerasft.system.console import listing, printable, warn
from kerasft.system.files import at_home, read_json
from kerasft.system.recorded import read_labels

TABLES = (".csv", ".tsv", ".tab", ".jsonl", ".json", ".parquet", ".xlsx", ".xls")
# How a language model writes, see `kerasft.model.text.generation.Generation`.
SETTINGS = ("max_new", "temperature", "top_k", "top_p", "repetition_penalty", "stop", "seed")
_FILES = (*TABLES, ".txt", ".md", ".text")


def asked_of_data(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the split and the slices that the words behind `kerasft evaluate RUN` name, if any.

    Raises:
        UserError: If they say anything else.

    Example:
        >>> asked_of_data(["split=test", "slices=[language,source]"])
        {'split': 'test', 'slices': ['language', 'source']}
    """
    found: dict[str, Any] = {}
    for override in overrides:
        key, sign, value = override.partition("=")
        if key == "slices" and sign:
            found[key] = _columns(value, override)
        elif key == "split" and value in SPLIT_NAMES:
            found[key] = value
        else:
            raise UserError(
                "kerasft evaluate takes split=train, split=validation or split=test, and "
                f"slices=[COLUMN,...]. Received: {override!r}."
            )
    return found


def _columns(value: str, override: str) -> list[Any]:
    """Return the columns that are written as on a command line."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        read = OmegaConf.to_container(OmegaConf.from_dotlist([f"slices={value}"]))["slices"]
    except (YAMLError, OmegaConfBaseException, ValueError) as error:
        raise UserError(
            "slices must name columns of the data, such as slices=[language,source]; a name with "
            f"signs in it is written in quotes: 'slices=[\"a, b\"]'. Received: {override!r}."
        ) from error
    return [] if read is None else read if isinstance(read, list) else [read]


def settings(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Take `generate.KEY=VALUE` out of the words behind `kerasft predict`.

    Example:
        >>> settings(["Once upon", "generate.max_new=8", "generate.stop=[x]"])
        ({'max_new': 8, 'stop': ['x']}, ['Once upon'])

    Raises:
        UserError: If one of them begins as a setting does and is none.
    """
    from omegaconf import OmegaConf

    for word in words:
        if re.match(r"generate(\.[\w.-]*)?=", word) and not re.match(r"generate\.\w+=", word):
            raise UserError(
                "How a text is gone on with reads generate.KEY=VALUE. Allowed: "
                f"{', '.join(f'generate.{name}' for name in SETTINGS)}. Received: {word!r}. A text "
                "that begins so is given over standard input: kerasft predict RUN -"
            )
    asked = [word for word in words if re.match(r"generate\.\w+=", word)]
    made = OmegaConf.to_container(OmegaConf.from_dotlist(asked)) if asked else {}
    assert isinstance(made, dict)
    return made.get("generate", {}), [word for word in words if word not in asked]


def inputs(model: str, given: Sequence[str]) -> list[Any]:
    """Turn the words of the command line into what a model takes.

    Args:
        model: A run folder or an export; it says whether images or texts are meant.
        given: Texts, files, folders, `@FILE`, `-` for standard input, or `@@...` for a text that
            begins with `@`.

    Returns:
        Paths of images, texts, or pairs of texts.

    Raises:
        UserError: If a text is not UTF-8 or names a file, if a folder holds no image, or if a
            pair lacks its tab.
    """
    modality, pair = wants(model)
    if modality == "images":
        return _all_images(given)
    texts: list[str] = []
    for word in given:
        if word == "-":
            texts += _texts(_standard_input(), "standard input")
        elif word.startswith("@@"):
            texts.append(_plain(word[1:]))
        elif word.startswith("@"):
            texts += _texts(_content(word), f"the file {word[1:]!r}")
            _doubt_table(word[1:], pair)
        else:
            texts.append(_no_file(_plain(word)))
    return [_pair(text) for text in texts] if pair else texts


def labels_of(model: str) -> Labels:
    """Return what the labels of a run or an export mean."""
    from kerasft.artifact.layout import find_export, read_signature

    place = at_home(model)
    if (place / "config.yaml").is_file() and not (place / "saved_model.pb").is_file():
        return read_labels(run_folder.open_run(model)[0].labels)
    said = read_signature(find_export(model))
    return Labels(said.get("kind", ""), tuple(said.get("labels", ())))


def wants(model: str) -> tuple[str, bool]:
    """Return what a model takes: `images` or `text`, and whether in pairs."""
    place = at_home(model)
    if (place / "config.yaml").is_file():
        folder, _ = run_folder.open_run(model)
        saved = read_json(folder.preprocess / "preprocess.json", "modality")
        return saved["modality"], bool(saved.get("pair"))
    from kerasft.artifact.layout import DEFAULT, find_export, read_signature

    names = list(read_signature(find_export(model))["signatures"][DEFAULT]["inputs"])
    return ("images" if "image_bytes" in names else "text"), "text_pair" in names


def _standard_input() -> bytes:
    """Return the bytes of standard input, which is text where another program has replaced it."""
    if sys.stdin is None:  # closed before the command began
        raise _closed("it is closed")
    try:
        raw = getattr(sys.stdin, "buffer", None)
        if raw is not None:
            return raw.read()
        return sys.stdin.read().encode("utf-8", "surrogateescape")
    except (OSError, ValueError) as error:  # a folder, a terminal that is gone; closed meanwhile
        raise _closed(getattr(error, "strerror", None) or str(error)) from error


def _closed(reason: str) -> UserError:
    return UserError(
        f"Standard input cannot be read: {reason.rstrip('.')}. Received: -. Give the inputs as "
        "arguments, or as @FILE with one a line."
    )


def _content(word: str) -> bytes:
    """Return what the file of `@FILE` holds."""
    file = word[1:]
    try:
        return Path(file).read_bytes()
    except (OSError, ValueError) as error:
        advice = ""
        if not os.path.lexists(file):
            advice = (
                f" A text that begins with @ is written with two of them ('@{word}'), or given "
                "over standard input: kerasft predict RUN -"
            )
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"The file {file!r} cannot be read: {reason}.{advice}") from error


def _lines(content: bytes, where: str) -> list[bytes]:
    """Return the lines of a file: `\\n` and `\\r\\n` end one, and nothing else does."""
    content = content.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in content:
        wide = content.startswith((b"\xff\xfe", b"\xfe\xff")) or content.count(0) > len(content) / 4
        raise UserError(
            f"{where[0].upper()}{where[1:]} must be UTF-8 text, one input a line. Received: zero "
            f"bytes{', as in UTF-16: save it as UTF-8' if wide else ', as no text has'}."
        )
    if b"\r" in content and b"\n" not in content:
        raise UserError(
            f"{where[0].upper()}{where[1:]} must end its lines with a line feed. Received: "
            f"{content.count(13):,} carriage returns and no line feed, as old Macs wrote it. "
            "Convert it: tr '\\r' '\\n' < OLD > NEW"
        )
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix(b"\r") for line in lines]


def _texts(content: bytes, where: str) -> list[str]:
    texts = []
    for number, line in enumerate(_lines(content, where), 1):
        try:
            texts.append(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise UserError(
                f"{where[0].upper()}{where[1:]} must be UTF-8 text, one text a line. Received: "
                f"byte 0x{line[error.start]:02x} in line {number:,}, which is no UTF-8. Convert "
                "it, such as by: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"
            ) from error
    return texts


def _plain(word: str) -> str:
    """Return a word of the command line as a text; in the locale C its bytes are undecoded."""
    try:
        word.encode("utf-8")
        return word
    except UnicodeEncodeError:
        pass
    try:
        return os.fsencode(word).decode("utf-8")
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        shown = word.encode("ascii", "backslashreplace").decode()
        raise UserError(
            f"A text must be UTF-8. Received: {shown!r}, which is not; the terminal may be set to "
            "another encoding. Save the text as UTF-8 and give it as @FILE."
        ) from error


def _no_file(text: str) -> str:
    """Refuse a text that is the name of a file: its words were hardly meant."""
    suffix = Path(text).suffix.lower()
    like_one = bool(suffix) or os.sep in text
    there = bool(text.strip()) and os.path.exists(text)  # noqa: PTH110 - a long text is no error
    if there and like_one:
        what = "a folder" if Path(text).is_dir() else "a file"
        raise UserError(
            f"{text!r} is {what}, and this model takes texts. Give @FILE for a file with one text "
            "a line (of a table, its column of texts alone). To classify these very words, give "
            "them over standard input: kerasft predict RUN -"
        )
    if there:
        warn(f"{text!r} is taken as a text, though there is a file or folder of that name.")
    elif suffix in _FILES and len(text.split()) == 1:
        warn(f"{text!r} is taken as a text; there is no file of that name.")
    return text


def _doubt_table(file: str, pair: bool) -> None:
    suffix = Path(file).suffix.lower()
    if suffix in TABLES and not (pair and suffix in (".tsv", ".tab")):
        warn(
            f"each line of {file!r} is taken as one text as it stands, with its header and all of "
            "its columns. Write the texts alone into a file, one a line."
        )


def _pair(text: str) -> tuple[str, ...]:
    found = tuple(text.split("\t"))
    if len(found) != 2:
        raise UserError(
            "This model takes pairs of texts, with a tab between the two. "
            f"Received: {text!r}. In a shell: $'first text\\tsecond text'."
        )
    return found


def _all_images(given: Sequence[str]) -> list[str]:
    paths: list[str] = []
    for word in given:
        if word == "-":
            paths += _paths(_standard_input(), "standard input")
        elif word.startswith("@@"):
            paths.append(word[1:])
        elif word.startswith("@"):
            paths += _paths(_content(word), f"the file {word[1:]!r}")
        else:
            paths.append(word)
    found: list[str] = []
    for path in paths:
        if path[:1] == "~" and not os.path.lexists(path):  # quoted, so that no shell saw it
            path = str(at_home(path))
        # An odd name is no folder, and no error yet.
        is_folder = os.path.isdir(path)  # noqa: PTH112
        found += _of_folder(path) if is_folder else [path]
    missing = [path for path in found if not os.path.lexists(path)]
    if found and len(missing) == len(found):
        raise UserError(f"There is no image {listing(map(repr, missing))}.")
    return found


def _paths(content: bytes, where: str) -> list[str]:
    # Names of files are bytes: they need not be UTF-8. An empty line names no file.
    return [os.fsdecode(line) for line in _lines(content, where) if line.strip()]


def _of_folder(path: str) -> list[str]:
    """Return the images in a folder, found as in training."""
    from kerasft.data.images.files import walk_images

    others: Counter[str] = Counter()
    found = [str(one) for one in walk_images(Path(path), others, key="predict")]
    if not found:
        raise UserError(f"There is no image in the folder {path!r}.")
    if others:
        said = listing(f"{count:,} {suffix}" for suffix, count in others.most_common())
        warn(f"files in {printable(path)} that are no images left out: {said}.")
    return found
