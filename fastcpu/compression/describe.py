"""The report of a compression in words and tables, which the page and the model card share.

All functions take the contents of report.json; what was not measured is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]

TEACHER, MODEL = "teacher, fp32", "this model"
_NAMES = {"teacher": TEACHER, "model": MODEL}


def title(report: Json) -> str:
    return f"{report['compression']['source']['name']}, compressed by fastcpu"


def summary(report: Json) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table: quality, size and latency of the teacher, of the model, and how they compare."""
    compression = report["compression"]
    columns: list[tuple[str, list[str]]] = []
    accuracy = compression.get("accuracy")
    for metric in accuracy["model"] if accuracy else ():
        before, after = (accuracy[which][metric]["value"] for which in ("teacher", "model"))
        change = accuracy["difference"][metric]["value"] if metric in accuracy["difference"] else None
        columns.append((metric, [number(before, ".4f"), number(after, ".4f"), number(change, "+.4f")]))
    sizes = compression["bytes"]
    cells = ["" if sizes[name] is None else f"{sizes[name] / 1e6:.1f}" for name in _NAMES]
    columns.append(("MB", [*cells, _factor(sizes["teacher"], sizes["model"], "smaller")]))
    for row in compression["latency"]:
        before, after = ((row.get(name) or {}).get("median") for name in _NAMES)
        cells = [number(before, ".3g"), number(after, ".3g"), _factor(before, after, "faster")]
        columns.append((f"ms, {row['sequence']} tokens", cells))
    names = [*_NAMES.values(), "compared"]
    return ["", *(head for head, _ in columns)], [
        [name, *(cells[index] for _, cells in columns)] for index, name in enumerate(names)
    ]


def quality(report: Json) -> tuple[list[str], list[list[str]]] | None:
    """A table of the metrics with their 95 % intervals; None if quality was not measured."""
    accuracy = report["compression"].get("accuracy")
    if accuracy is None:
        return None
    rows = []
    for metric, value in accuracy["model"].items():
        difference = accuracy["difference"].get(metric)
        rows.append([metric, interval(accuracy["teacher"][metric]), interval(value), interval(difference, "+.4f")])
    return [f"{accuracy['task']}, {accuracy['split']}", TEACHER, MODEL, "difference"], rows


def headline(accuracy: Json) -> str:
    """The metric that stands for quality."""
    metric: str = accuracy.get("metric") or next(iter(accuracy["model"]))
    return metric


def engines(report: Json) -> tuple[list[str], list[list[str]]] | None:
    """A table of the model in fastcpu and in other engines; None if these were not measured."""
    found = report["compression"]["engines"]
    if not found:
        return None
    accuracy = report["compression"].get("accuracy")
    length = next((f", {entry['sequence']} tokens" for entry in found if "sequence" in entry), "")
    header = ["engine", "MB", f"ms{length}", "time beside fastcpu", "cosine of answers"]
    if accuracy is not None:
        header.append(headline(accuracy))
    rows = []
    for entry in found:
        if "problem" in entry:
            rows.append([entry["engine"], *[""] * (len(header) - 2), entry["problem"]])
            continue
        times = f"{entry['median']:.3g} ({entry['low']:.3g} to {entry['high']:.3g})"
        factor = f"{entry['median'] / found[0]['median']:.2f}x"
        row = [entry["engine"], f"{entry['bytes'] / 1e6:.1f}", times, factor, f"{entry['cosine']:.4f}"]
        if accuracy is not None:
            metrics = accuracy["model"] if entry is found[0] else entry.get("accuracy", {})
            row.append(interval(metrics.get(headline(accuracy))) or entry.get("accuracy_problem", ""))
        rows.append(row)
    return header, rows


def search(report: Json) -> tuple[list[str], list[list[str]]] | None:
    """A table of the candidates of a search that were looked at; None if there was none."""
    found = report["compression"].get("search")
    if found is None:
        return None
    rows = [
        [
            str(row["layers"]),
            f"{row['sparsity']:.0%}",
            number(row["milliseconds"], ".3g"),
            number(row["speedup"], ".2f"),
            ", ".join(f"{number(each['score'], '.4f')} ({each['share']:.3g})" for each in row["scores"]),
            row["verdict"],
        ]
        for row in found["candidates"]
        if row["milliseconds"] is not None
    ]
    return ["layers", "zero", "ms", "x dense int8", "score (share of the steps)", "verdict"], rows


