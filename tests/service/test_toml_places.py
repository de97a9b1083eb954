"""The places of keys and values in a TOML file, however it is written."""

from hypothesis import given
from hypothesis import strategies as st

from hawk.service.located import Item
from hawk.service.toml_reading import read_toml

VALUES = st.sampled_from(
    [
        *[
            "1",
            "-1.5e3",
            "true",
            "inf",
            "0x1F",
            "1979-05-27 07:32:00",
            "1979-05-27T07:32:00Z",
            "07:32:00",
            "1979-05-27",
        ],
        *['"a"', '"a # ] = \\" b"', "'[x] = \\'", '""', "''"],
        *['"""a\nport = 1\n"quoted" \\" """', '"""a"""""', "'''\n[mqtt]\n'''", "'''a'''''"],
        *[
            "[]",
            "[1, 2]",
            '[ "]", [\n# ]\n3 ], ]',
            "{}",
            "{ a = 1, b.c = [ { d = '}' } ], \"}\" = 2 }",
            "[{a = 1}, {a = 2}]",
        ],
    ]
)
KEYS = st.lists(
    st.sampled_from(["port", "a-b", "1", '"q = #"', "'[l]'", '"\\u00e9"', "a . b", "b.'x.y'"]),
    unique_by=lambda key: key.partition(".")[0].strip(),
)
GAPS = st.sampled_from(["", "\n", "# port = 1\n", "\r\n", "  \n\t"])
EQUALS = st.sampled_from(["=", " = ", "\t= "])
HEADS = st.sampled_from(
    ["[mqtt]", "[ mqtt ]  # ]", '["mqtt"]', "[first]\nport = 1\n\n[mqtt]", "[[first.x]]\n[[first.x]]\n[mqtt]"]
)


@given(st.data())
def test_every_key_and_every_value_is_found_where_it_was_written(data: st.DataObject) -> None:
    text = f"{data.draw(GAPS)}{data.draw(HEADS)}\n"
    expected = []
    for key in data.draw(KEYS):
        text += data.draw(GAPS)
        start = len(text)
        text += key + data.draw(EQUALS)
        value_start = len(text)
        text += data.draw(VALUES) + "\n"
        expected.append((start, value_start, "." in key.replace("x.y", "")))
    tree = read_toml(text, "hawk.toml")
    assert tree.top is not None
    assert isinstance(tree.top.value, tuple)
    [section] = [item for item in tree.top.value if item.key == "mqtt"]
    assert isinstance(section.value, tuple)
    for item, (start, value_start, is_dotted) in zip(section.value, expected, strict=True):
        assert index(text, item, of_value=False) == start
        # A dotted key makes a table, and a table stands where its name does.
        assert index(text, item, of_value=True) == (start if is_dotted else value_start)


def index(text: str, item: Item, *, of_value: bool) -> int:
    place = item.value_at if of_value else item.key_at
    lines = text.split("\n")
    return sum(len(line) + 1 for line in lines[: place.line - 1]) + place.column - 1
