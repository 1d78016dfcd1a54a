"""Names that lead elsewhere, against a running server; the disk must be as it was before."""

from __future__ import annotations

import io
import stat
import struct
import tarfile
import zipfile
from urllib.parse import quote

import numpy as np
import pytest

from attacked import Answer, Attacked, ask, assert_refused, forgets, form, settled, tree
from openapi_walk import routes
from scripted import nifti, wait_until

pytestmark = pytest.mark.slow
ESCAPES = (
    *("../evil", "..", ".", "a/../../../evil", "a\\..\\..\\evil", "/etc/passwd", "//etc/passwd"),
    *("C:\\evil", "c:/evil", "a\0b", "a\nb", "./evil", "a//b"),
)


@pytest.fixture
def a_server(an_attacked_server) -> Attacked:
    return an_attacked_server


@pytest.fixture
def a_scan() -> bytes:
    """A NIfTI file of 12 x 10 x 8 voxels."""
    values = np.random.default_rng(3).normal(size=(12, 10, 8)).astype(np.float32)
    return nifti(values).to_bytes()


@pytest.fixture
def a_study(a_server, a_scan) -> str:
    body, kind = form({}, file=("case_1.nii", a_scan))
    answer = ask(a_server, "PUT", "/datastore/image?image=case_1", body, content_type=kind)
    assert answer.status == 200, answer.body
    return "case_1"


@pytest.fixture
def a_link_outside(a_server, a_scan) -> str:
    """An image of the studies that is a link to a file outside; its id."""
    secret = a_server.outside / "secret.nii"
    secret.write_bytes(a_scan)
    link = a_server.studies / "linked.nii"
    link.symlink_to(secret)
    yield "linked"
    link.unlink(missing_ok=True)


def put_image(server: Attacked, target: str, filename: str, content: bytes) -> Answer:
    body, kind = form({}, file=(filename, content))
    return ask(server, "PUT", target, body, content_type=kind)


def put_files(server: Attacked, target: str, *files: tuple[str, bytes]) -> Answer:
    parts = [form({}, files=file) for file in files]
    end = b"--frontier--\r\n"
    return ask(
        server,
        "PUT",
        target,
        b"".join(body.removesuffix(end) for body, _ in parts) + end,
        content_type=parts[0][1],
    )


def test_no_parameter_of_any_route_leads_out(a_server):
    found = routes(a_server)
    places = [(r, name) for r in found for p in ("path", "query") for name in r.parameters(p)]
    before = settled(a_server)

    for route, name in places:
        for escape in ESCAPES:
            answer = ask(a_server, route.method, route.target({name: escape}))
            assert 400 <= answer.status < 500, (str(route), name, escape, answer.status)
            if route.method != "HEAD":
                assert_refused(answer, answer.status)

    assert len(places) > 30
    assert tree(a_server.home) == before


@pytest.mark.parametrize("escape", [*ESCAPES, "a/b", ".lock", ".bird/evil", "datastore_v2"])
@pytest.mark.parametrize("target", ["/datastore/image?image=", "/datastore/?image="])
def test_an_image_is_a_plain_file_beside_the_others(a_server, a_scan, escape, target):
    before = settled(a_server)
    suffix = ".json" if escape == "datastore_v2" else ".nii"

    answer = put_image(a_server, target + quote(escape, safe=""), f"x{suffix}", a_scan)

    assert_refused(answer, 400, 422)
    assert tree(a_server.home) == before


@pytest.mark.parametrize("tag", ["..", "a/b", "../../evil", ".hidden", "/tmp", "a\\b"])
def test_a_labels_tag_is_a_plain_name(a_server, a_study, tag):
    before = settled(a_server)
    body, kind = form({}, label=("x.nii", b"label"))

    answer = ask(
        a_server,
        "PUT",
        f"/datastore/label?image={a_study}&tag={tag.replace('/', '%2F')}",
        body,
        content_type=kind,
    )

    assert_refused(answer, 400)
    assert tree(a_server.home) == before


@pytest.mark.parametrize(
    "filename",
    [
        pytest.param("..", id="up"),
        pytest.param("x/..", id="up behind a slash"),
        pytest.param("x.exe", id="unknown suffix"),
        pytest.param("x.nii" + "g" * 300, id="endless suffix"),
        pytest.param("n" * 300 + ".nii", id="endless name"),
        pytest.param(".nii", id="no name"),
        pytest.param("a\0.nii", id="NUL"),
    ],
)
@pytest.mark.parametrize(
    ("method", "target", "field"),
    [
        pytest.param("PUT", "/datastore/image", "file", id="image"),
        pytest.param("PUT", "/datastore/label?image=case_1", "label", id="label"),
        pytest.param("POST", "/infer/bird_grounding", "file", id="infer"),
    ],
)
def test_file_names_in_forms_are_judged(a_server, a_study, method, target, field, filename):
    before = settled(a_server)
    body, kind = form({}, **{field: (filename, b"evil")})

    answer = ask(a_server, method, target, body, content_type=kind)

    assert_refused(answer, 400, 422)
    assert tree(a_server.home) == before


