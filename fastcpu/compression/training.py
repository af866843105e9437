"""The distillation of a student: what is prepared once for every training of a compression, and the one in full."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from fastcpu.compression.checks import check_tokens, takes_segments
from fastcpu.compression.plan import Plan
from fastcpu.compression.work import WorkFolder
from fastcpu.distill.losses import learns_labels, teacher_parts
from fastcpu.errors import InputError
from fastcpu.recipe import Distill, Quantize, compile_options

if TYPE_CHECKING:
    import torch

    from fastcpu.distill.corpus import Corpus
    from fastcpu.distill.trainer import Progress, Teacher, Trainer
    from fastcpu.frontend.sentence_transformers import Pooling
    from fastcpu.tasks.tokenizer import Text

Report = Callable[[str, "Progress | None"], None]
"""Called with the stage, and while training with its progress."""

TIMED_STEPS = 8
_WEIGHTS = (".safetensors", ".bin", ".onnx", ".h5", ".msgpack", ".pt", ".ot")
_EMBED_ROWS = 512
_TAB = "\t"


@dataclass(frozen=True)
class Materials:
    """What all trainings of a compression share.

    Attributes:
        module, pooling: the model whose layers a student starts with, and what follows them.
        corpus: the texts, tokenized.
        teacher: what gives their targets.
        folder: where students lie that were pruned before training.
    """

    module: torch.nn.Module
    pooling: Pooling | None
    corpus: Corpus
    teacher: Teacher
    folder: Path


def prepare(plan: Plan, work: WorkFolder, tell: Report) -> Materials:
    """Tokenizes the texts, runs the teacher where its answers are stored, and makes torch deterministic."""
    import torch

    from fastcpu.distill.memory import keep_freed_memory
    from fastcpu.distill.model import open_directory

    config = distillation(plan)
    keep_freed_memory()
    torch.set_num_threads(plan.threads)
    torch.use_deterministic_algorithms(True)
    memory: Any = torch.utils.deterministic
    memory.fill_uninitialized_memory = False  # it helps to find bugs, and takes 5 % of a step
    if plan.device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, cuBLAS is not deterministic
    module, pooling = open_directory(Path(plan.model))
    labels = np.load(work.path / "labels.npy") if learns_labels(config.losses) else None
    corpus = _corpus(plan, work, config.max_length, labels)
    tell("teacher", None)
    teacher = _teacher(plan, work, config, corpus)
    if config.readout:
        _check_readout(plan, work, module, pooling)
    return Materials(module, pooling, corpus, teacher, work.path)


def _check_readout(plan: Plan, work: WorkFolder, module: torch.nn.Module, pooling: Pooling | None) -> None:
    """InputError where the teacher's embeddings have other channels than the student's."""
    assert pooling is not None
    mine = pooling.channels(cast("Any", module).config.hidden_size)
    theirs = np.load(work.path / "teacher.npy", mmap_mode="r").shape[1]
    if mine != theirs:
        raise InputError(
            f"recipe {plan.recipe.name}: a readout needs a teacher of {mine} channels, as the student has, not {theirs}"
        )


def _corpus(plan: Plan, work: WorkFolder, max_length: int, labels: NDArray[np.int64] | None = None) -> Corpus:
    from fastcpu.distill.corpus import Corpus, write_corpus
    from fastcpu.tasks.tokenizer import Tokenizer

    if not work.done("corpus"):
        with work.stage("corpus") as folder:
            write_corpus(taken_texts(work), Tokenizer(plan.model, max_length), folder, labels)
    corpus = Corpus(work.path / "corpus")
    if corpus.types is not None and not takes_segments(Path(plan.model)):
        raise InputError(f"{plan.model!r}: its tokenizer gives pairs a second segment, which the model does not have")
    return corpus


def distillation(plan: Plan) -> Distill:
    """The table of a recipe that trains."""
    assert plan.recipe.distill is not None
    return plan.recipe.distill


def make_trainer(
    plan: Plan, materials: Materials, steps: int, folder: Path, rows: NDArray[np.int64] | None = None
) -> Trainer:
    """A training of the plan's recipe from its start or from the checkpoint in `folder`; `rows` as in `Trainer`."""
    from fastcpu.distill.model import make_student
    from fastcpu.distill.trainer import Trainer

    student = make_student(materials.module, plan.recipe.student, distillation(plan).dropout)
    if plan.recipe.reconstructs:
        _prune(plan, student, materials.corpus, materials.folder)
    return Trainer(
        student,
        materials.pooling,
        materials.corpus,
        materials.teacher,
        plan.recipe,
        steps,
        plan.seed,
        folder,
        plan.device,
        rows,
    )


