"""A scene written to disk and read back into another, as Slicer saves it. Test helper."""

from slice_view import SlicerCore


def saved_and_loaded(core, tmp_path, kind):
    """A new SlicerCore with what `core` had; `kind` is "bundle" (.mrb) or "folder"."""
    restored = SlicerCore()
    if kind == "bundle":
        path = str(tmp_path / "scene.mrb")
        assert core.scene.WriteToMRB(path)
        unpacked = tmp_path / "unpacked"
        unpacked.mkdir()
        assert restored.application.OpenSlicerDataBundle(path, str(unpacked))
    else:
        folder = tmp_path / "saved"
        folder.mkdir()
        assert core.scene.SaveSceneToSlicerDataBundleDirectory(str(folder))
        (path,) = folder.rglob("*.mrml")
        restored.scene.SetURL(str(path))
        assert restored.scene.Connect()
    return restored


def saved_text(scene, tmp_path):
    """The .mrml file of a scene, as text."""
    path = tmp_path / "scene.mrml"
    scene.SetURL(str(path))
    assert scene.Commit()
    return path.read_text()