@pytest.mark.parametrize(
    "path", ["/home/me/case_7.nii", "C:\\scans\\case_7.nii", "../../case_7.nii"]
)
def test_of_a_path_in_a_form_only_the_name_counts(a_server, a_scan, path):
    before = settled(a_server)

    answer = put_image(a_server, "/datastore/image", path, a_scan)

    assert (answer.status, answer.json()) == (200, {"image": "case_7"})
    ask(a_server, "DELETE", "/datastore/image?id=case_7")
    wait_until(lambda: forgets(a_server, "case_7"), seconds=60)
    assert set(tree(a_server.home)) <= {*before, "studies/datastore_v2.json"}


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([".."], id="up"),
        pytest.param(["a/.."], id="up behind a slash"),
        pytest.param(["a\0b"], id="NUL"),
        pytest.param(["meta.info"], id="the session's own file"),
        pytest.param(["a.dcm", "x/a.dcm"], id="one name twice"),
        pytest.param(["scan.mhd"], id="header that names its voxels' file"),
        pytest.param(["scan.NHDR"], id="the same in NRRD"),
    ],
)
def test_session_files_are_plain(a_server, names):
    before = settled(a_server)

    answer = put_files(a_server, "/session/", *[(name, b"evil") for name in names])

    assert_refused(answer, 400, 422)
    assert tree(a_server.home) == before


def test_archives_are_not_unpacked_into_sessions(a_server):
    before, buffer = settled(a_server), io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("../../../outside/evil")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"evil"))

    answer = put_files(a_server, "/session/?uncompress=true", ("x.tar", buffer.getvalue()))

    assert_refused(answer, 422)
    assert tree(a_server.home) == before


@pytest.mark.parametrize("session_id", ["..", "%2e%2e", "a%2f..%2f..", "meta.info", "*", "0" * 36])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_only_ids_of_sessions_name_sessions(a_server, a_scan, method, session_id):
    made = put_files(a_server, "/session/", ("scan.nii", a_scan)).json()["session_id"]
    before = settled(a_server)

    assert_refused(ask(a_server, method, f"/session/{session_id}"), 400, 404)

    assert tree(a_server.home) == before
    assert ask(a_server, "DELETE", f"/session/{made}").status == 200


@pytest.mark.parametrize(
    ("method", "target"),
    [
        pytest.param("GET", "/datastore/image?image=linked", id="read"),
        pytest.param("HEAD", "/datastore/image?image=linked", id="ask for"),
        pytest.param("DELETE", "/datastore/image?id=linked", id="remove"),
        pytest.param("DELETE", "/datastore/?id=linked", id="remove, older route"),
        pytest.param("POST", "/infer/bird_grounding?image=linked", id="infer"),
    ],
)
def test_a_link_that_leads_outside_is_not_there(a_server, a_link_outside, method, target):
    before = settled(a_server)
    form_body, kind = form({"params": "{}"})

    answer = ask(a_server, method, target, form_body, content_type=kind)

    assert answer.status == 404
    assert "linked" not in ask(a_server, "GET", "/datastore/?output=all").body.decode()
    assert tree(a_server.home) == before


def test_nothing_is_written_through_a_link(a_server, a_link_outside, a_scan):
    before = settled(a_server)

    answer = put_image(a_server, "/datastore/image?image=linked", "x.nii", b"evil" * 100)

    assert_refused(answer, 400)
    assert tree(a_server.home) == before


def test_no_label_is_written_through_a_linked_folder(a_server, a_study):
    folder = a_server.studies / "labels" / "mine"
    folder.symlink_to(a_server.outside, target_is_directory=True)
    before = settled(a_server)
    body, kind = form({}, label=("x.nii", b"evil"))

    answer = ask(
        a_server, "PUT", f"/datastore/label?image={a_study}&tag=mine", body, content_type=kind
    )

    assert_refused(answer, 400)
    assert tree(a_server.home) == before
    folder.unlink()


def test_the_servers_working_folder_is_no_place_of_images(a_server, a_scan):
    (a_server.home / "work" / "here.nii").write_bytes(a_scan)
    before = settled(a_server)
    body, kind = form({"params": '{"prompt": "brain"}'})

    answer = ask(a_server, "POST", "/infer/bird_grounding?image=here.nii", body, content_type=kind)

    assert assert_refused(answer, 404)["error"] == "unknown_image"
    assert tree(a_server.home) == before


@pytest.mark.parametrize("key", ["image", "model", "session", "label", "save_label", "label_tag"])
def test_params_do_not_reach_past_the_request(a_server, a_study, key):
    before = settled(a_server)
    body, kind = form({"params": f'{{"{key}": "/etc/passwd"}}'})

    answer = ask(
        a_server, "POST", f"/infer/bird_grounding?image={a_study}", body, content_type=kind
    )

    assert_refused(answer, 422)
    assert tree(a_server.home) == before


def zipped(*members: tuple[zipfile.ZipInfo | str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def promising_much(archive: bytes) -> bytes:
    """The same archive, whose table of contents says that each file has 4 GB."""
    start, changed = 0, bytearray(archive)
    while (start := archive.find(b"PK\1\2", start) + 1) > 0:
        struct.pack_into("<I", changed, start - 1 + 24, 0xFFFFFFF0)
    return bytes(changed)


def a_link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(zipped(("../../../outside/evil.dcm", b"evil")), id="slip"),
        pytest.param(zipped(("/tmp/evil.dcm", b"evil")), id="absolute"),
        pytest.param(zipped(("C:\\evil.dcm", b"evil")), id="drive"),
        pytest.param(zipped((a_link("link.dcm"), b"/etc/passwd")), id="link"),
        pytest.param(promising_much(zipped(("a.dcm", b"a"), ("b.dcm", b"b"))), id="bomb"),
        pytest.param(b"PK\3\4 and no more", id="no archive"),
        pytest.param(zipped(("a.txt", b"words")), id="no DICOM"),
    ],
)
def test_a_zip_stays_inside(a_server, archive):
    before = settled(a_server)

    answer = ask(a_server, "PUT", "/bird/v1/volumes?name=series.zip", archive)

    assert_refused(answer, 413, 422)
    assert tree(a_server.home) == before
