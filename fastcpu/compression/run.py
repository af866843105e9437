"""The stages of a compression, in order; each is skipped if an earlier start has finished it."""

from __future__ import annotations

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcpu.compression.checks import check_assistants, check_model, check_out, check_training
from fastcpu.compression.examples import (
    Example,
    excluded_files,
    labels_of,
    read_examples,
    read_excluded,
    table_form,
    training_files,
)
from fastcpu.compression.fallback import by_error, fall_back
from fastcpu.compression.gate import Gate, gate_length
from fastcpu.compression.plan import Plan
from fastcpu.compression.report import Circumstances, thinned, write_report
from fastcpu.compression.source import kind, longest_text
from fastcpu.compression.target import Target
from fastcpu.compression.training import Report, compiled_teacher, distill, line_of, prune_alone, taken_texts
from fastcpu.compression.work import WorkFolder, work_path
from fastcpu.data import Contamination, decontaminate, read_texts, sample
from fastcpu.data.texts import PLAIN
from fastcpu.distill.losses import teacher_parts
from fastcpu.distill.losses.loss import NO_LABEL
from fastcpu.errors import AccuracyError, FastcpuError, FileFormatError, GraphError, InputError, OutputError
from fastcpu.eval.engine import Evaluation
from fastcpu.eval.log import EvaluationLog, log_file
from fastcpu.recipe import Recipe, compile_options, load

if TYPE_CHECKING:
    from fastcpu.distill.trainer import Progress
    from fastcpu.pipeline import Compiled

SAMPLED_TEXTS = 1_000_000
"""At most so many training texts are taken, at random, from data of any size."""
_MOST_STEPS, _MOST_MINUTES, _MOST_THREADS = 1_000_000_000, 100_000, 1024


