"""Exports of annotation tools, written as the tools write them, against masks made by hand."""

import base64
import io
import json
import os
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks

from synthset.errors import InputError
from synthset.sources.annotations import FORMATS
from synthset.sources.annotations.drawing import Drawing, ellipse, outline, runs
from synthset.sources.reading import Reading, Window

W, H = 20, 14
CROP, WEED = [(2, 3), (8, 3), (8, 9), (2, 9)], [(6, 5), (12, 5), (12, 12), (6, 12)]
# A square with a square hole: one outline that goes in and out along the same cut, as converters write it.
RING = [(13, 1), (19, 1), (19, 7), (13, 7), (13, 1), (15, 3), (15, 5), (17, 5), (17, 3), (15, 3)]
HOLE = np.zeros((H, W), dtype=np.uint8)
HOLE[1:7, 13:19] = 1
HOLE[3:5, 15:17] = 0
SCENE = HOLE.copy()  # class 1, the crop
SCENE[3:9, 2:8] = 1
SCENE[5:12, 6:12] = 2  # class 2, the weed, drawn over it
OTHER = np.zeros((H, W), dtype=np.uint8)
OTHER[3:9, 2:8] = 1


def photo(path, size=(W, H)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 60)).save(path)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def flat(points):
    return [float(value) for point in points for value in point]


def column_runs(mask):
    """COCO's uncompressed runs, counted by hand: down the columns, background first."""
    values, counts = mask.T.ravel().tolist(), [0]
    for before, value in zip([0, *values], values, strict=False):
        if value != before:
            counts.append(0)
        counts[-1] += 1
    return counts


def row_runs(mask):
    return column_runs(mask.T)


