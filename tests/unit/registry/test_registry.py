"""Bundles are stored once, whole or not at all, and come out as they went in."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from setpoint.core import BundleNotFound, CorruptBundle, InvalidConfiguration
from setpoint.formats import PackedModel
from setpoint.registry import Bundle, Registry
from setpoint.registry.layout import Layout

Packed = Callable[..., PackedModel]


def blob_of(registry: Registry, bundle: Bundle, path: str) -> Path:
    (file,) = (file for file in bundle.files if file.path == path)
    return registry.root / "blobs" / "sha256" / file.digest.removeprefix("sha256:")


def test_a_bundle_comes_out_as_it_went_in(registry: Registry, packed: Packed) -> None:
    model = packed(b"weights", **{"data/labels.json": b"[]"})
    bundle, created = registry.add(model, "iris")
    assert created
    assert (bundle.reference, bundle.aliases) == ("iris:1", ())
    assert bundle.manifest == model.manifest
    assert [file.path for file in bundle.files] == ["data/labels.json", "model.onnx", "setpoint.json"]
    assert bundle.size_bytes == len(b"weights") + len(b"[]") + len(model.manifest.to_json())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", bundle.packed_at)
    for reference in ("iris", "iris:1", f"iris@{bundle.digest}", f"iris@{bundle.digest[:17]}"):
        assert registry.resolve(reference) == bundle
    registry.verify(bundle)


def test_the_same_content_keeps_its_version(registry: Registry, packed: Packed) -> None:
    first, _ = registry.add(packed(b"one"), "iris")
    registry.add(packed(b"two"), "iris")
    again, created = registry.add(packed(b"one"), "iris")
    assert not created
    assert again == first
    assert [bundle.reference for bundle in registry.list()] == ["iris:1", "iris:2"]


def test_the_digest_is_of_the_content_alone(registry: Registry, packed: Packed, tmp_path: Path) -> None:
    here, _ = registry.add(packed(), "iris")
    there, _ = Registry(tmp_path / "elsewhere").add(packed(), "another-name")
    assert here.digest == there.digest
    other, _ = registry.add(packed(b"weights", extra=b""), "iris")
    assert other.digest != here.digest


def test_names_share_content_and_not_versions(registry: Registry, packed: Packed) -> None:
    registry.add(packed(b"one"), "iris")
    registry.add(packed(b"two"), "iris")
    bundle, created = registry.add(packed(b"two"), "wine")
    assert created
    assert bundle.version == 1
    assert registry.resolve("iris").digest == bundle.digest


def test_aliases_move(registry: Registry, packed: Packed) -> None:
    registry.add(packed(b"one"), "iris")
    registry.add(packed(b"two"), "iris")
    assert registry.set_alias("iris", "champion", 2).aliases == ("champion",)
    assert registry.set_alias("iris", "champion", 1).version == 1
    assert registry.resolve("iris:champion").version == 1
    assert registry.resolve("iris:2").aliases == ()
    registry.remove_alias("iris", "champion")
    with pytest.raises(BundleNotFound, match="no alias 'champion'"):
        registry.resolve("iris:champion")
    with pytest.raises(BundleNotFound):
        registry.remove_alias("iris", "champion")


def test_reading_an_absent_registry_makes_nothing(registry: Registry) -> None:
    assert registry.list() == []
    with pytest.raises(BundleNotFound, match="registry is empty"):
        registry.resolve("iris")
    assert not registry.root.exists()


def test_the_default_registry_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SETPOINT_HOME", str(tmp_path / "mine"))
    assert Registry.default().root == tmp_path / "mine"
    monkeypatch.delenv("SETPOINT_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Registry.default().root == tmp_path / ".local" / "share" / "setpoint"


def test_the_layout_is_an_oci_image_layout_with_modelpack_types(registry: Registry, packed: Packed) -> None:
    bundle, _ = registry.add(packed(b"w", **{"README.md": b"r", "vocab.txt": b"v", "model.py": b"p"}), "iris")
    registry.set_alias("iris", "champion", 1)
    assert json.loads((registry.root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((registry.root / "index.json").read_text())
    tags = {entry["annotations"]["org.opencontainers.image.ref.name"]: entry for entry in index["manifests"]}
    assert set(tags) == {"iris:1", "iris:champion"}
    entry = tags["iris:1"]
    assert entry["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert entry["digest"] == tags["iris:champion"]["digest"] == bundle.digest

    def blob(digest: str) -> bytes:
        return (registry.root / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()

    assert entry["size"] == len(blob(entry["digest"]))
    manifest = json.loads(blob(entry["digest"]))
    assert manifest["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    kinds = {layer["annotations"]["org.cncf.model.filepath"]: layer["mediaType"] for layer in manifest["layers"]}
    assert kinds == {
        "README.md": "application/vnd.cncf.model.doc.v1.raw",
        "model.onnx": "application/vnd.cncf.model.weight.v1.raw",
        "model.py": "application/vnd.cncf.model.code.v1.raw",
        "setpoint.json": "application/vnd.cncf.model.weight.config.v1.raw",
        "vocab.txt": "application/vnd.cncf.model.weight.config.v1.raw",
    }
    config = json.loads(blob(manifest["config"]["digest"]))
    assert config["config"] == {"format": "onnx", "precision": "fp32"}
    assert config["modelfs"]["diffIds"] == [layer["digest"] for layer in manifest["layers"]]


def test_a_folder_holds_the_files_under_their_own_paths(registry: Registry, packed: Packed) -> None:
    bundle, _ = registry.add(packed(b"weights", **{"data/labels.json": b"[]"}), "iris")
    folder = registry.folder(bundle)
    assert (folder / "model.onnx").read_bytes() == b"weights"
    assert (folder / "data" / "labels.json").read_bytes() == b"[]"
    assert (folder / "model.onnx").stat().st_ino == blob_of(registry, bundle, "model.onnx").stat().st_ino
    assert not os.stat(folder / "model.onnx").st_mode & 0o222
    assert registry.folder(bundle) == folder


def test_a_damaged_folder_is_made_again(registry: Registry, packed: Packed) -> None:
    bundle, _ = registry.add(packed(), "iris")
    (registry.folder(bundle) / "model.onnx").unlink()
    assert (registry.folder(bundle) / "model.onnx").read_bytes() == b"weights"
    shutil.rmtree(registry.root / "folders")
    assert (registry.folder(bundle) / "model.onnx").read_bytes() == b"weights"


def test_files_are_copied_where_links_are_not_to_be_had(
    registry: Registry, packed: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, _ = registry.add(packed(), "iris")

    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert (registry.folder(bundle) / "model.onnx").read_bytes() == b"weights"


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "a//b", "./x", "", "a\\b", "a\0b", "setpoint.json"])
def test_paths_that_leave_the_bundle_are_refused(registry: Registry, packed: Packed, path: str) -> None:
    with pytest.raises(InvalidConfiguration, match=r"leaves the bundle|bundle's own"):
        registry.add(packed(**{path: b"x"}), "iris")
    assert registry.list() == []


def test_a_manifest_with_an_escaping_path_from_elsewhere_is_refused(registry: Registry, packed: Packed) -> None:
    bundle, _ = registry.add(packed(), "iris")
    document = registry.root / "blobs" / "sha256" / bundle.digest.removeprefix("sha256:")
    forged = document.read_bytes().replace(b'"model.onnx"', b'"../../../x"')
    digest = Layout(registry.root).write_blob(forged)
    index = registry.root / "index.json"
    index.write_text(index.read_text().replace(bundle.digest, digest))
    with pytest.raises(CorruptBundle, match="not a path inside the bundle"):
        registry.resolve("iris")


@pytest.mark.parametrize("name", ["Iris", "stats", "a b", "", "x" * 129, "../x"])
def test_impossible_names_are_refused_before_anything_is_stored(registry: Registry, packed: Packed, name: str) -> None:
    with pytest.raises(InvalidConfiguration, match="model name"):
        registry.add(packed(), name)
    assert not registry.root.exists()


def test_a_variant_without_its_file_is_refused(registry: Registry, packed: Packed) -> None:
    model = packed()
    with pytest.raises(InvalidConfiguration, match=r"names model\.onnx, which is not among the files"):
        registry.add(PackedModel(model.manifest, {"other.bin": model.files["model.onnx"]}, "x"), "iris")


def test_verify_names_the_file_that_was_changed(registry: Registry, packed: Packed) -> None:
    bundle, _ = registry.add(packed(), "iris")
    blob = blob_of(registry, bundle, "model.onnx")
    blob.chmod(0o644)
    blob.write_bytes(b"WEIGHTS")
    with pytest.raises(CorruptBundle, match=r"iris:1: model\.onnx was changed"):
        registry.verify(bundle)


def test_packing_again_heals_what_was_changed(registry: Registry, packed: Packed) -> None:
    bundle, _ = registry.add(packed(), "iris")
    blob = blob_of(registry, bundle, "model.onnx")
    blob.chmod(0o644)
    blob.write_bytes(b"WEIGHTS")
    assert registry.add(packed(), "iris") == (bundle, False)
    registry.verify(bundle)


def test_verify_names_the_file_that_is_gone(registry: Registry, packed: Packed) -> None:
    bundle, _ = registry.add(packed(), "iris")
    blob_of(registry, bundle, "model.onnx").unlink()
    with pytest.raises(CorruptBundle, match=r"iris:1: model\.onnx is gone"):
        registry.verify(bundle)
    with pytest.raises(CorruptBundle, match="pack the model again"):
        registry.folder(bundle)


@pytest.mark.parametrize("path", ["setpoint.json", "manifest"])
def test_a_changed_description_is_noticed_when_it_is_read(registry: Registry, packed: Packed, path: str) -> None:
    bundle, _ = registry.add(packed(), "iris")
    digest = bundle.digest if path == "manifest" else blob_of(registry, bundle, path).name
    blob = registry.root / "blobs" / "sha256" / digest.removeprefix("sha256:")
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes().replace(b"onnx", b"ONNX"))
    with pytest.raises(CorruptBundle, match=r"iris:1: the registry at .* holds other bytes"):
        registry.resolve("iris")


def test_what_other_tools_put_beside_is_left_out_and_left_alone(registry: Registry, packed: Packed) -> None:
    registry.add(packed(), "iris")
    layout = Layout(registry.root)
    image = b'{"schemaVersion":2,"config":{"mediaType":"x","digest":"sha256:0","size":0},"layers":[]}'
    digest = layout.write_blob(image)
    index = json.loads((registry.root / "index.json").read_text())
    foreign = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest,
        "size": len(image),
        "annotations": {"org.opencontainers.image.ref.name": "busybox:1"},
    }
    index["manifests"].append(foreign)
    (registry.root / "index.json").write_text(json.dumps(index))
    assert [bundle.reference for bundle in registry.list()] == ["iris:1"]
    with pytest.raises(CorruptBundle, match="is not the manifest of a model"):
        registry.resolve("busybox")
    registry.add(packed(b"two"), "iris")
    assert foreign in json.loads((registry.root / "index.json").read_text())["manifests"]


def test_a_crash_between_blobs_and_index_leaves_the_registry_as_it_was(
    registry: Registry, packed: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = registry.add(packed(b"one"), "iris")
    document = (registry.root / "index.json").read_bytes()

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Layout, "write_index", crash)
    with pytest.raises(KeyboardInterrupt):
        registry.add(packed(b"two"), "iris")
    monkeypatch.undo()
    assert (registry.root / "index.json").read_bytes() == document
    assert registry.list() == [before]
    assert list((registry.root / "tmp").iterdir()) == []
    assert registry.add(packed(b"two"), "iris")[0].version == 2


def test_leftovers_of_a_crash_are_swept_a_day_later(registry: Registry, packed: Packed) -> None:
    registry.add(packed(b"one"), "iris")
    old, fresh = registry.root / "tmp" / "old", registry.root / "tmp" / "fresh"
    for leftover in (old, fresh):
        leftover.mkdir()
        (leftover / "half").write_bytes(b"x")
    os.utime(old, (0, 0))
    registry.add(packed(b"two"), "iris")
    assert not old.exists()
    assert fresh.exists()