def make_plan(
    model: str | os.PathLike[str],
    *,
    recipe: str | os.PathLike[str] | Recipe,
    data: Sequence[str | os.PathLike[str]] = (),
    columns: Sequence[str] = (),
    exclude: Sequence[str | os.PathLike[str]] = (),
    teacher: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    steps: int | None = None,
    budget: float | None = None,
    seed: int = 0,
    only: Sequence[str] = (),
    ignore: Sequence[str] = (),
    threads: int = 0,
    device: str = "cpu",
    gate: Gate | None = None,
    target: Target | None = None,
) -> Plan:
    """Everything that a compression depends on, checked.

    Args:
        teacher: what is learned from instead of the model, a directory; or several, whose logits are averaged, and the
            first of which is what the result is compared with.
        gate, target: what is measured before the model is published, and what is searched for.

    Raises:
        InputError: an unknown recipe, options that do not fit it, or files that are not there.
    """
    from fastcpu import _core

    check_model("model", model)
    chosen = recipe if isinstance(recipe, Recipe) else load(Path(recipe))
    chosen = replace(chosen, only=chosen.only + tuple(only), ignore=chosen.ignore + tuple(ignore))
    if steps is not None or budget is not None:
        if chosen.distill is None:
            raise InputError(f"recipe {chosen.name} does not train: it takes neither steps nor a budget")
        if steps is not None and budget is not None:
            raise InputError("give steps or a budget of minutes, not both")
        if (steps is not None and not 1 <= steps <= _MOST_STEPS) or (
            budget is not None and not 0 < budget <= _MOST_MINUTES
        ):
            raise InputError(
                f"steps and budget must be positive and at most {_MOST_STEPS:,} and {_MOST_MINUTES:,} minutes"
            )
        chosen = replace(
            chosen, distill=replace(chosen.distill, steps=steps or 0, budget=budget or chosen.distill.budget)
        )
    static = chosen.quantize is not None and chosen.quantize.scheme == "static"
    if (chosen.distill is not None or chosen.reconstructs or static) and not data:
        purpose = "train" if chosen.distill is not None else "prune" if chosen.reconstructs else "calibrate"
        raise InputError(f"recipe {chosen.name} needs texts to {purpose} with (--data)")
    texts = [os.fspath(path) for path in data]
    form = table_form(texts, columns, None if gate is None else gate.task)
    files = [*training_files(texts, form is not None), *excluded_files([os.fspath(path) for path in exclude])]
    if columns and data and all(file.suffix in PLAIN for file in files):
        raise InputError(f"columns are named ({', '.join(columns)}), but the data are plain text: each line is a text")
    if teacher is not None and chosen.distill is None:
        raise InputError(f"recipe {chosen.name} does not distill: it takes no teacher")
    teachers = _teachers(teacher)
    if not 0 <= threads <= _MOST_THREADS:
        raise InputError(f"threads must be from 0 to {_MOST_THREADS}, not {threads}")
    if seed < 0:
        raise InputError(f"the seed must not be negative: {seed}")
    if device not in ("cpu", "cuda"):
        raise InputError(f"device must be cpu or cuda, not {device!r}")
    if device != "cpu" and chosen.distill is None:
        raise InputError(f"recipe {chosen.name} does not train: it takes no device")
    if target is not None:
        _check_target(target.checked(), chosen, gate)
    if chosen.distill is not None:
        labelled = _names_labels(columns) or (form == "classify" and kind(Path(model)) != "rerank")
        losses = chosen.distill.losses or _losses(Path(model), labelled, chosen.distill.neighbors)
        embeds = teacher_parts(losses) == {"embedding"}
        if chosen.distill.losses and chosen.distill.readout and not embeds:
            raise InputError(
                f"recipe {chosen.name}: a readout is for sentence encoders that learn embeddings alone, not "
                f"{', '.join(losses)}: set readout = 0"
            )
        readout = chosen.distill.readout if embeds else 0
        length = chosen.distill.max_length or longest_text(Path(model))
        resolved = replace(chosen.distill, losses=losses, neighbors=0.0, readout=readout, max_length=length)
        chosen = replace(chosen, distill=resolved)
        if teachers and not teacher_parts(losses):
            raise InputError(f"recipe {chosen.name} learns the labels of the data alone: it takes no teacher")
        if len(teachers) > 1:
            check_assistants([Path(each) for each in teachers], chosen)
    return Plan(
        model=os.fspath(model),
        teacher=teachers[0] if teachers else os.fspath(model),
        assistants=tuple(teachers[1:]),
        data=tuple(texts),
        columns=tuple(columns),
        exclude=tuple(os.fspath(path) for path in exclude),
        recipe=chosen,
        seed=seed,
        threads=threads or _core.available_cpus(),
        device=device,
        gate=None if gate is None else gate.checked(),
        target=target,
    ).with_digests()


def _teachers(teacher: Any) -> list[str]:
    """The directories of the argument ``teacher``."""
    given = [] if teacher is None else [teacher] if isinstance(teacher, (str, os.PathLike)) else teacher
    if not isinstance(given, (list, tuple)):
        check_model("teacher", given)
    for each in given:
        check_model("teacher", each)
    return [os.fspath(each) for each in given]


def _check_target(target: Target, recipe: Recipe, gate: Gate | None) -> None:
    """InputError if there is nothing to search with, or to decide by."""
    if recipe.distill is None or recipe.quantize is None:
        raise InputError(f"recipe {recipe.name} must distill and quantize for a search of layers and sparsity")
    if not target.has_speed and (gate is None or gate.max_drop is None):
        raise InputError("a search needs a target speed-up, a target latency or a drop that is allowed")
    if gate is not None and gate.on_test:
        raise InputError(
            f"a search chooses by what it measures: give it other data than {gate.files[0]}, which is test"
        )


def _names_labels(columns: Sequence[str]) -> bool:
    return any(column.startswith(("label=", "answers=")) for column in columns)