def prune_alone(plan: Plan, work: WorkFolder, tell: Report) -> Path:
    """The directory of a model that was pruned layer by layer and not trained."""
    import torch

    from fastcpu.distill.model import make_student, open_directory

    if not work.done("student"):
        torch.set_num_threads(plan.threads)
        tell("pruning", None)
        student = make_student(open_directory(Path(plan.model))[0], None)
        _prune(plan, student, _corpus(plan, work, plan.max_length), work.path)
        with work.stage("student") as folder:
            save_student(Path(plan.model), student, folder)
    return work.path / "student"


def _prune(plan: Plan, student: torch.nn.Module, corpus: Corpus, folder: Path) -> None:
    """Prunes a student layer by layer, or as an earlier start has done it."""
    from fastcpu.distill import checkpoint
    from fastcpu.distill.masks import encoder_linears
    from fastcpu.distill.reconstruct import reconstruct

    recipe = plan.recipe
    assert recipe.prune is not None
    layers = "all" if recipe.student is None else str(recipe.student.layers)
    path = folder / f"pruned-{layers}-{recipe.prune.sparsity:g}.safetensors"
    linears = encoder_linears(student, recipe.only, recipe.ignore)
    parameters = {f"{name}.{key}": each for name, part in linears.items() for key, each in part.named_parameters()}
    if not path.is_file():
        order = np.random.default_rng(plan.seed).permutation(len(corpus))
        rows = np.sort(order[: recipe.prune.reconstruct])
        reconstruct(student, recipe.prune, corpus, rows, recipe.only, recipe.ignore)
        checkpoint.save(path, {name: each.detach() for name, each in parameters.items()}, 0)
    for name, tensor in checkpoint.load(path)[0].items():
        parameters[name].data.copy_(tensor)


def number_of_steps(plan: Plan, materials: Materials, folder: Path) -> int:
    """The steps of a whole training: those of the recipe, or as many as fit into its budget, by the clock."""
    config = distillation(plan)
    if config.steps:
        return config.steps
    seconds = make_trainer(plan, materials, 1_000_000, folder).seconds_per_step(TIMED_STEPS)
    steps = int(config.budget * 60 / seconds)
    if steps < 1:
        raise InputError(f"a budget of {config.budget:g} minutes is less than one step, which takes {seconds:.1f} s")
    return steps


def distill(plan: Plan, work: WorkFolder, tell: Report) -> Path:
    """The directory of the trained student, beside which nothing of the teacher is needed."""
    if work.done("student"):
        return work.path / "student"
    materials = prepare(plan, work, tell)
    if plan.recipe.reconstructs:
        tell("pruning", None)
    if not work.done("steps.json"):
        work.write("steps.json", number_of_steps(plan, materials, work.path))
    training = make_trainer(plan, materials, int(work.read("steps.json")), work.path)
    training.run(lambda progress: tell("training", progress))
    tell("student", None)
    with work.stage("student") as folder:
        write_student(plan, work, training.student, folder)
    if work.read("readout.json") == 0:
        tell(f"no readout: {min(distillation(plan).readout, len(materials.corpus))} texts are too few", None)
    return work.path / "student"


def write_student(plan: Plan, work: WorkFolder, student: torch.nn.Module, folder: Path) -> None:
    """A directory of a trained student, with a linear readout where the recipe asks for one and texts are enough.

    readout.json: the number of texts that it was solved for with, 0 without one.
    """
    save_student(Path(plan.model), student, folder)
    wanted = distillation(plan).readout
    if not wanted:
        return
    from fastcpu.data import sample
    from fastcpu.distill import readout
    from fastcpu.frontend.sentence_transformers import add_dense
    from fastcpu.pipeline import compile  # noqa: A004  (the public name)

    targets = np.load(work.path / "teacher.npy", mmap_mode="r")
    rows = np.sort(np.random.default_rng(plan.seed).permutation(len(targets))[:wanted])
    enough = len(rows) >= readout.LEAST_TEXTS * targets.shape[1]
    work.write("readout.json", len(rows) if enough else 0)
    if not enough:
        return
    texts = taken_texts(work)
    options = compile_options(plan.recipe, lambda count: sample(texts, count, plan.seed), plan.max_length)
    with tempfile.TemporaryDirectory(dir=work.path, prefix="readout.") as scratch:
        compiled = compile(folder, Path(scratch) / "model", threads=plan.threads, **options).directory
        lengths = _corpus(plan, work, distillation(plan).max_length).lengths[rows]
        vectors = _embedded(compiled, plan, _single([texts[row] for row in rows]), lengths)
    add_dense(folder, readout.solve(vectors, targets[rows]))