def steps(report: Json) -> dict[str, str]:
    """What the recipe did, by step."""
    compression = report["compression"]
    recipe = compression["plan"]["recipe"]
    student, prune, distill, quantize = (recipe[key] for key in ("student", "prune", "distill", "quantize"))
    found = {"recipe": recipe["name"]}
    if student is not None:
        found["layers"] = f"{student['layers']} of the teacher's ({student['select']})"
    if prune is not None:
        how = f"by {prune['score']}, {'in training' if distill else 'without training'}"
        if prune["reconstruct"]:
            texts = min(prune["reconstruct"], compression["texts"]["taken"])
            how = f"layer by layer with {texts} texts, so that outputs stay (least squares)"
        found["pruning"] = (
            f"{prune['sparsity']:.0%} of the weights of every encoder linear, pattern {prune['pattern']}, {how}"
        )
    if distill is not None:
        losses = ", ".join(f"{name} x {weight:g}" for name, weight in distill["losses"].items())
        found["distillation"] = (
            f"{compression['steps']} steps of {distill['batch']} texts of up to {distill['max_length']} tokens; "
            f"learning rate {distill['learning_rate']:g}; losses: {losses}"
        )
        if compression["plan"]["teacher"] != compression["plan"]["model"]:
            found["distillation"] += f"; teacher: {compression['plan']['teacher']}"
        if compression["plan"]["assistants"]:
            found["distillation"] += f"; the mean of {1 + len(compression['plan']['assistants'])} teachers"
    if compression.get("readout"):
        found["readout"] = f"a linear map of the embeddings, solved for with {compression['readout']} texts"
    elif compression.get("readout") == 0:
        found["readout"] = "none: there are too few texts to solve for one"
    if quantize is not None:
        found["quantization"] = f"int8, {quantize['scheme']}"
        if quantize["scheme"] == "static":
            texts = report["options"]["calibration_sequences"]
            found["quantization"] += f", observer {quantize['observer']}, {texts} texts"
    if compression["left_alone"]:
        found["left in f32"] = f"{', '.join(compression['left_alone'])}: with them, more was lost than is allowed"
    found |= {name: ", ".join(recipe[name]) for name in ("only", "ignore") if recipe[name]}
    plan = compression["plan"]
    return found | {"seed": str(plan["seed"]), "threads": f"{plan['threads']}, on {plan['device']}"}


def data(report: Json) -> dict[str, str]:
    """The texts that it saw, and how evaluation sentences were kept out."""
    plan, texts = report["compression"]["plan"], report["compression"]["texts"]
    if texts is None:
        return {"texts": "none: the recipe needs none"}
    dropped = (
        f"{texts['equal']} equal and {texts['similar']} similar ones"
        if plan["exclude"] or plan["gate"]
        else "not looked for: neither --exclude nor --task was given"
    )
    return {
        "files": ", ".join(plan["data"]),
        "texts read": str(texts["seen"]),
        "evaluation sentences dropped": dropped,
        "texts taken": str(texts["taken"]),
    } | ({"of these with a label": str(texts["labelled"])} if texts["labelled"] else {})


def limits(report: Json) -> list[str]:
    """What a reader must not miss."""
    compression = report["compression"]
    accuracy = compression.get("accuracy")
    if accuracy is None:
        found = ["Quality was not measured: evaluate the model on data of your own (`fastcpu eval`) before you use it."]
    else:
        measured = (
            f"Quality was measured on {accuracy['examples']} examples of {accuracy['task']}, part {accuracy['split']}, "
            f"{'which' if accuracy['max_drop'] is None else 'by which the model was accepted and which'} it was not "
            "trained on. It may be lower on other data; `fastcpu eval` measures it there."
        )
        found = [measured]
    if compression["latency"]:
        found.append(
            f"Latency is of single sequences of random tokens on {compression['plan']['threads']} threads, in the "
            "fastcpu runtime for both models: a rough figure, taken in seconds right after the compression on the "
            f"machine that made it ({compression['machine']['CPU']}). `fastcpu bench` measures it anew."
        )
    else:
        found.append("Latency was not measured.")
    if compression["problem"]:
        found.append(f"Nothing is said of the teacher's size and latency: {compression['problem']}.")
    return found


# ---- cells ----


def number(value: float | None, form: str) -> str:
    """Empty for what is unknown."""
    return "" if value is None else format(value, form)


def interval(entry: Mapping[str, float | None] | None, form: str = ".4f") -> str:
    """A value with its interval."""
    if entry is None or entry["value"] is None:
        return ""
    return f"{number(entry['value'], form)} ({number(entry['low'], form)} to {number(entry['high'], form)})"


def _factor(before: float | None, after: float | None, word: str) -> str:
    return f"{before / after:.2f}x {word}" if before and after else ""
