import pytest

from synthset.errors import InputError
from synthset.sources.classes import read_classes

RED, BLUE = (176, 0, 0), (0, 0, 255)


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("a.json", '{"crop": 1, "broad leaf": 7}', {"crop": 1, "broad leaf": 7}),
        ("a.json", '{"crop": "#b00000", "weed": [0, 0, 255]}', {"crop": RED, "weed": BLUE}),
        ("a.json", '{"0": "soil", "1": "crop"}', {"soil": 0, "crop": 1}),  # id2label of transformers
        ("a.json", '["soil", "crop"]', {"soil": 0, "crop": 1}),
        ("a.JSON", '\ufeff{"crop": 1}', {"crop": 1}),
        ("a.yaml", "crop: 1\nweed: 2\n", {"crop": 1, "weed": 2}),
        ("a.yml", "crop: '#b00000'\nweed: [0, 0, 255]\n", {"crop": RED, "weed": BLUE}),
        ("a.yaml", "0: soil\n1: crop\n", {"soil": 0, "crop": 1}),
        ("a.yaml", "- soil\n- crop\n", {"soil": 0, "crop": 1}),
        ("class_dict.csv", "name,r,g,b\nCrop,176,0,0\nWeed,0,0,255\n", {"Crop": RED, "Weed": BLUE}),
        ("a.csv", "name, r, g, b\nCrop , 176, 0, 0\n\n", {"Crop": RED}),
        ("a.csv", "\ufeffname;value\r\ncrop;1\r\nbroad leaf;2\r\n", {"crop": 1, "broad leaf": 2}),  # as Excel writes it
        ("a.csv", 'id,name,count\n3,"crop, young",77\n', {"crop, young": 3}),
        ("a.csv", "name,color\ncrop,#B00000\n", {"crop": RED}),
        ("a.tsv", "label\tvalue\ncrop\t1\n", {"crop": 1}),
        (
            "labelmap.txt",  # as CVAT writes it
            "# label:color_rgb:parts:actions\nbackground:0,0,0::\nbroad leaf:176,0,0::\n",
            {"background": (0, 0, 0), "broad leaf": RED},
        ),
        ("a.txt", "crop 1\nbroad leaf 2\n", {"crop": 1, "broad leaf": 2}),
        ("a.txt", "crop #b00000\nbroad leaf\t#0000ff\n", {"crop": RED, "broad leaf": BLUE}),
        ("a.txt", "crop 176 0 0\nbroad leaf: 0, 0, 255\n", {"crop": RED, "broad leaf": BLUE}),
        ("a.txt", "# value of each class\n\nsoil = 0\ncrop=255\n", {"soil": 0, "crop": 255}),
        ("a.names", "soil\nbroad leaf\n", {"soil": 0, "broad leaf": 1}),
    ],
)
def test_names_come_with_their_values_or_colors(tmp_path, name, content, expected):
    path = tmp_path / name
    path.write_bytes(content.encode())
    found = read_classes(path)
    assert found == expected
    assert list(found) == list(expected)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.json", b"", "is not JSON"),
        ("a.json", b"{", "is not JSON"),
        ("a.json", b"[" * 100000, "is not JSON"),
        ("a.json", b"{}", "has no classes"),
        ("a.json", b"3", "is no object of names and values"),
        ("a.json", b'{"crop": 1, "crop": 2}', "has the class crop twice"),
        ("a.json", b'{"crop": 1, "weed": 1}', "gives weed '1', and crop too"),
        ("a.json", b'{"crop": 1, "weed": "#0000ff"}', "but crop has a value"),
        ("a.json", b'{"crop": 1.5}', "gives crop '1.5'"),
        ("a.json", b'{"crop": -1}', "gives crop '-1'"),
        ("a.json", b'{"crop": true}', "gives crop 'True'"),
        ("a.json", b'{"crop": [1, 2]}', "gives crop '[1, 2]'"),
        ("a.json", b'{"crop": [1, 2, 256]}', "gives crop '[1, 2, 256]'"),
        ("a.json", b'{"crop": "red"}', "gives crop 'red'"),
        ("a.json", b'{"": 1}', "where the name of a class should be"),
        ("a.json", b'{"a\\nb": "x\\ny"}', "give a whole number from 0"),
        ("a.yaml", b"crop: #b00000\n", "a color as '#rrggbb' in quotes"),  # the rest is a comment in YAML
        ("a.yaml", b"no: 1\n", "put names in quotes"),  # is false in YAML
        ("a.yaml", b"crop: 1\ncrop: 2\n", "has a name twice"),
        ("a.yaml", b"crop: [1\n", "is not YAML"),
        ("a.yaml", b"", "is no object of names and values"),
        ("a.csv", b"", "has no classes"),
        ("a.csv", b"crop,1\nweed,2\n", "name its columns name,value"),
        ("a.csv", b"name,value\ncrop,1,2\n", "row 2 has 3 columns instead of 2"),
        ("a.csv", b"name,value\ncrop,one\n", "gives crop 'one'"),
        ("a.csv", b"name,r,g,b\ncrop,1,2,x\n", "gives crop"),
        ("a.txt", b"crop 1\nweed\n", "the line 'weed' without a value"),
        ("a.txt", b"crop 1 2\n", "with 2 numbers"),
        ("a.txt", b"crop #b000\n", "gives crop '#b000'"),
        ("a.txt", b"\n# nothing\n", "has no classes"),
        ("a.txt", "Rübe 1\n".encode("latin-1"), "is not UTF-8 (byte 1 is 0xfc); save it as UTF-8"),
        ("a.txt", b"crop\x00 1\nweed\x00 1\n", "gives"),
    ],
)
def test_what_is_no_list_of_classes_is_refused_in_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_classes(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", ["gone.json", ".", "a\x00b"])
def test_what_is_no_file_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="is no file; give the file of the classes"):
        read_classes(tmp_path / name)