def line_of(text: Text) -> str:
    """The line of texts.txt for a text, or for a pair of them with a tab between; neither has tabs of its own."""
    return f"{text if isinstance(text, str) else _TAB.join(text)}\n"


def taken_texts(work: WorkFolder) -> list[Text]:
    """What a compression trains and calibrates with: the lines of texts.txt."""

    def text(line: str) -> Text:
        first, tab, second = line.rstrip("\n").partition(_TAB)
        return (first, second) if tab else first

    with (work.path / "texts.txt").open(encoding="utf-8") as file:
        return [text(line) for line in file]


def _teacher(plan: Plan, work: WorkFolder, config: Distill, corpus: Corpus) -> Teacher:
    """Targets from a file, where one vector per text is all that the losses read; from the teacher itself otherwise."""
    from fastcpu.distill.teacher import CachedEmbeddings, LiveTeacher, MeanTeacher, NoTeacher

    parts = teacher_parts(config.losses)
    if not parts:
        return NoTeacher()
    if parts != {"embedding"}:
        check_tokens(plan, taken_texts(work))
        teachers = [LiveTeacher(Path(each), parts, plan.device) for each in (plan.teacher, *plan.assistants)]
        return MeanTeacher(teachers) if plan.assistants else teachers[0]
    if not work.done("teacher.npy"):
        vectors = _embeddings(plan, work, config, corpus)
        with work.stage("teacher.npy") as path, path.open("wb") as file:
            np.save(file, vectors)
    return CachedEmbeddings(work.path / "teacher.npy", plan.device)


def _embeddings(plan: Plan, work: WorkFolder, config: Distill, corpus: Corpus) -> NDArray[np.float32]:
    """The teacher's embedding of every text, f32 [N, D], computed by the runtime."""
    teacher = compiled_teacher(plan, work) if config.teacher == "f32" else _int8_teacher(plan, work)
    return _embedded(teacher, plan, _single(taken_texts(work)), corpus.lengths)


def _single(texts: Sequence[Text]) -> list[str]:
    """Texts none of which is a pair, as those of sentence encoders are."""
    return [text for text in texts if isinstance(text, str)]


def _embedded(model: Path, plan: Plan, texts: Sequence[str], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
    """What a compiled model makes of texts of these lengths in tokens, f32 [N, D]."""
    from fastcpu.tasks.embed import Embedder

    embedder = Embedder(model, threads=plan.threads, max_length=distillation(plan).max_length)
    order = np.argsort(lengths, kind="stable")
    vectors = np.empty((len(texts), embedder.channels), np.float32)
    for start in range(0, len(order), _EMBED_ROWS):
        rows = order[start : start + _EMBED_ROWS]
        vectors[rows] = embedder.embed([texts[i] for i in rows])
    return vectors


def _int8_teacher(plan: Plan, work: WorkFolder) -> Path:
    """The teacher in static int8, for the runtime, calibrated on some of the texts."""
    from fastcpu.data import sample
    from fastcpu.pipeline import compile  # noqa: A004  (the public name)

    directory = work.path / "teacher-int8"
    if directory.is_dir():
        return directory
    texts = sample(taken_texts(work), Quantize.calibration, plan.seed)
    return compile(
        plan.teacher,
        directory,
        quantize="static",
        calibration=texts,
        max_length=plan.max_length,
        threads=plan.threads,
    ).directory


def compiled_teacher(plan: Plan, work: WorkFolder) -> Path:
    """The teacher in f32, for the runtime."""
    from fastcpu.pipeline import compile  # noqa: A004  (the public name)

    directory = work.path / "teacher"
    return directory if directory.is_dir() else compile(plan.teacher, directory).directory


def save_student(source: Path, student: torch.nn.Module, folder: Path) -> None:
    """A copy of the model's directory with the student's configuration and weights."""
    from fastcpu.distill.model import transformer_folder
    from fastcpu.frontend.sentence_transformers import read_pooling
    from fastcpu.frontend.torch_export import quiet

    found = read_pooling(source)
    kept = {folder.resolve() for folder in found[0].folders} if found else set()

    def skipped(where: str, names: list[str]) -> set[str]:
        if Path(where).resolve() in kept:  # what follows the pooling stays as it is
            return set()
        return {name for name in names if name.endswith(_WEIGHTS) or (Path(where) / name / "model.onnx").is_file()}

    shutil.copytree(source, folder, ignore=skipped)
    with quiet():
        cast("Any", student).save_pretrained(transformer_folder(folder))
