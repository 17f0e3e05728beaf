import csv
import time

import pytest

from kerasft.data.tables.readers import read
from kerasft.data.tables.reading import Layout
from kerasft.errors import UserError

SIGNS = {"tsv": "\t", "csv": ",", "semicolon": ";"}
WORDS = ["a fine film", "not for me", "so so", "seen twice", "never again"]


def rows(count=60, label=lambda i: "np"[i % 2]):
    return [[str(i), f"{WORDS[i % 5]} {i}", label(i)] for i in range(count)]


def plain(path, table, order, sign, header=("id", "text", "label")):
    """Write a file as programs do that know nothing of quotes."""
    lines = [[row[n] for n in order] for row in [list(header), *table]]
    path.write_text("".join(sign.join(line) + "\n" for line in lines), "utf-8")
    return path


def parse(path, sign=",", **settings):
    return read(path, Layout(format="csv", delimiter=sign, **settings))


def fails(path, sign, *said, **settings):
    with pytest.raises(UserError) as caught:
        parse(path, sign, **settings)
    for words in ("data.quoting=false", *said):
        assert words in str(caught.value)


@pytest.mark.parametrize("sign", SIGNS.values(), ids=list(SIGNS))
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2), (2, 1), (0, 2, 1), (1, 0, 2)])
@pytest.mark.parametrize("label", ["np", "12345", ["a|b", "b", "c|a", "c"]], ids=str)
@pytest.mark.parametrize("end", [6, 9, 58])
def test_a_quote_that_opens_in_one_row_and_closes_in_another_is_refused(
    tmp_path, sign, order, label, end
):
    table = rows(label=lambda i: label[i % len(label)])
    table[5][1] = '"' + table[5][1]
    table[end][1] += '"'
    path = plain(tmp_path / "a", table, order, sign)
    fails(path, sign, f"lines 7 to {end + 2}")
    whole = parse(path, sign, quoting=False)
    assert list(whole.cells["text"]) == [row[1] for row in table]


@pytest.mark.parametrize("sign", SIGNS.values(), ids=list(SIGNS))
def test_numbers_to_predict_are_swallowed_as_little(tmp_path, sign):
    table = rows(label=lambda i: f"{i * 1.7:.3f}")
    table[0][1] = '"' + table[0][1]
    table[40][1] += '"'
    fails(plain(tmp_path / "a", table, (1, 2), sign), sign, "lines 2 to 42")
    table = rows(label=lambda i: f"{i * 1.7:.3f}")
    table[0][1], table[59][1] = '"' + table[0][1], table[59][1] + '"'
    fails(plain(tmp_path / "a", table, (1, 2), sign), sign, "lines 2 to 61")


def test_every_place_is_named(tmp_path):
    table = rows()
    for first, last in ((3, 5), (10, 11), (20, 30)):
        table[first][1] = '"' + table[first][1]
        table[last][1] += '"'
    fails(plain(tmp_path / "a", table, (1, 2), "\t"), "\t", "5 to 7, 12 to 13, 22 to 32")


def test_blank_lines_and_windows_ends_hide_nothing(tmp_path):
    table = rows()
    table[3][1], table[6][1] = '"' + table[3][1], table[6][1] + '"'
    path = plain(tmp_path / "a", table, (1, 2), "\t")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n\r\n"))
    fails(path, "\t", "lines 9 to 15")


def test_a_header_with_a_quote_swallows_no_row(tmp_path):
    table = rows()
    table[0][1] += '"'
    path = plain(tmp_path / "a", table, (1, 2), "\t", ("id", '"text', "label"))
    fails(path, "\t", "lines 1 to 2")


def test_a_quote_that_is_never_closed_is_refused(tmp_path):
    table = rows()
    table[50][1] = '"' + table[50][1]
    fails(plain(tmp_path / "a", table, (1, 2), "\t"), "\t", "line 52")


def test_quotes_inside_cells_are_characters(tmp_path):
    table = rows()
    table[3][1], table[6][1], table[9][1] = 'a 5" disk', 'the "best" film', 'it ends with "'
    found = parse(plain(tmp_path / "a", table, (1, 2), "\t"), "\t")
    assert list(found.cells["text"]) == [row[1] for row in table]


