"""The whole comparison with fake engines in real worker processes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_engines
import numpy as np
import pytest

from bench import compare, measure, report
from bench.client import EngineFailure, WorkerProcess
from bench.e2e import ENGINES, find_engine
from bench.e2e.protocol import cached_artifact
from bench.inputs import Shape, token_feeds
from bench.measure import Settings, measure_case
from bench.models import PreparedModel

FAKE, INT8, REFERENCE = (
    engine.name for engine in (fake_engines.Fake, fake_engines.FakeInt8, fake_engines.FakeReference)
)
SHAPE = Shape(2, 4)


@pytest.fixture(autouse=True)
def _fakes_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(fake_engines.__file__).parent))
    monkeypatch.setattr(measure, "REFERENCE", fake_engines.FakeReference)


@pytest.fixture
def settings() -> Settings:
    cpus = compare.pick_cpus("", 1)
    return Settings(1, cpus, rounds=2, seconds=0.05, warmup=0.0, round_warmup=0.0, trial=0.03, patience=0.0)


@pytest.fixture
def model(tmp_path: Path) -> PreparedModel:
    saved = {
        "name": "fake",
        "sparsity": 0.0,
        "inputs": ["input_ids"],
        "outputs": ["logits"],
        "vocab": 100,
        "fingerprint": "0",
    }
    (tmp_path / "model.json").write_text(json.dumps(saved))
    return PreparedModel("fake", 0.0, ("input_ids",), ("logits",), 100, "0", tmp_path)


@pytest.fixture
def worker(settings: Settings, model: PreparedModel, tmp_path: Path) -> Iterator[WorkerProcess]:
    with WorkerProcess(FAKE, settings.cpus, tmp_path / "worker.log") as process:
        process.call("prepare", model=str(model.directory), cache=str(tmp_path), options={}, timeout=60)
        process.call("load", threads=1)
        process.call("feeds", [token_feeds(model.inputs, SHAPE, model.vocab, 0)])
        process.call("use", variant="quick", shape=str(SHAPE))
        yield process


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the state of processes from /proc")
def test_a_worker_is_stopped_between_requests(worker: WorkerProcess) -> None:
    worker.call("answers")
    deadline = time.monotonic() + 5
    while _state(worker.pid) != "T" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _state(worker.pid) == "T"
    reply, _ = worker.call("time", seconds=0.05, warmup_seconds=0.0)
    assert reply["runs"] >= 1
    assert reply["seconds"] >= 0.05
    assert reply["best_seconds"] <= reply["median_seconds"] <= reply["seconds"]


def test_a_worker_is_another_process_and_pinned(worker: WorkerProcess, settings: Settings) -> None:
    reply, _ = worker.call("use", variant="quick", shape=str(SHAPE))
    assert reply["info"] == {"threads": 1, "pid": worker.pid}
    assert os.sched_getaffinity(worker.pid) == set(settings.cpus)


def test_what_an_engine_prints_goes_to_the_log(worker: WorkerProcess, tmp_path: Path) -> None:
    worker.call("answers")
    assert "an engine may print" in (tmp_path / "worker.log").read_text()


def test_an_exception_is_a_failure_and_the_worker_lives_on(worker: WorkerProcess) -> None:
    with pytest.raises(EngineFailure, match="no_such"):
        worker.call("no_such")
    worker.call("answers")


def test_death_is_a_failure(settings: Settings, model: PreparedModel, tmp_path: Path) -> None:
    with WorkerProcess(FAKE, settings.cpus, tmp_path / "log") as process:
        options = {"fail_in": "exit"}
        process.call("prepare", model=str(model.directory), cache=str(tmp_path), options=options)
        process.call("load", threads=1)
        process.call("feeds", [token_feeds(model.inputs, SHAPE, model.vocab, 0)])
        with pytest.raises(EngineFailure, match=r"died in answers .exit code 3"):
            process.call("answers")


def test_no_answer_in_time_is_a_failure(worker: WorkerProcess) -> None:
    with pytest.raises(EngineFailure, match=r"did not finish time in 0\.2 s"):
        worker.call("time", seconds=60.0, warmup_seconds=0.0, timeout=0.2)


def _measure(settings: Settings, model: PreparedModel, tmp_path: Path, options: dict[str, dict[str, str]]) -> Any:
    engines = [FAKE, INT8, REFERENCE]
    return measure_case(model, SHAPE, engines, tmp_path, settings, options, {})


def test_a_case_is_measured(settings: Settings, model: PreparedModel, tmp_path: Path) -> None:
    result = _measure(settings, model, tmp_path, {FAKE: {"delay": "0.004"}, INT8: {"error": "0.1"}})
    assert json.loads(json.dumps(result)) == result
    fake, int8 = result["engines"][FAKE], result["engines"][INT8]
    assert fake["void"] is None
    assert int8["void"] is None
    assert fake["variant"] == "quick"
    assert "differs by 1" in fake["variants"]["wrong"]["problem"]
    assert fake["variants"]["slow"]["trial_best_seconds"] > fake["variants"]["quick"]["trial_best_seconds"]
    assert [slot["round"] for slot in fake["rounds"]] == [0, 1]
    assert int8["variants"]["quick"]["answers"]["max_abs_difference"] == pytest.approx(0.1, abs=1e-4)
    assert result["ratios"][INT8][FAKE]["median"] > 1.0
    assert not result["contract_conform"]
    assert any("2 rounds instead" in reason for reason in result["departures"])
    table = report.format_case(result, 1, FAKE, quick=True)
    assert "NOT CONTRACT-CONFORM" in table
    assert FAKE in table


def test_wrong_answers_are_void_and_not_timed(settings: Settings, model: PreparedModel, tmp_path: Path) -> None:
    result = _measure(settings, model, tmp_path, {FAKE: {"error": "0.001"}, INT8: {"error": "-500"}})
    fake, int8 = result["engines"][FAKE], result["engines"][INT8]
    assert "differs by" in fake["void"]
    assert fake["rounds"] == []
    assert "sequences_per_second" not in fake
    assert int8["variant"] == "wrong"  # the one variant whose answers are right enough
    table = report.format_case(result, 1, FAKE, quick=False)
    assert f"VOID {FAKE}" in table
    assert f"{INT8} / engine" in table


def test_void_engines_are_timed_only_on_request(settings: Settings, model: PreparedModel, tmp_path: Path) -> None:
    loud = replace(settings, time_void=True)
    entry = _measure(loud, model, tmp_path, {FAKE: {"error": "0.001"}})["engines"][FAKE]
    assert "differs by" in entry["void"]
    assert len(entry["rounds"]) == 2


@pytest.mark.parametrize(("error", "void"), [("0", False), ("0.001", True)])
def test_an_engine_with_other_weights_is_held_to_its_own_reference(
    settings: Settings, model: PreparedModel, tmp_path: Path, error: str, void: bool
) -> None:
    name = "fake_engines:FakeOtherWeights"
    case = measure_case(model, SHAPE, [name], tmp_path, settings, {name: {"error": error}}, {})
    entry = case["engines"][name]
    assert bool(entry["void"]) is void
    assert entry["versions"]["numpy"] == np.__version__


def test_an_engine_without_its_environment_says_how_to_make_it(
    settings: Settings, model: PreparedModel, tmp_path: Path
) -> None:
    with pytest.raises(EngineFailure, match=r"python -m bench\.environments nowhere"):
        measure.prepare_engine("fake_engines:FakeElsewhere", model, tmp_path, settings, {})


@pytest.mark.parametrize("where", ["load", "run", "exit"])
def test_a_failing_engine_is_void_and_the_others_are_measured(
    settings: Settings, model: PreparedModel, tmp_path: Path, where: str
) -> None:
    result = _measure(settings, model, tmp_path, {FAKE: {"fail_in": where}})
    assert result["engines"][FAKE]["void"]
    assert result["engines"][REFERENCE]["void"] is None


def test_disturbed_rounds_are_repeated_while_patience_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = iter([0.5, 0.01, 0.5])

    class Busy:
        def call(self, *_: object, **__: object) -> tuple[dict[str, Any], list[Any]]:
            return {"runs": 1, "seconds": 1.0, "foreign_share": next(shares)}, []

    monkeypatch.setattr(measure, "wait_until_quiet", lambda *_: True)
    one = measure.Contestant("busy", Busy())  # type: ignore[arg-type]
    patience = measure.Patience(10.0)
    settings = Settings(1, (0,))
    measure.time_slot(one, 0, SHAPE, settings, patience)
    assert [(slot["disturbed"], slot["kept"]) for slot in one.slots] == [(True, False), (False, True)]
    patience.left = 0.0
    measure.time_slot(one, 1, SHAPE, settings, patience)
    assert (one.slots[2]["disturbed"], one.slots[2]["kept"]) == (True, True)
    assert len(one.rates) == 2


def test_the_contract_is_the_default() -> None:
    assert Settings(2, (0, 1)).departures() == []
    assert len(Settings(4, (0, 1, 2, 3), rounds=3, seconds=0.5).departures()) == 3


def test_engines_are_found_by_name() -> None:
    assert len({engine.name for engine in ENGINES}) == len(ENGINES)
    for engine in ENGINES:
        assert find_engine(engine.name) is engine
    with pytest.raises(ValueError, match="onnxruntime_fp32"):
        find_engine("tensorrt")
    with pytest.raises(ValueError, match="not an Engine"):
        find_engine("fake_engines:np")
    with pytest.raises(ValueError, match="no option"):
        find_engine("openvino_fp32")({"speed": "max"})


def test_artifacts_are_built_once_for_each_stamp(tmp_path: Path) -> None:
    built = []

    def build(path: Path) -> None:
        built.append(path)
        (path / "data").write_text("x")
        if len(built) == 3:
            raise RuntimeError("half-built")

    for _ in range(2):
        assert (cached_artifact(tmp_path / "a", {"v": 1}, build) / "data").exists()
    cached_artifact(tmp_path / "a", {"v": 2}, build)
    assert len(built) == 2
    with pytest.raises(RuntimeError):
        cached_artifact(tmp_path / "a", {"v": 3}, build)
    assert json.loads((tmp_path / "a" / "stamp.json").read_text()) == {"v": 2}


def test_options_are_parsed() -> None:
    assert compare.parse_options(["fastcpu.model=a=b", "fastcpu.source=onnx"]) == {
        "fastcpu": {"model": "a=b", "source": "onnx"}
    }
    with pytest.raises(ValueError, match=r"ENGINE\.KEY=VALUE"):
        compare.parse_options(["fastcpu"])


def test_too_few_cpus_are_an_error() -> None:
    with pytest.raises(ValueError, match="threads need"):
        compare.pick_cpus("", 100_000)


def _document(median: float, shape: str = "b1s16") -> dict[str, Any]:
    entry = {"void": None, "sequences_per_second": {"median": median}}
    result = {"model": "m", "sparsity": 0.0, "shape": shape, "engines": {"peer": entry, "us": entry}}
    machine = {"cpu": "A CPU", "cpu_family": "1", "cpu_model": "2"}
    return {"schema": 1, "quick": False, "threads": 2, "versions": {}, "machine": machine, "results": [result]}


def test_a_peer_below_its_known_figure_is_noticed(tmp_path: Path) -> None:
    report.write_json(tmp_path / "peers.json", _document(100.0))
    machine = _document(0)["machine"]
    known = report.known_peers(machine, 2, [tmp_path / "peers.json"])
    assert known["peer", "m", 0.0, "b1s16"] == 100.0
    assert report.peers_below(_document(91.0)["results"][0], known, "us") == []
    found = report.peers_below(_document(89.0)["results"][0], known, "us")
    assert found == ["peer reached 89.0 sequences/s, but 100.0 is known for this CPU"]
    assert report.known_peers(machine, 4, [tmp_path / "peers.json"]) == {}
    assert report.known_peers(machine | {"cpu_model": "3"}, 2, [tmp_path / "peers.json"]) == {}


def test_result_files_keep_everything_to_six_digits(tmp_path: Path) -> None:
    document = {"a": {}, "list": [], "x": [{"b": [1, {"c": None}], "d": "t\n"}, [[1.23456789e-7]]], "flag": True}
    report.write_json(tmp_path / "file.json", document)
    document["x"] = [{"b": [1, {"c": None}], "d": "t\n"}, [[1.23457e-7]]]
    assert json.loads((tmp_path / "file.json").read_text()) == document


def test_cases_are_appended_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    report.write_json(path, _document(1.0))
    merged = report.merge_results(path, _document(2.0, "b8s16"))
    assert [result["shape"] for result in merged["results"]] == ["b1s16", "b8s16"]
    assert len(report.merge_results(path, _document(3.0))["results"]) == 1
    with pytest.raises(ValueError, match="threads"):
        report.merge_results(path, _document(1.0) | {"threads": 4})


def test_engines_are_left_out_by_default_where_they_cannot_run_the_model() -> None:
    names = ["fastcpu", "neural_engine"]
    assert compare.engines_of("distilbert-qa", names) == names
    assert compare.engines_of("minilm", names) == ["fastcpu"]
