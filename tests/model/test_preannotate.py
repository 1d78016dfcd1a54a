"""`bird preannotate`: all that it writes, and the page of it."""

from __future__ import annotations

import json
import re
from urllib.parse import unquote

import nibabel
import numpy as np
import pytest
from PIL import Image

from preannotating import LABELS, ask, index_of, out_of, rows_of, save_noise, share


@pytest.fixture(autouse=True)
def one_model_for_all(bird_mini, monkeypatch) -> None:
    share(bird_mini, monkeypatch)


def test_a_brain_is_annotated_with_all_that_is_promised(mni152_file, tmp_path):
    root = tmp_path / "studies"
    root.mkdir()
    (root / "brain.nii.gz").symlink_to(mni152_file)
    every_second_voxel = nibabel.load(mni152_file).slicer[::2, ::2, ::2]
    nibabel.save(every_second_voxel, root / "mni.nii.gz")
    labels = tmp_path / "labels.txt"
    labels.write_text("# a brain has no liver\nliver expected\nbrain stem expected\n")
    result = ask(root, "--labels", labels, "--coarse")
    assert result.exit_code == 0, result.output
    assert "1 with an expected organ missing" in result.output
    assert "a link that leads out of the folder" in result.output

    out = out_of(root)
    [row] = index_of(out)["cases"]
    assert row["case"] == "mni.nii.gz"
    assert (row["status"], row["missing"], row["absent"]) == ("done", ["liver"], ["liver"])
    assert {finding["label"] for finding in row["findings"]} == {"brain stem"}
    assert 0 < row["asked"] < 2 * 95
    assert row["timing_s"]["total"] >= row["timing_s"]["encode"] > 0
    answer = json.loads((out / row["files"]["result"]).read_text())
    assert answer["volume"]["shape_ijk"] == row["shape_ijk"] == [99, 117, 95]
    assert len(answer["findings"]) == len(row["findings"])
    assert json.loads((out / row["files"]["markups"]).read_text())["markups"][0]["type"] == "ROI"
    with Image.open(out / row["files"]["thumbnail"]) as picture:
        assert max(picture.size) == 360
        assert np.ptp(np.asarray(picture).astype(int), axis=-1).max() > 60  # a coloured box
    assert index_of(out)["skipped"] == [
        {"name": "brain.nii.gz", "reason": "a link that leads out of the folder"}
    ]
    assert not list(out.rglob("*.unfinished"))


def test_names_and_errors_are_escaped(a_ward):
    save_noise(a_ward / "a\"'><img src=x onerror=alert(1)>.nii.gz", 5)
    broken = a_ward / "<svg onload=alert(2)>.nii.gz"
    broken.write_bytes(b"no scan")
    ask(a_ward, *LABELS)
    page = (out_of(a_ward) / "index.html").read_text(encoding="utf-8")
    assert "&lt;svg onload" in page
    assert "b/Jörg &amp; &lt;b&gt;.nii.gz" in page
    assert not re.search(r"<(svg|img src=x|b>\.nii)", page)
    tags = re.findall(r"<(img|script|link|iframe)\b([^>]*)", page)
    assert {name for name, _ in tags} == {"img", "script"}
    assert all(
        re.search(r'src="cases/[^":]+thumbnail\.png"', rest) for n, rest in tags if n == "img"
    )
    assert not re.search(r"https?://|//\w+\.", page)


def test_links_lead_to_files(an_annotated_ward):
    page = (out_of(an_annotated_ward) / "index.html").read_text(encoding="utf-8")
    links = set(re.findall(r'(?:src|href)="([^"]+)"', page))
    assert len(links) == 3 * 4
    assert all((out_of(an_annotated_ward) / unquote(link)).is_file() for link in links)


def test_flags_are_on_the_page(an_annotated_ward):
    page = (out_of(an_annotated_ward) / "index.html").read_text(encoding="utf-8")
    missing = sum(bool(row["missing"]) for row in rows_of(out_of(an_annotated_ward)).values())
    assert missing
    assert page.count('<b class="flag warn">expected organ missing</b>') == missing
    assert page.count('<b class="flag bad">failed</b>') == 1