LEGAL = [
    "Hello, friend\nbye",
    "In stock, 5\npieces",
    "Well,\nfine",
    "One\nline, then\nanother, too\n\nand the end",
    'He said "no, no"\nand left',
    "However, it was\nHowever, it is",
    "n, p\np, n",
    "list:\n- one\n- two",
    "tab\tthere\nand\tthere",
    "\nbegins and ends with a break\n",
]


@pytest.mark.parametrize("sign", SIGNS.values(), ids=list(SIGNS))
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2), (2, 1)])
@pytest.mark.parametrize("label", ["np", "12345", ["1.5", "2.25", "7.125"]], ids=str)
@pytest.mark.parametrize("share", [1, 2, 10])
def test_cells_with_line_breaks_are_read(tmp_path, sign, order, label, share):
    table = rows(80, label=lambda i: label[i % len(label)])
    for i in range(0, 80, share):
        table[i][1] = f"{LEGAL[i // share % len(LEGAL)]} {i // 20}"
    with open(tmp_path / "a", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=sign)
        writer.writerows([[row[n] for n in order] for row in [["id", "text", "label"], *table]])
    assert list(parse(tmp_path / "a", sign).cells["text"]) == [row[1] for row in table]


def test_a_carriage_return_in_a_cell_is_named(tmp_path):
    path = tmp_path / "a"
    path.write_text("".join(f"text {i}\r more,n\n" for i in range(9)), "utf-8", newline="")
    fails(path, ",", "line 1 holds a carriage return", header=False)
    found = parse(path, header=False, quoting=False)
    assert found.cells["0"][0] == "text 0\r more"


def combined(i):
    return ";".join(sign for n, sign in enumerate("abcdefgh") if i * 37 % 255 >> n & 1) or "a"


@pytest.mark.parametrize("sign", SIGNS.values(), ids=list(SIGNS))
def test_labels_of_many_combinations_are_known_by_their_pieces(tmp_path, sign):
    label = (lambda i: combined(i).replace(";", "|")) if sign == ";" else combined
    table = rows(label=label)
    table[10][1], table[14][1] = '"' + table[10][1], table[14][1] + '"'
    fails(plain(tmp_path / "a", table, (1, 2), sign), sign, "lines 12 to 16")


def test_rows_that_may_be_swallowed_are_mentioned_where_no_column_is_clear(tmp_path):
    table = rows(label=lambda i: f"answer {i * 7}")
    table[10][1], table[14][1] = '"' + table[10][1], table[14][1] + '"'
    path = plain(tmp_path / "a", table, (1, 2), ",")
    found = parse(path)
    assert "lines 12 to 16" in found.notices[0] and "data.quoting=false" in found.notices[0]
    assert not parse(path, quoting=False).notices and not parse(path, quoting="strict").notices


def test_cells_that_hold_whole_tables_are_read_where_quotes_are_believed(tmp_path):
    with open(tmp_path / "a", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([("text", "label"), *((f"{i},p\n{i},n\n{i},p", "np"[i % 2])
                                               for i in range(40))])  # fmt: skip
    fails(tmp_path / "a", ",", "data.quoting=strict")
    assert parse(tmp_path / "a", quoting="strict").cells["text"][7] == "7,p\n7,n\n7,p"
    with pytest.raises(UserError, match="true, false or strict"):
        parse(tmp_path / "a", quoting="false")


@pytest.mark.parametrize("line", ["sep=;", "SEP=;", '"sep=;"'])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_first_line_that_names_the_delimiter_is_followed(tmp_path, line, end):
    path = plain(tmp_path / "a", rows(), (1, 2), ";")
    path.write_bytes(f"{line}\n{path.read_text()}".replace("\n", end).encode())
    found = read(path, Layout(format="csv"))
    assert found.names == ("text", "label") and len(found) == 60 and found.places[0] == 3
    assert parse(path, ";", quoting=False).places[0] == 3


def test_a_long_cell_of_digits_takes_no_time(tmp_path):
    path = plain(tmp_path / "a", [*rows(), ["60", "1" * 200_000 + "x", "n"]], (1, 2), ",")
    path.write_text(path.read_text() + '"a\nb",n\n')
    began = time.perf_counter()
    assert len(parse(path)) == 62
    assert time.perf_counter() - began < 5