def coco_document(names, objects, ring):
    compressed = coco_masks.encode(np.asfortranarray(HOLE))["counts"].decode()
    counts = column_runs(HOLE) if ring == "plain" else compressed
    shapes = {
        "crop": (7, [flat(CROP)]),
        "weed": (3, [flat(WEED)]),
        "ring": (7, {"counts": counts, "size": [H, W]}),
    }
    images = [
        {"id": 40 + number, "file_name": name, "width": W, "height": H, "license": 1, "date_captured": "2024-05-01"}
        for number, name in enumerate(names)
    ]
    annotations = [
        {
            "id": 100 + number,
            "image_id": 40 + image,
            "category_id": shapes[key][0],
            "segmentation": shapes[key][1],
            "area": 36.0,
            "bbox": [2.0, 3.0, 6.0, 6.0],
            "iscrowd": int(key == "ring"),
        }
        for number, (image, key) in enumerate(objects)
    ]
    categories = [{"id": 7, "name": "crop", "supercategory": "plant"}, {"id": 3, "name": "weed", "supercategory": ""}]
    return {
        "info": {"year": 2024, "version": "1.0", "description": "", "contributor": "", "url": ""},
        "licenses": [{"id": 1, "name": "CC BY 4.0", "url": ""}],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


ALL, ONE = [(0, "crop"), (0, "weed"), (0, "ring")], [(0, "crop")]


def coco_official(folder):
    photo(folder / "train2017" / "000001.jpg")
    photo(folder / "val2017" / "000001.jpg")  # a name in both splits
    write(folder / "annotations" / "instances_train2017.json", coco_document(["000001.jpg"], ALL, "compressed"))
    write(folder / "annotations" / "instances_val2017.json", coco_document(["000001.jpg"], ONE, "compressed"))
    captions = {"images": [], "annotations": [{"id": 1, "image_id": 40, "caption": "a field"}]}
    write(folder / "annotations" / "captions_train2017.json", captions)
    return "COCO JSON", {"train": [SCENE], "validation": [OTHER]}


def coco_roboflow(folder):
    photo(folder / "train" / "a_jpg.rf.0a1b.jpg")
    photo(folder / "valid" / "b_jpg.rf.9c8d.jpg")
    write(folder / "train" / "_annotations.coco.json", coco_document(["a_jpg.rf.0a1b.jpg"], ALL, "plain"))
    write(folder / "valid" / "_annotations.coco.json", coco_document(["b_jpg.rf.9c8d.jpg"], ONE, "plain"))
    return "COCO JSON", {"train": [SCENE], "validation": [OTHER]}


def coco_beside(folder):
    photo(folder / "images" / "2024" / "a.jpg")
    document = coco_document(["C:\\Users\\me\\2024\\a.jpg"], ALL, "plain")
    document["annotations"][0]["segmentation"] = [[str(value) for value in flat(CROP)]]
    (folder / "result.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(document).encode())
    return "COCO JSON", {"train": [SCENE]}


def labelme_document(name, shapes, **more):
    entries = [
        {"label": label, "points": points, "group_id": None, "description": "", "shape_type": kind, "flags": {},
         "mask": mask}
        for label, kind, points, mask in shapes
    ]  # fmt: skip
    document = {"version": "5.5.0", "flags": {}, "shapes": entries, "imagePath": name, "imageData": None}
    return {**document, "imageHeight": H, "imageWidth": W, **more}


def png(mask):
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def labelme(folder):
    photo(folder / "images" / "a.jpg")
    shapes = [
        ("crop", "rectangle", [[8, 9], [2, 3]], None),
        ("weed", "polygon", WEED, None),
        ("crop", "mask", [[13, 1], [18, 6]], png(HOLE[1:7, 13:19])),
        ("crop", "line", [[1, 1], [3, 3]], None),
    ]
    write(folder / "images" / "a.json", labelme_document("..\\images\\a.jpg", shapes))
    file = io.BytesIO()
    Image.new("RGB", (W, H)).save(file, "jpeg")
    data = base64.b64encode(file.getvalue()).decode()
    shapes = [("crop", "polygon", CROP, None)]
    write(folder / "validation" / "train_7.json", labelme_document("train_7.jpg", shapes, imageData=data))
    return "LabelMe JSON", {"train": [SCENE], "validation": [OTHER]}


def yolo_line(number, points):
    return " ".join([str(number), *(f"{x / W:.6f} {y / H:.6f}" for x, y in points)]) + "\n"


YOLO_SCENE = yolo_line(0, CROP) + yolo_line(1, WEED) + "\n" + yolo_line(0, RING)


def yolo_data_yaml(folder):
    for split in ("train", "valid"):
        photo(folder / split / "images" / f"{split}.jpg")
    write(folder / "train" / "labels" / "train.txt", YOLO_SCENE)
    write(folder / "valid" / "labels" / "valid.txt", yolo_line(0, CROP))
    write(
        folder / "data.yaml",
        "train: ../train/images\nval: ../valid/images\ntest: \n\nnc: 2\nnames: ['crop', 'weed']\n\n"
        "roboflow:\n  workspace: x\n  version: 1\n",
    )
    return "YOLO segmentation", {"train": [SCENE], "validation": [OTHER]}


def yolo_ultralytics(folder):
    for split in ("train", "val"):
        photo(folder / "images" / split / "a.jpg")
    write(folder / "labels" / "train" / "a.txt", YOLO_SCENE)
    write(folder / "labels" / "val" / "a.txt", yolo_line(0, CROP))
    write(
        folder / "fields.yaml",
        "path: ../datasets/fields\ntrain: images/train\nval: images/val\nnames:\n  0: crop\n  1: weed\n",
    )
    return "YOLO segmentation", {"train": [SCENE], "validation": [OTHER]}


def yolo_classes_txt(folder):
    photo(folder / "images" / "a.png")
    write(folder / "labels" / "a.txt", YOLO_SCENE)
    write(folder / "classes.txt", "crop\nweed\n")
    write(folder / "notes.json", {"categories": [{"id": 0, "name": "crop"}], "info": {"contributor": "Label Studio"}})
    return "YOLO segmentation", {"train": [SCENE]}


def cvat(folder):
    photo(folder / "images" / "Train" / "a b.jpg")
    photo(folder / "images" / "Validation" / "a b.jpg")
    ring = ", ".join(map(str, row_runs(HOLE[1:7, 13:19])))
    points = {name: ";".join(f"{x:.2f},{y:.2f}" for x, y in shape) for name, shape in (("c", CROP), ("w", WEED))}
    write(
        folder / "annotations.xml",
        f"""<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>5</id><name>field</name><size>2</size><mode>annotation</mode><overlap>0</overlap>
      <labels>
        <label><name>crop</name><color>#24b353</color><type>any</type><attributes></attributes></label>
        <label><name>weed</name><color>#fa3253</color><type>any</type><attributes></attributes></label>
      </labels>
    </task>
    <dumped>2024-05-01 10:00:00.000000+00:00</dumped>
  </meta>
  <image id="0" name="a b.jpg" subset="Train" task_id="5" width="{W}" height="{H}">
    <polygon label="weed" source="manual" occluded="0" points="{points["w"]}" z_order="2"></polygon>
    <polygon label="crop" source="manual" occluded="0" points="{points["c"]}" z_order="1">
      <attribute name="stage">4</attribute>
    </polygon>
    <mask label="crop" source="manual" occluded="0" rle="{ring}" left="13" top="1" width="6" height="6" z_order="0">
    </mask>
    <polyline label="crop" source="manual" occluded="0" points="1.00,1.00;2.00,2.00" z_order="0"></polyline>
    <tag label="weed" source="manual"></tag>
  </image>
  <image id="1" name="a b.jpg" subset="Validation" task_id="5" width="{W}" height="{H}">
    <polygon label="crop" source="manual" occluded="0" points="{points["c"]}" z_order="0"></polygon>
  </image>
</annotations>
""",
    )
    return "CVAT XML", {"train": [SCENE], "validation": [OTHER]}


def datumaro(folder):
    names = [{"name": name, "parent": "", "attributes": []} for name in ("crop", "weed")]
    for split, labels in (("default", True), ("val", False)):
        photo(folder / "images" / split / "a.jpg")
        common = {"attributes": {"occluded": False}, "group": 0}
        ring = {"counts": coco_masks.encode(np.asfortranarray(HOLE))["counts"].decode(), "size": [H, W]}
        annotations = [
            {"id": 0, "type": "polygon", **common, "label_id": 1, "points": flat(WEED), "z_order": 3},
            {"id": 1, "type": "mask", **common, "label_id": 0, "rle": ring, "z_order": 0},
            {"id": 2, "type": "label", **common, "label_id": 0},
        ]
        crop = {"id": 3, "type": "polygon", **common, "label_id": 0, "points": flat(CROP), "z_order": 1}
        image = {"path": "a.jpg", "size": [H, W]} if labels else {"path": ""}
        item = {
            "id": "a",
            "annotations": [*(annotations if labels else []), crop],
            "attr": {"frame": 0},
            "image": image,
        }
        label = {"labels": names, "label_groups": [], "attributes": ["occluded"]}
        document = {"dm_format_version": "1.0", "media_type": 2, "infos": {}, "categories": {"label": label}}
        write(folder / "annotations" / f"{split}.json", {**document, "items": [item]})
    return "Datumaro JSON", {"train": [SCENE], "validation": [OTHER]}


# What `mask2rle` of label-studio-converter 0.0.59 makes of 255 * HOLE.
BRUSH = [
    0, 0, 4, 96, 57, 27, 254, 131, 0, 194, 255, 248, 220, 3, 11, 255, 227, 112, 9, 255, 231, 0, 159, 255, 27, 128, 79,
    255, 56, 4, 255, 248, 220, 3, 11, 255, 227, 112, 12, 47, 255, 192, 140, 192, 0,
]  # fmt: skip


def label_studio_task(number, name, results):
    annotation = {
        "id": number, "completed_by": 1, "was_cancelled": False, "ground_truth": False, "lead_time": 9.1,
        "task": number,
        "result": [
            {"original_width": W, "original_height": H, "image_rotation": 0, "id": f"r{index}", "from_name": "label",
             "to_name": "image", "origin": "manual", "type": kind, "value": value}
            for index, (kind, value) in enumerate(results)
        ],
    }  # fmt: skip
    return {
        "id": number, "annotations": [annotation], "file_upload": name, "drafts": [], "predictions": [], "meta": {},
        "data": {"image": name, "field": "north"}, "inner_id": number, "total_annotations": 1, "project": 3,
    }  # fmt: skip


def percents(points):
    return [[100 * x / W, 100 * y / H] for x, y in points]


CROP_PERCENT = {"points": percents(CROP), "closed": True, "polygonlabels": ["crop"]}


def label_studio(folder):
    photo(folder / "images" / "a b.jpg")
    photo(folder / "images" / "1234abcd-c.jpg")
    photo(folder / "images" / "new.jpg")
    results = [
        ("polygonlabels", CROP_PERCENT),
        ("polygon", {"points": percents(WEED), "closed": True}),
        ("brushlabels", {"format": "rle", "rle": BRUSH, "brushlabels": ["crop"]}),
        ("choices", {"choices": ["good"]}),
    ]
    task = label_studio_task(1, "/data/upload/3/0a1b2c3d-a%20b.jpg", results)
    labels = {"points": percents(WEED), "closed": True, "labels": ["weed"]}  # <Labels> beside <Polygon> in the setup
    task["annotations"][0]["result"].append({**task["annotations"][0]["result"][1], "type": "labels", "value": labels})
    task["annotations"].append({**task["annotations"][0], "id": 9, "was_cancelled": True})
    last = label_studio_task(2, "/data/local-files/?d=fields/1234abcd-c.jpg", [("polygonlabels", CROP_PERCENT)])
    new = {**label_studio_task(3, "/data/upload/3/99999999-new.jpg", []), "annotations": []}
    write(folder / "project-3-at-2024-05-01-10-00-0a1b2c3d.json", [task, last, new])
    return "Label Studio JSON", {"train": [OTHER, SCENE]}


def via_entry(name, regions):
    entries = [{"shape_attributes": shape, "region_attributes": {"plant": label}} for shape, label in regions]
    return {"filename": name, "size": 1234, "regions": entries, "file_attributes": {}}


def via_polygon(points):
    across, down = zip(*points, strict=True)
    return {"name": "polygon", "all_points_x": list(across), "all_points_y": list(down)}


def via_regions(label=str):
    return [
        ({"name": "rect", "x": 2, "y": 3, "width": 6, "height": 6}, label("crop")),
        (via_polygon(WEED), label("weed")),
        (via_polygon(RING), label("crop")),
        ({"name": "point", "cx": 3, "cy": 4}, label("crop")),
    ]


def via(folder):
    photo(folder / "train" / "a.jpg")
    photo(folder / "val" / "b.jpg")
    write(folder / "train" / "via_region_data.json", {"a.jpg1234": via_entry("a.jpg", via_regions())})
    other = via_entry("b.jpg", [(via_polygon(CROP), "crop")])
    write(
        folder / "val" / "via_region_data.json", {"b.jpg1234": {**other, "regions": dict(enumerate(other["regions"]))}}
    )
    return "VIA JSON", {"train": [SCENE], "validation": [OTHER]}


def via_project(folder):
    photo(folder / "a.jpg")
    write(
        folder / "via_project_1May2024_10h0m.json",
        {
            "_via_settings": {"ui": {}, "core": {"default_filepath": ""}, "project": {"name": "field"}},
            "_via_img_metadata": {"a.jpg1234": via_entry("a.jpg", via_regions(lambda name: {name: True}))},
            "_via_attributes": {"region": {"plant": {"type": "checkbox"}}, "file": {}},
            "_via_data_format_version": "2.0.10",
            "_via_image_id_list": ["a.jpg1234"],
        },
    )
    return "VIA JSON", {"train": [SCENE]}


WRITERS = [
    coco_official, coco_roboflow, coco_beside, labelme, yolo_data_yaml, yolo_ultralytics, yolo_classes_txt, cvat,
    datumaro, label_studio, via, via_project,
]  # fmt: skip


def list_with(folder, reading=None):
    found = [listing for recognize in FORMATS if (listing := recognize(folder, reading or Reading())) is not None]
    assert len(found) < 2
    return found[0] if found else None


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
def test_every_format_gives_the_same_label_map(tmp_path, writer):
    name, expected = writer(tmp_path)
    found = list_with(tmp_path)
    assert found.keys() == expected.keys()
    for split, listing in found.items():
        assert (listing.format, listing.classes) == (name, ("crop", "weed"))
        assert len(listing.records) == len(expected[split])
        for record, label_map in zip(listing.records, expected[split], strict=True):
            assert np.array_equal(record.masks.label_map((W, H)), label_map)
            window = record.masks.label_map((W, H), Window(5, 2, 9, 7))
            assert np.array_equal(window, label_map[2:9, 5:14])
            if record.image["bytes"] is None:
                assert Image.open(record.image["path"]).size == (W, H)
            else:
                assert Image.open(io.BytesIO(record.image["bytes"])).size == (W, H)


@pytest.mark.parametrize(
    "writer, skipped",
    [
        (coco_official, {"files that are no annotations of objects": 1}),
        (labelme, {"lines and points, which have no area": 1}),
        (yolo_classes_txt, {"files that are no annotations of objects": 1}),
        (cvat, {"lines, points, cuboids and skeletons, which are no areas": 1}),
        (label_studio, {"photos without an annotation": 1}),
        (via_project, {"lines and points, which have no area": 1}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_not_read_is_named(tmp_path, writer, skipped):
    writer(tmp_path)
    found = Counter()
    for listing in list_with(tmp_path).values():
        found.update({reason: len(names) for reason, names in listing.skipped.items()})
    assert found == skipped


def coco_file(folder, name="a.jpg", **changes):
    """A photo and a COCO file with one object, with `changes` to its only annotation or, where named so, its image."""
    photo(folder / "a.jpg")
    document = coco_document([name], ONE, "plain")
    for key, value in changes.items():
        part = document["images"][0] if key in ("width", "height", "file_name") else document["annotations"][0]
        part[key] = value
    write(folder / "a.json", document)


def coco_twice(folder):
    photo(folder / "a.jpg")
    document = coco_document(["a.jpg", "a.jpg"], ONE, "plain")
    write(folder / "a.json", document)


def coco_same_ids(folder):
    photo(folder / "a.jpg")
    document = coco_document(["a.jpg", "b.jpg"], ONE, "plain")
    document["images"][1]["id"] = 40
    write(folder / "a.json", document)


def coco_two_places(folder):
    photo(folder / "x" / "a.jpg")
    photo(folder / "y" / "a.jpg")
    write(folder / "a.json", coco_document(["a.jpg"], ONE, "plain"))


def coco_categories(folder, categories):
    photo(folder / "a.jpg")
    write(folder / "a.json", {**coco_document(["a.jpg"], ONE, "plain"), "categories": categories})


def coco_panoptic(folder):
    photo(folder / "a.jpg")
    document = coco_document(["a.jpg"], [], "plain")
    write(folder / "a.json", {**document, "annotations": [{"image_id": 40, "file_name": "a.png", "segments_info": []}]})


def two_formats(folder):
    coco_file(folder)
    write(folder / "b.json", labelme_document("a.jpg", []))


def labelme_shape(folder, *shape, **more):
    photo(folder / "a.jpg")
    write(folder / "a.json", labelme_document("a.jpg", [shape], **more))


def yolo_lines(folder, lines, names="crop\nweed\n"):
    photo(folder / "images" / "a.jpg")
    write(folder / "labels" / "a.txt", lines)
    write(folder / "classes.txt", names)


def yolo_yaml(folder, content):
    photo(folder / "images" / "a.jpg")
    write(folder / "labels" / "a.txt", YOLO_SCENE)
    write(folder / "data.yaml", content)


def cvat_image(folder, content, head=""):
    photo(folder / "a.jpg")
    image = f'<image id="0" name="a.jpg" width="{W}" height="{H}">{content}</image>'
    write(folder / "annotations.xml", f"{head}<annotations><version>1.1</version><meta/>{image}</annotations>")


def datumaro_annotation(folder, **annotation):
    photo(folder / "a.jpg")
    item = {"id": "a", "image": {"path": "a.jpg"}, "annotations": [{"label_id": 0, **annotation}]}
    write(folder / "a.json", {"categories": {"label": {"labels": [{"name": "crop"}]}}, "items": [item]})


def label_studio_result(folder, kind, value, annotations=1, **more):
    photo(folder / "a.jpg")
    task = label_studio_task(1, "/data/upload/1/a.jpg", [(kind, value)])
    task["annotations"][0]["result"][0].update(more)
    write(folder / "a.json", [{**task, "annotations": task["annotations"] * annotations}])


def via_region(folder, shape, attributes):
    photo(folder / "a.jpg")
    entry = via_entry("a.jpg", [])
    write(
        folder / "a.json", {"a": {**entry, "regions": [{"shape_attributes": shape, "region_attributes": attributes}]}}
    )


def broken(folder, name, content):
    photo(folder / "a.jpg")
    (folder / name).write_bytes(content)


POLYGON, BOX = via_polygon(CROP), {"x": 10, "y": 10, "width": 20, "height": 20, "rotation": 0}
BAD = {
    "COCO: box alone": (lambda at: coco_file(at, segmentation=[]), "annotation 100 of a.jpg has no outline"),
    "COCO: no segmentation": (lambda at: coco_file(at, segmentation=None), "a box is no mask"),
    "COCO: odd number": (lambda at: coco_file(at, segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "no pairs of numbers"),
    "COCO: not a number": (lambda at: coco_file(at, segmentation=[[1, 2, 3, float("nan"), 5, 6]]), "no pairs of num"),
    "COCO: a word": (lambda at: coco_file(at, segmentation=[["a", 2, 3, 4, 5, 6]]), "no pairs of numbers"),
    "COCO: huge": (lambda at: coco_file(at, segmentation=[[10**400, 2, 3, 4, 5, 6]]), "no pairs of numbers"),
    "COCO: far": (lambda at: coco_file(at, segmentation=[[0, 0, 5, 0, 5, 1e9]]), "far outside its photo of 20x14"),
    "COCO: runs too short": (
        lambda at: coco_file(at, segmentation={"counts": [3, 4], "size": [H, W]}),
        "runs of 7 pixels in all, but its mask is 20x14 = 280",
    ),
    "COCO: runs below 0": (lambda at: coco_file(at, segmentation={"counts": [290, -10], "size": [H, W]}), "no lengths"),
    "COCO: runs of text": (lambda at: coco_file(at, segmentation={"counts": "~~ü", "size": [H, W]}), "no lengths"),
    "COCO: runs that go on": (lambda at: coco_file(at, segmentation={"counts": "oooo", "size": [H, W]}), "no lengths"),
    "COCO: runs without size": (lambda at: coco_file(at, segmentation={"counts": [280]}), "list of height and width"),
    "COCO: runs of a small photo": (
        lambda at: coco_file(at, segmentation={"counts": [9, 6], "size": [3, 5]}),
        "a mask of 5x3 pixels but the photo is 20x14",
    ),
    "COCO: other size": (lambda at: coco_file(at, width=40), "of a photo of 40x14 pixels but the photo is 20x14"),
    "COCO: size of text": (lambda at: coco_file(at, width="wide"), "states a photo of wide x 14 pixels"),
    "COCO: no file name": (lambda at: coco_file(at, file_name=None), "image 40 has no file_name"),
    "COCO: unknown category": (lambda at: coco_file(at, category_id=99), "of category 99, which is not listed"),
    "COCO: unknown image": (lambda at: coco_file(at, image_id=99), "of image 99, which is not listed"),
    "COCO: image of a list": (lambda at: coco_file(at, image_id=[1]), "has no id of the image of annotation 100"),
    "COCO: photo not there": (lambda at: coco_file(at, "b.jpg"), "none of its photos is in"),
    "COCO: photo twice": (coco_twice, "is listed twice"),
    "COCO: same ids": (coco_same_ids, "has two images of id 40; keep one of them"),
    "COCO: photo in two places": (coco_two_places, "a.jpg; keep one of them"),
    "COCO: no categories": (lambda at: coco_categories(at, None), "has no list of categories"),
    "COCO: category twice": (lambda at: coco_categories(at, [{"id": 7, "name": "a"}] * 2), "two categories of id 7"),
    "COCO: nameless": (lambda at: coco_categories(at, [{"id": 7}]), "category 7 has no name"),
    "COCO: panoptic": (coco_panoptic, "panoptic format, which is not read"),
    "two formats": (two_formats, "annotations in 2 formats: COCO JSON"),
    "LabelMe: circle": (lambda at: labelme_shape(at, "crop", "circle", [[1, 2]], None), "1 points instead of 2"),
    "LabelMe: other shape": (lambda at: labelme_shape(at, "crop", "star", CROP, None), "shape 1 is a star of 4 points"),
    "LabelMe: no label": (lambda at: labelme_shape(at, None, "polygon", CROP, None), "shape 1 has no label"),
    "LabelMe: broken mask": (lambda at: labelme_shape(at, "a", "mask", CROP, "AAAA"), "mask that can't be read"),
    "LabelMe: no mask": (lambda at: labelme_shape(at, "a", "mask", CROP, None), "no mask in base64"),
    "LabelMe: imageData": (
        lambda at: write(at / "a.json", labelme_document("a.jpg", [("a", "polygon", CROP, None)], imageData="é")),
        "imageData that is not in base64",
    ),
    "LabelMe: height 0": (
        lambda at: labelme_shape(at, "a", "polygon", CROP, None, imageHeight=0),
        "states a photo of 20 x 0 pixels",
    ),
    "YOLO: box": (lambda at: yolo_lines(at, "0 0.5 0.5 0.2 0.2\n"), "a.txt line 1 has 4 numbers, a box"),
    "YOLO: odd": (lambda at: yolo_lines(at, YOLO_SCENE + "0 .1 .1 .2 .2 .3 .3 .4"), "line 5 has 7 numbers after"),
    "YOLO: no points": (lambda at: yolo_lines(at, YOLO_SCENE + "0"), "line 5 has 0 numbers after its class"),
    "YOLO: unknown class": (lambda at: yolo_lines(at, yolo_line(2, CROP)), "has class 2, but classes are 0 to 1"),
    "YOLO: broken class": (lambda at: yolo_lines(at, YOLO_SCENE + "x .1 .1 .2 .2 .3 .3"), "has class x"),
    "YOLO: pixels": (lambda at: yolo_lines(at, "0 10 10 200 10 200 200\n"), "numbers above 1; give points as shares"),
    "YOLO: not a number": (lambda at: yolo_lines(at, YOLO_SCENE + "0 nan .1 .2 .2 .3 .3"), "no pairs of numbers"),
    "YOLO: no such folder": (lambda at: yolo_yaml(at, "train: pics\nnames: [crop, weed]\n"), "train is pics, which"),
    "YOLO: numbered names": (lambda at: yolo_yaml(at, "train: images\nnames: {1: crop, 2: weed}\n"), "numbered 0 to 1"),
    "YOLO: same names": (lambda at: yolo_yaml(at, "train: images\nnames: [crop, crop]\n"), "same name for two classes"),
    "YOLO: photo in two splits": (
        lambda at: yolo_yaml(at, "train: images\nval: images\nnames: [crop, weed]\n"),
        "is in the splits train and val",
    ),
    "YOLO: no YAML": (lambda at: yolo_yaml(at, "train: [\n"), "data.yaml is not YAML"),
    "CVAT: box": (lambda at: cvat_image(at, '<box label="a" xtl="1" ytl="1" xbr="5" ybr="5"/>'), "box 1 is a box"),
    "CVAT: points": (lambda at: cvat_image(at, '<polygon label="a" points="1,2;3"/>'), "polygon 1 has points"),
    "CVAT: no label": (lambda at: cvat_image(at, '<polygon points="1,2;3,4;5,6"/>'), "polygon 1 has no label"),
    "CVAT: runs": (
        lambda at: cvat_image(at, '<mask label="a" rle="1, 2" left="1" top="1" width="3" height="2"/>'),
        "runs of 3 pixels in all, but its mask is 3x2 = 6",
    ),
    "CVAT: mask outside": (
        lambda at: cvat_image(at, '<mask label="a" rle="0,6" left="18" top="1" width="3" height="2"/>'),
        "a mask of 3x2 pixels at 18, 1, partly outside",
    ),
    "CVAT: mask of infinity": (
        lambda at: cvat_image(at, '<mask label="a" rle="0,6" left="inf" top="1" width="3" height="2"/>'),
        "lacks a number",
    ),
    "CVAT: radius": (
        lambda at: cvat_image(at, '<ellipse label="a" cx="3" cy="3" rx="-2" ry="2"/>'),
        "negative radius",
    ),
    "CVAT: entity bomb": (
        lambda at: cvat_image(at, "&b;", '<!DOCTYPE x [<!ENTITY a "aaa"><!ENTITY b "&a;&a;">]>'),
        "it defines entities",
    ),
    "CVAT: video": (
        lambda at: broken(at, "a.xml", b'<annotations><track id="0" label="a"></track></annotations>'),
        "CVAT for video, which is not read",
    ),
    "Datumaro: box": (lambda at: datumaro_annotation(at, type="bbox", bbox=[1, 1, 2, 2]), "annotation 1 is a box"),
    "Datumaro: label": (
        lambda at: datumaro_annotation(at, type="polygon", points=flat(CROP), label_id=4),
        "label 4, which is not listed",
    ),
    "Datumaro: turned": (
        lambda at: datumaro_annotation(at, type="ellipse", points=[1, 1, 5, 5], attributes={"rotation": 30}),
        "an ellipse that is turned",
    ),
    "Label Studio: box": (
        lambda at: label_studio_result(at, "rectanglelabels", {**BOX, "rectanglelabels": ["crop"]}),
        "result r0 is a box",
    ),
    "Label Studio: two annotators": (
        lambda at: label_studio_result(at, "polygonlabels", CROP_PERCENT, annotations=2),
        "task 1 (/data/upload/1/a.jpg) has 2 annotations",
    ),
    "Label Studio: two classes": (
        lambda at: label_studio_result(at, "polygonlabels", {**CROP_PERCENT, "polygonlabels": ["crop", "weed"]}),
        "result r0 has 2 classes",
    ),
    "Label Studio: open": (
        lambda at: label_studio_result(at, "polygonlabels", {**CROP_PERCENT, "closed": False}),
        "an outline that is not closed",
    ),
    "Label Studio: turned": (
        lambda at: label_studio_result(at, "polygonlabels", CROP_PERCENT, image_rotation=90),
        "a photo that was turned in Label Studio",
    ),
    "Label Studio: no size": (
        lambda at: label_studio_result(at, "polygonlabels", CROP_PERCENT, original_width=None, original_height=None),
        "does not say how large its photo is",
    ),
    "Label Studio: brush breaks off": (
        lambda at: label_studio_result(at, "brushlabels", {"format": "rle", "rle": BRUSH[:20], "brushlabels": ["a"]}),
        "break off or run over",
    ),
    "Label Studio: brush of another photo": (
        lambda at: label_studio_result(
            at, "brushlabels", {"format": "rle", "rle": [0, 0, 9, *BRUSH[3:]], "brushlabels": ["a"]}
        ),
        "not of the 20x14 it states",
    ),
    "Label Studio: brush of numbers above 255": (
        lambda at: label_studio_result(at, "brushlabels", {"format": "rle", "rle": [999], "brushlabels": ["a"]}),
        "no packed bytes of a brush",
    ),
    "VIA: two attributes": (
        lambda at: via_region(at, POLYGON, {"plant": "crop", "stage": "4"}),
        "the attributes plant, stage; keep the one that is the class",
    ),
    "VIA: two classes": (lambda at: via_region(at, POLYGON, {"plant": {"a": True, "b": True}}), "no plant, its class"),
    "VIA: uneven": (lambda at: via_region(at, {**POLYGON, "all_points_y": [1]}, {}), "4 points in x and 1 in y"),
    "VIA: radius": (lambda at: via_region(at, {"name": "circle", "cx": 1, "cy": 2}, {}), "lacks a number"),
    "VIA: other shape": (lambda at: via_region(at, {"name": "star"}, {}), "region 1 is a star"),
    "JSON: cut off": (lambda at: broken(at, "a.json", b'{"images": [{"id": 1'), "a.json is not JSON"),
    "JSON: empty": (lambda at: broken(at, "a.json", b""), "a.json is not JSON"),
    "JSON: nested": (lambda at: broken(at, "a.json", b"[" * 200000), "nested too deeply"),
    "JSON: bytes": (lambda at: broken(at, "a.json", b'{"images": "\xff\xfe"}'), "it is not UTF-8"),
    "XML: cut off": (lambda at: broken(at, "a.xml", b"<annotations><image "), "a.xml is not XML"),
    "no object": (lambda at: labelme_shape(at, "a", "line", CROP, None), "--missing_masks empty takes such photos"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_broken_exports_are_refused_in_one_line_that_names_the_file(tmp_path, case):
    make, message = BAD[case]
    make(tmp_path)
    with pytest.raises(InputError) as error:
        for listing in list_with(tmp_path).values():
            for record in listing.records:
                record.masks.label_map((W, H))
    assert message in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert str(error.value).isprintable()
    assert ";" in str(error.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda at: None,
        lambda at: photo(at / "images" / "a.jpg"),
        lambda at: broken(at, "state.json", b'{"_data_files": []}'),
        lambda at: write(at / "config.json", "not JSON, and no photos"),
        lambda at: broken(at, "a.xml", b"<annotation><object><bndbox/></object></annotation>"),  # Pascal VOC
        lambda at: broken(at, "a.json", b"[]"),
        lambda at: broken(at, "a.json", b"3"),
        lambda at: broken(at, "readme.txt", b"0 0.1 0.1 0.2 0.2 0.3 0.3"),
    ],
)
def test_other_folders_are_not_recognized(tmp_path, make):
    make(tmp_path)
    assert list_with(tmp_path) is None


def test_photos_without_an_object_are_what_the_flag_says(tmp_path):
    for name in "abc":
        photo(tmp_path / f"{name}.jpg")
    photo(tmp_path / "elsewhere" / "d.jpg")
    write(tmp_path / "a.json", labelme_document("a.jpg", [("crop", "polygon", CROP, None)]))
    write(tmp_path / "b.json", labelme_document("b.jpg", []))  # c has no file
    with pytest.raises(InputError, match=r"b\.jpg has no object in its annotation \(2 such photos of 3\)"):
        list_with(tmp_path)
    empty = list_with(tmp_path, Reading(missing_masks="empty"))["train"]
    assert [(os.path.basename(record.name), bool(record.masks)) for record in empty.records] == [
        ("a.jpg", True),
        ("b.jpg", False),
        ("c.jpg", False),
    ]
    skip = list_with(tmp_path, Reading(missing_masks="skip"))["train"]
    assert [os.path.basename(record.name) for record in skip.records] == ["a.jpg"]
    assert [os.path.basename(name) for name in skip.skipped["photos without an object"]] == ["b.jpg", "c.jpg"]
    assert [os.path.basename(name) for name in skip.skipped["photos without an annotation"]] == ["d.jpg"]


@pytest.mark.parametrize("flag", ["error", "empty", "skip"])
def test_photos_that_one_file_for_all_does_not_list_are_skipped_by_name(tmp_path, flag):
    coco_file(tmp_path)
    photo(tmp_path / "b.jpg")
    (listing,) = list_with(tmp_path, Reading(missing_masks=flag)).values()
    assert [os.path.basename(record.name) for record in listing.records] == ["a.jpg"]
    assert listing.skipped == {"photos without an annotation": ["b.jpg"]}


def test_a_photo_of_the_same_name_in_another_folder_is_not_taken(tmp_path):
    for name in ("field1/b.jpg", "field2/a.jpg"):
        photo(tmp_path / name)
    write(tmp_path / "a.json", coco_document(["field1/a.jpg", "field1/b.jpg"], [*ONE, (1, "crop")], "plain"))
    (listing,) = list_with(tmp_path).values()
    assert [record.name for record in listing.records] == [str(tmp_path / "field1" / "b.jpg")]
    assert list(listing.suspicious) == ["photos that are listed but not there"]
    assert listing.skipped == {"photos without an annotation": ["field2/a.jpg"]}


def test_an_embedded_photo_is_taken_before_one_of_the_same_name_elsewhere(tmp_path):
    photo(tmp_path / "other" / "a.jpg", (5, 5))
    file = io.BytesIO()
    Image.new("RGB", (W, H)).save(file, "png")
    data = base64.b64encode(file.getvalue()).decode()
    write(tmp_path / "a.json", labelme_document("a.jpg", [("crop", "polygon", CROP, None)], imageData=data))
    (listing,) = list_with(tmp_path).values()
    assert [record.image["bytes"] for record in listing.records] == [file.getvalue()]


def test_likely_mistakes_are_named(tmp_path):
    photo(tmp_path / "a.jpg")
    document = coco_document(["a.jpg", "gone.jpg"], [*ONE, (0, "weed"), (1, "crop")], "plain")
    document["annotations"][0]["segmentation"] = [flat(CROP), [1, 1, 2, 2]]
    document["annotations"][1]["segmentation"] = [[10, 10, 30, 10, 30, 12, 10, 12]]
    write(tmp_path / "a.json", document)
    (listing,) = list_with(tmp_path).values()
    assert {reason: len(names) for reason, names in listing.suspicious.items()} == {
        "outlines of fewer than 3 points": 1,
        "photos that are listed but not there": 1,
        "objects that reach far outside their photo": 1,
    }
    expected = OTHER.copy()
    expected[10:12, 10:] = 2
    assert np.array_equal(listing.records[0].masks.label_map((W, H)), expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda at: labelme_shape(at, "crop", "rectangle", [[2, 3], [8, 9]], None),
        lambda at: via_region(at, {"name": "rect", "x": 2, "y": 3, "width": 6, "height": 6}, {"plant": "crop"}),
    ],
)
def test_rectangles_alone_are_suspicious(tmp_path, make):
    make(tmp_path)
    (listing,) = list_with(tmp_path).values()
    assert np.array_equal(listing.records[0].masks.label_map((W, H)), OTHER)
    assert list(listing.suspicious) == ["objects that are all rectangles, as for detection"]


def test_what_would_never_end_is_refused(tmp_path):
    photo(tmp_path / "a.jpg")
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"a\.json is no file; remove it"):
        list_with(tmp_path)


def test_classes_are_those_that_objects_have_and_no_more_than_a_label_map_holds(tmp_path):
    categories = [{"id": number, "name": f"c{number}"} for number in range(300)]
    coco_categories(tmp_path, categories)
    (listing,) = list_with(tmp_path).values()
    assert listing.classes == ("c7",)
    one = json.loads((tmp_path / "a.json").read_text())
    one["annotations"] = [{**one["annotations"][0], "id": number, "category_id": number} for number in range(300)]
    write(tmp_path / "a.json", one)
    with pytest.raises(InputError, match="objects of 300 classes; merge some, as a label map holds 255"):
        list_with(tmp_path)


def test_links_that_go_in_circles_are_followed_once(tmp_path):
    coco_file(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    (listing,) = list_with(tmp_path).values()
    assert len(listing.records) == 1
    assert listing.skipped == {"folders that were read by another name": ["again"]}


def test_names_that_cannot_be_printed_stay_one_line(tmp_path):
    coco_file(tmp_path, "b\n\udcff.jpg")
    with pytest.raises(InputError) as error:
        list_with(tmp_path)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("seed", range(8))
def test_windows_are_parts_of_the_whole(seed):
    draw = np.random.default_rng(seed)
    points = draw.uniform(-0.4, 1.4, (7, 2)) * (61, 43)
    counts = column_runs((draw.random((43, 61)) < 0.5).astype(np.uint8))
    box = Window(20, 11, 30, 22)
    shapes = [
        runs("a", "1", counts, Window(0, 0, 61, 43)),
        outline("b", "2", points),
        runs("c", "3", row_runs(np.triu(np.ones((22, 30), dtype=np.uint8))), box, down=False, whole=False),
        ellipse("b", "4", (50, 30), (9, 5), 30),
    ]
    drawing = Drawing("photo", None, shapes, {"a": 1, "b": 2, "c": 3})
    whole = drawing.label_map((61, 43))
    for left, top, width, height in [(0, 0, 61, 43), (13, 7, 20, 19), (60, 42, 1, 1), (25, 0, 3, 43), (0, 30, 61, 5)]:
        window = drawing.label_map((61, 43), Window(left, top, width, height))
        assert np.array_equal(window, whole[top : top + height, left : left + width])


def test_outlines_are_drawn_as_coco_draws_them():
    draw = np.random.default_rng(0)
    for _ in range(20):
        points = draw.uniform(0, 1, (6, 2)) * (61, 43)
        (expected,) = coco_masks.frPyObjects([points.ravel().tolist()], 43, 61)
        found = Drawing("photo", None, [outline("a", "1", points)], {"a": 1}).label_map((61, 43))
        assert coco_masks.encode(np.asfortranarray(found)) == expected


def test_ellipses_have_the_pixels_whose_centers_they_hold():
    y, x = np.mgrid[:80, :100] + 0.5
    across, down = (x - 50) * np.cos(0.5) + (y - 40) * np.sin(0.5), (y - 40) * np.cos(0.5) - (x - 50) * np.sin(0.5)
    distance = np.hypot(across / 30, down / 12)
    shape = ellipse("a", "1", (50, 40), (30, 12), np.rad2deg(0.5))
    found = Drawing("photo", None, [shape], {"a": 1}).label_map((100, 80))
    clear = abs(distance - 1) > 0.05  # the grid of pycocotools moves the outline by up to a tenth of a pixel
    assert np.array_equal(found[clear], distance[clear] < 1)


def test_a_window_of_a_large_photo_needs_no_more_memory_than_itself():
    size = (60_000, 60_000)  # 3.6 GB as one array
    shapes = [
        outline("a", "1", [(0, 0), (60_000, 0), (60_000, 60_000), (0, 60_000)]),
        runs("b", "2", [60_000 * 30_000 + 7, 60_000 * 30_000 - 7], Window(0, 0, *size)),
    ]
    found = Drawing("photo", size, shapes, {"a": 1, "b": 2}).label_map(size, Window(29_999, 0, 2, 9))
    assert np.array_equal(found, [[1, 1]] * 7 + [[1, 2]] * 2)


ROUNDS = int(os.environ.get("DAMAGED_FILES", "25"))  # for each format
JUNK = [None, True, -1, 10**30, 1e308, float("nan"), "", "x\n\udcff", [], [[]], {}, [1], [None, "a"], {"a": 1}]


def nodes(value):
    """Every place in parsed JSON as (container, key)."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from nodes(value[key])


def damage(draw, data, suffix):
    """Content of a file with a value of another kind, cut off, or with bits turned."""
    kind = draw.integers(4)
    if suffix == ".json" and kind < 2:
        document = json.loads(data)
        places = list(nodes(document))
        for index in draw.integers(len(places), size=1 + kind):
            container, key = places[index]
            container[key] = JUNK[draw.integers(len(JUNK))]
        return json.dumps(document).encode()
    if kind == 2:
        return data[: draw.integers(len(data))]
    changed = bytearray(data)
    for place in draw.integers(len(data), size=4):
        changed[place] ^= 1 << int(draw.integers(8))
    return bytes(changed)


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path, writer):
    writer(tmp_path)
    files = [path for path in sorted(tmp_path.rglob("*.*")) if path.suffix in (".json", ".xml", ".yaml", ".txt")]
    draw = np.random.default_rng(WRITERS.index(writer))
    refused = 0
    for _ in range(ROUNDS):
        path = files[draw.integers(len(files))]
        data = path.read_bytes()
        path.write_bytes(damage(draw, data, path.suffix))
        try:
            for listing in (list_with(tmp_path, Reading(missing_masks="empty")) or {}).values():
                for record in listing.records:
                    if record.masks:
                        record.masks.label_map((W, H))
        except InputError as error:
            assert str(error).isprintable()
            refused += 1
        path.write_bytes(data)
    assert refused >= ROUNDS / 6
