"""What is compiled is kept, and found again by content; nothing damaged or stale is opened."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import fastcpu
from fastcpu import InputError, OutputError, pipeline
from fastcpu.integrations import cache as kept
from fastcpu.integrations.cache import compiled
from fastcpu.recipe import Prune, Quantize, Recipe
from tests.integrations import models

MakeModel = Callable[..., Path]


@pytest.fixture
def source(tiny: MakeModel, tmp_path: Path) -> Path:
    return shutil.copytree(tiny("BertModel"), tmp_path / "source" / "mybert")


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options of every compilation from now on."""
    seen: list[dict[str, Any]] = []
    real = pipeline.compile

    def spy(*args: Any, **options: Any) -> pipeline.Compiled:
        seen.append(options)
        return real(*args, **options)

    monkeypatch.setattr(pipeline, "compile", spy)
    return seen


def opened(model: Path | str, cache_dir: Path | None, **options: Any) -> Path:
    return compiled(model, nullcontext, "test", cache_dir=cache_dir, **({"recipe": "int8-dynamic"} | options))


def test_compiled_once(source: Path, tmp_path: Path, compilations: list[dict[str, Any]]) -> None:
    entry = opened(source, tmp_path / "cache")
    assert entry.parent == tmp_path / "cache"
    assert entry.name.startswith("mybert-")
    moved = source.rename(source.with_name("mybert-moved"))
    moved = moved.rename(source)
    assert opened(moved, tmp_path / "cache") == entry
    assert [options["quantize"] for options in compilations] == ["dynamic"]
    assert opened(entry, None, recipe="nonsense is not looked at") == entry


@pytest.mark.parametrize("change", ["weights", "tokenizer", "recipe", "purpose", "version"])
def test_compiled_again_for_other_content(
    change: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = opened(source, tmp_path)
    recipe, purpose = "int8-dynamic", "test"
    if change == "weights":
        models.module("BertModel", seed=5).save_pretrained(source)
    elif change == "tokenizer":
        (source / "tokenizer.json").write_text((source / "tokenizer.json").read_text() + "\n")
    elif change == "version":
        monkeypatch.setattr(fastcpu, "__version__", "99")
    recipe = Recipe("none", "") if change == "recipe" else recipe
    purpose = "other" if change == "purpose" else purpose
    other = compiled(source, nullcontext, purpose, recipe=recipe, cache_dir=tmp_path)
    assert other != entry
    fastcpu.Session(other)
    fastcpu.Session(entry)


def test_damaged_entry_is_made_again(source: Path, tmp_path: Path, compilations: list[dict[str, Any]]) -> None:
    entry = opened(source, tmp_path)
    weights = entry / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert opened(source, tmp_path) == entry
    fastcpu.Session(entry)
    assert len(compilations) == 2


def test_one_of_many_compiles(source: Path, tmp_path: Path, compilations: list[dict[str, Any]]) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(opened(source, tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 4
    assert len(compilations) == 1


def test_default_folder(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert opened(source, None).parent == tmp_path / "xdg" / "fastcpu" / "compiled"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert kept.cache_folder() == Path.home() / ".cache" / "fastcpu" / "compiled"


def test_folder_that_cannot_be_written(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot keep compiled models here \(cache_dir=\)"):
        opened(source, tmp_path / "file" / "cache")


def test_what_compiling_raises_is_no_fault_of_the_folder(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(pipeline, "compile", full)
    with pytest.raises(OSError, match="no space") as caught:
        opened(source, tmp_path / "cache")
    assert not isinstance(caught.value, OutputError)


def test_recipes_that_train_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"recipe sparse80-int8 trains: run `fastcpu compress .* --recipe sparse80-int8"
    ):
        opened(source, tmp_path, recipe="sparse80-int8")
    with pytest.raises(InputError, match="no recipe 'nonsense'"):
        opened(source, tmp_path, recipe="nonsense")


def test_calibration(source: Path, tmp_path: Path, rng: Any, compilations: list[dict[str, Any]]) -> None:
    texts = models.texts(rng, 40)
    with pytest.raises(InputError, match="needs texts to calibrate with"):
        opened(source, tmp_path, recipe="int8-static")
    with pytest.raises(InputError, match="has no use for calibration texts"):
        opened(source, tmp_path, calibration=texts)
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(texts) + "\n")
    entry = opened(source, tmp_path, recipe="int8-static", calibration=texts)
    assert opened(source, tmp_path, recipe="int8-static", calibration=file) == entry
    assert opened(source, tmp_path, recipe="int8-static", calibration=texts[1:]) != entry
    assert [options["quantize"] for options in compilations] == ["static", "static"]


def test_pruning_without_training(source: Path, tmp_path: Path, compilations: list[dict[str, Any]]) -> None:
    opened(
        source, tmp_path, recipe=Recipe("half", "", prune=Prune(0.5), quantize=Quantize("dynamic"), ignore=("*.0.*",))
    )
    assert compilations[0]["sparsity"] == 0.5
    assert compilations[0]["ignore"] == ("*.0.*",)


def test_names_on_the_hub(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    hub = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
    with pytest.raises(InputError, match="someone/mybert: no such directory, and not in the cache of Hugging Face"):
        opened("someone/mybert", tmp_path / "cache")
    commit = "0" * 40
    snapshot = hub / "models--someone--mybert" / "snapshots" / commit
    shutil.copytree(source, snapshot)
    (hub / "models--someone--mybert" / "refs").mkdir()
    (hub / "models--someone--mybert" / "refs" / "main").write_text(commit)
    (hub / "models--someone--mybert").with_name("models--sentence-transformers--mine").symlink_to(
        hub / "models--someone--mybert"
    )
    entry = opened("someone/mybert", tmp_path / "cache")
    assert entry.name.startswith("mybert-")
    assert opened("mine", tmp_path / "cache").name.startswith("mine-"), "sentence-transformers/mine"
    assert opened("someone/mybert", tmp_path / "cache", revision=commit) == entry
    with pytest.raises(InputError, match="no such directory"):
        opened("someone/mybert", tmp_path / "cache", revision="other")
    with pytest.raises(InputError, match="no such directory"):
        opened("not a name!", tmp_path / "cache")


def test_files_are_no_models(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("")
    with pytest.raises(InputError, match=r"model\.onnx: a file and no directory; `fastcpu compile`"):
        opened(tmp_path / "model.onnx", tmp_path)