def _losses(model: Path, labelled: bool, neighbors: float) -> dict[str, float]:
    """What a recipe that names no losses distills: the outputs of a sentence encoder, else logits and hidden states,
    and beside these the labels that the data has."""
    if (model / "modules.json").is_file():
        return {"embedding": 1.0, "similarity": 5.0} | ({"neighbors": neighbors} if neighbors else {})
    return {"logits": 1.0, "hidden": 1.0} | ({"labels": 1.0} if labelled else {})


def compress(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    report: Report | None = None,
    command: str | None = None,
    timing: bool = True,
    peers: Sequence[str] = (),
    keep_student: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Compiled:
    """Compress a model as a recipe says, and go on where an earlier start with the same arguments was interrupted.

    What was done so far lies in ``OUT.work`` until the model is complete. The same plan gives the same model, bit for
    bit, on one machine.

    Args:
        model: a local Hugging Face or sentence-transformers directory.
        out: the model directory to write, for `fastcpu.Session`.
        report: called with the name of each stage, and with the progress of training.
        command: the command line, if this is one, for the report.
        timing: whether to measure the latency of the model, and of its teacher, for the report.
        peers: other engines that are measured too, names of `fastcpu.peers.PEERS`.
        keep_student: where to put the trained model before quantization as well, as a directory of its own kind.
        options: what `make_plan` takes.

    Raises:
        fastcpu.errors.InputError: what `make_plan` finds, unusable data, a work folder of another plan, or a target
            speed that no candidate reaches.
        fastcpu.errors.TrainingError: the loss is not finite.
        fastcpu.errors.AccuracyError: the exported model has lost more than the gate allows; it is not published, and
            the work folder stays where something was trained: a larger drop goes on from there.
        fastcpu.errors.GraphError, QuantizationError, OutputError: as `fastcpu.compile` raises them.
    """
    circumstances = Circumstances(command, timing, None, peers=_checked_peers(peers, timing))
    plan = make_plan(model, **options)
    if plan.device == "cuda" and not (work_path(Path(out)) / "student").is_dir():
        _check_cuda()
    check_out(Path(out), plan)
    if keep_student is not None:
        _check_kept(Path(keep_student), plan, work_path(Path(out)))
    if (plan.recipe.distill is not None or plan.recipe.reconstructs) and not work_path(Path(out)).is_dir():
        check_training(plan)
    tell = report or _say_nothing
    with closing(WorkFolder(Path(out), plan)) as work:
        try:
            compiled = _run(plan, work, Path(out), keep_student, tell, circumstances)
        except OutputError:  # of a disk that is full, say: the same command goes on
            raise
        except FastcpuError:  # the corrected command is another plan, which the folder would be in the way of
            if not work.has_results:
                work.remove()
            raise
        work.remove()
    return compiled


def _run(
    plan: Plan,
    work: WorkFolder,
    out: Path,
    keep_student: str | os.PathLike[str] | None,
    tell: Report,
    circumstances: Circumstances,
) -> Compiled:
    """All stages, from what is done already."""
    if plan.data:
        tell("texts", None)
        take_texts(plan, work)
    teacher = None
    if plan.gate is not None:  # before training: labels or a metric that do not fit the model are told at once
        tell("accuracy of the teacher", None)
        teacher = _measured_teacher(plan, plan.gate, work, out)
    if plan.target is not None:
        from fastcpu.compression.trials import search

        agreed = plan.gate if plan.gate is not None and plan.gate.max_drop is not None else None
        floor = None if agreed is None or teacher is None else agreed.floor(agreed.value(teacher))
        plan = search(plan, work, tell, floor)
    source = Path(plan.model)
    if plan.recipe.distill is not None:
        source = distill(plan, work, tell)
    elif plan.recipe.reconstructs:
        source = prune_alone(plan, work, tell)
    if keep_student is not None:
        _keep(source, Path(keep_student), work)
    tell("export", None)
    return _export(plan, work, source, out, tell, circumstances, teacher)


def is_complete(out: Path, plan: Plan, peers: Sequence[str] = ()) -> bool:
    """Whether ``out`` holds the model of this plan already, measured beside these other engines.

    What a kill has left of its work folder is removed then.
    """
    try:
        compression = json.loads((out / "report.json").read_text(encoding="utf-8"))["compression"]
        if (compression.get("search") or compression)["plan"] != plan.to_json():
            return False
        if not set(peers) <= {entry["engine"].partition(" ")[0] for entry in compression["engines"]}:
            return False
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    if work_path(out).is_dir():
        with closing(WorkFolder(out, plan)) as work:
            work.remove()
    return True


def _check_kept(path: Path, plan: Plan, work: Path) -> None:
    """Refuses what trains no student, and a path where something is that no earlier start has kept there."""
    if plan.recipe.distill is None:
        raise InputError(f"recipe {plan.recipe.name} does not train: there is no student to keep")
    if path.exists() and not (work / "kept.json").is_file():
        raise OutputError(f"{path}: exists already; the student is kept where nothing is")


def _keep(student: Path, path: Path, work: WorkFolder) -> None:
    if work.read("kept.json") == str(path) and path.is_dir():
        return
    partial = path.with_name(path.name + ".partial")
    try:
        shutil.copytree(student, partial, dirs_exist_ok=True)
        work.write(
            "kept.json", str(path)
        )  # before it is there: a kill between the two leaves what the next start makes
        partial.replace(path)
    except OSError as error:
        (work.path / "kept.json").unlink(missing_ok=True)
        raise OutputError(f"{path}: {error.strerror or error}") from error


def _check_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        raise InputError("device cuda: this installation of torch finds no GPU")


def _checked_peers(peers: Sequence[str], timing: bool) -> tuple[str, ...]:
    from fastcpu.peers import missing

    absent = missing(peers)
    if absent:
        raise InputError(
            f"to be compared with, but not installed: {', '.join(absent)} (pip install {' '.join(absent)})"
        )
    if peers and not timing:
        raise InputError("the latency of other engines is measured beside that of the model, which is not to be timed")
    return tuple(peers)


def _say_nothing(stage: str, progress: Progress | None) -> None:
    """What is called where nobody listens."""


# ---- texts ----


def take_texts(plan: Plan, work: WorkFolder, limit: int = SAMPLED_TEXTS) -> None:
    """texts.txt: a sample of the data without evaluation sentences (`taken_texts`); texts.json: how many were dropped.

    Raises:
        InputError: a file is not of its format, or no text is left.
    """
    if work.done("texts.json"):
        return
    counts = Contamination()
    evaluation = chain(
        read_excluded(excluded_files(plan.exclude), plan.columns, plan.form),
        () if plan.gate is None else plan.gate.texts(),
    )
    clean = decontaminate(_examples(plan), evaluation, counts, attrgetter("texts"))
    kept = sample(clean, limit, plan.seed, attrgetter("texts"))
    if not kept:
        raise InputError(f"{', '.join(plan.data)}: no text is left after {counts.seen} were looked at")
    with work.stage("texts.txt") as path, path.open("w", encoding="utf-8") as file:
        file.writelines(line_of(example.text) for example in kept)
    labels = np.array([example.label for example in kept], np.int64)
    if plan.learns_labels:
        with work.stage("labels.npy") as path, path.open("wb") as file:
            np.save(file, labels)
    labelled = int((labels.reshape(len(kept), -1)[:, 0] != NO_LABEL).sum())
    work.write("texts.json", counts.to_json() | {"taken": len(kept), "labelled": labelled})


def _examples(plan: Plan) -> Iterator[Example]:
    """The training texts of a plan, each in one line, with labels if they are learned."""
    if plan.form is not None:
        labels = labels_of(Path(plan.model)) if plan.learns_labels else None
        pairs = kind(Path(plan.model)) != "embed"
        return read_examples(plan.training_files(), plan.columns, labels, plan.form, pairs)
    return (Example(" ".join(text.split())) for text in read_texts(plan.training_files(), plan.columns))


# ---- export ----


def _measured_teacher(plan: Plan, gate: Gate, work: WorkFolder, out: Path) -> Evaluation:
    """What the gate measures of the teacher."""
    directory = compiled_teacher(plan, work)
    found = gate.measure(directory, plan.threads, gate_length(plan.recipe), Path(plan.teacher), _log(gate, out))
    gate.value(found)
    return found


def _log(gate: Gate, out: Path) -> EvaluationLog | None:
    """Where evaluations on test data are noted: beside the model that is made."""
    return EvaluationLog(log_file(out)) if gate.on_test else None


def _export(
    plan: Plan,
    work: WorkFolder,
    source: Path,
    out: Path,
    tell: Report,
    circumstances: Circumstances,
    teacher: Evaluation | None,
) -> Compiled:
    from fastcpu.distill.trainer import read_log
    from fastcpu.pipeline import compile  # noqa: A004  (the public name)

    recipe = plan.recipe
    options = compile_options(recipe, lambda count: sample(taken_texts(work), count, plan.seed), plan.max_length)
    notes = {
        "compression": {
            "plan": plan.to_json(),
            "texts": work.read("texts.json"),
            "steps": work.read("steps.json"),
            "readout": work.read("readout.json"),
            "log": thinned(list(read_log(work.path))),
            "search": work.read("search.json"),
        }
    }
    log = None if plan.gate is None else _log(plan.gate, out)
    circumstances = replace(_with_teacher(circumstances, plan, work), log=log)

    def accept(directory: Path) -> None:
        if plan.gate is not None:
            assert teacher is not None
            found = plan.gate.measure(directory, plan.threads, gate_length(recipe), out, log)
            plan.gate.accept(directory, found, teacher)
        tell("report", None)
        write_report(directory, plan, circumstances)

    def build(alone: Sequence[str]) -> Compiled:
        notes["compression"]["left_alone"] = list(alone)
        chosen = {**options, "ignore": (*options["ignore"], *map(glob.escape, alone))} if alone else options
        return compile(source, out, threads=plan.threads, notes=notes, accept=accept, **chosen)

    try:
        return build(())
    except AccuracyError as error:
        gate = plan.gate
        if gate is None or not gate.fallback or gate.on_test or not options or plan.target is not None:
            raise
        if source != Path(plan.model):
            assert teacher is not None
            _check_student(gate, plan, source, teacher, work.path, error)
        tell("cost of each layer", None)
        layers = by_error(source, gate.inputs(), options, plan.threads, work.path, plan.max_length)
        return fall_back(error, build, layers, lambda text: tell(text, None))


def _check_student(
    gate: Gate, plan: Plan, student: Path, teacher: Evaluation, folder: Path, refused: AccuracyError
) -> None:
    """AccuracyError if a student has lost too much already, so that no layers in f32 can mend it."""
    from fastcpu.pipeline import compile  # noqa: A004  (the public name)

    with tempfile.TemporaryDirectory(dir=folder, prefix="student.") as scratch:
        plain = compile(student, Path(scratch) / "model", threads=plan.threads).directory
        value = gate.score(plain, plan.threads, gate_length(plan.recipe))
    if value < gate.floor(gate.value(teacher)):
        raise AccuracyError(f"{refused}; it is {value:.4f} in f32, too, before quantization") from refused


def _with_teacher(circumstances: Circumstances, plan: Plan, work: WorkFolder) -> Circumstances:
    """With the compiled teacher, where it is needed. One that only training can run is no obstacle for a report."""
    if plan.gate is None and not circumstances.timing and not work.done("teacher"):
        return circumstances
    try:
        return replace(circumstances, teacher=compiled_teacher(plan, work))
    except (FileFormatError, GraphError) as error:
        if plan.gate is not None:
            raise
        return replace(circumstances, problem=f"the teacher does not run in fastcpu: {error}")
