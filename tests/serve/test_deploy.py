"""The files of deploy/: they fit the server, and each other."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from fastcpu import _core
from fastcpu.serve.config import Config, make_config, read_config
from fastcpu.serve.metrics import Metrics
from fastcpu.serve.operation import Operation
from fastcpu.serve.protocols import operations
from fastcpu.serve.serving import Serving

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PUBLIC = {operation.path: operation for operation in operations() if operation.method == "GET" and operation.public}


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


def probed(path: str) -> Operation:
    """What answers a probe without a key."""
    return PUBLIC[path]


# ---- settings ----


def test_the_example_of_settings_is_one() -> None:
    config = make_config(read_config(DEPLOY / "serve.yaml"), "serve.yaml")
    assert list(config.models) == ["minilm", "reranker"]
    assert config.model("minilm").path == "/srv/fastcpu/minilm"
    assert config.model("reranker").max_wait_ms == 500


def test_its_comments_show_the_defaults() -> None:
    """With every setting that is commented out in force, it is the same configuration, but for the key."""
    text = (DEPLOY / "serve.yaml").read_text(encoding="utf-8")
    enabled, settings = re.subn(r"^( *)# (\w+:(?: |$))", r"\1\2", text, flags=re.MULTILINE)
    assert settings > 10
    given = make_config(yaml.safe_load(enabled), "serve.yaml")
    plain = make_config(yaml.safe_load(text), "serve.yaml")
    differing = {name for name in Config.__struct_fields__ if getattr(given, name) != getattr(plain, name)}
    assert differing == {"models", "api_keys"}
    assert given.model("reranker").task == "rerank"
    named = set(re.findall(r"^ *(?:# )?(\w+):", text, re.MULTILINE))
    assert set(Config.__struct_fields__) <= named  # it shows all there are
    fields = set(given.model("reranker").__struct_fields__)
    assert fields <= named
    for name in fields - {"path", "aliases", "task", "max_length", "max_wait_ms", "weight"}:
        assert getattr(given.model("reranker"), name) == getattr(plain.model("minilm"), name), name


# ---- systemd ----


def unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "fastcpu.service").read_text(encoding="utf-8").splitlines():
        name, sign, value = line.partition("=")
        if sign and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_the_unit_waits_for_the_server_to_drain() -> None:
    found = unit()
    config = make_config(read_config(DEPLOY / "serve.yaml"), "serve.yaml")
    assert found["KillSignal"] == ["SIGTERM"]
    assert float(found["TimeoutStopSec"][0]) >= config.drain_seconds + 10
    assert found["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    for name in ("DynamicUser", "NoNewPrivileges", "MemoryDenyWriteExecute"):
        assert found[name] == ["yes"]


def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("there is no systemd-analyze")
    path = tmp_path / "fastcpu.service"
    text = (DEPLOY / "fastcpu.service").read_text(encoding="utf-8")
    path.write_text(text.replace("/opt/fastcpu/bin/fastcpu", shutil.which("true") or "/bin/true"))
    run = subprocess.run([tool, "verify", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert str(path) not in run.stderr
    assert "fastcpu.service" not in run.stderr
    assert run.returncode == 0


# ---- containers ----


def instructions() -> list[tuple[str, str]]:
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def test_the_container_is_built_of_files_that_are_there() -> None:
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    sources = [source for each in copied for source in each]
    assert all((ROOT / source).exists() for source in sources)
    ignored = (DEPLOY / "Containerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert sorted(line[1:] for line in ignored if line.startswith("!")) == sorted(sources)


def test_the_container_ends_as_the_server_does() -> None:
    found = dict(instructions())  # the last of each
    assert found["STOPSIGNAL"] == "SIGTERM"
    assert int(found["EXPOSE"]) == Config(models={"m": "m"}).port
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", found["USER"])
    path = re.search(rf"127\.0\.0\.1:{found['EXPOSE']}(/[\w/]+)'", found["HEALTHCHECK"])
    assert path is not None
    assert probed(path[1]).light
    assert found["ENTRYPOINT"] == '["fastcpu"]'
    assert '"0.0.0.0"' in found["CMD"]


def test_the_pods_are_probed_and_drained() -> None:
    settings, deployment, service = documents("kubernetes.yaml")
    config = make_config(yaml.safe_load(settings["data"]["serve.yaml"]), "kubernetes.yaml")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    ((port,),) = (container["ports"],)
    assert port["containerPort"] == config.port
    assert config.host == "0.0.0.0"
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert {name: probed(path).path for name, path in paths.items()} == {
        "startup": "/v2/health/live",
        "liveness": "/v2/health/live",
        "readiness": "/v2/health/ready",
    }
    waits = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert pod["terminationGracePeriodSeconds"] >= waits + config.drain_seconds + 10
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert {each["name"] for each in pod["volumes"]} == mounts.keys()
    assert all(model.startswith(mounts["models"] + "/") for model in config.models.values() if isinstance(model, str))


# ---- Prometheus ----


def test_alerts_ask_for_what_is_measured() -> None:
    measured = set(re.findall(r"^# TYPE (\w+) ", Metrics().exposition().decode(), re.MULTILINE))
    asked = set()
    for rule in documents("alerts.yaml")[0]["groups"][0]["rules"]:
        asked |= set(re.findall(r"\bfastcpu_\w+", rule["expr"]))
        assert rule["annotations"]["summary"]
    assert asked
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked} <= measured


def test_prometheus_looks_where_metrics_are() -> None:
    (config,) = documents("prometheus.yaml")
    (job,) = config["scrape_configs"]
    assert job["metrics_path"] in {operation.path for operation in operations()}
    assert all((DEPLOY / name).is_file() for name in config["rule_files"])
    assert f'up{{job="{job["job_name"]}"}}' in (DEPLOY / "alerts.yaml").read_text(encoding="utf-8")


# ---- CPUs ----


@pytest.mark.parametrize(
    ("cpus", "settings", "threads"),
    [
        (1, {}, 1),
        (2, {}, 2),  # also of a quota of 1.5 CPUs, which counts as 2
        (8, {}, 8),
        (8, {"instances": 8}, 1),
        (8, {"instances": 3}, 2),
        (2, {"instances": 4}, 1),
        (8, {"threads": 1}, 1),
        (8, {"threads": 3, "instances": 4}, 3),
    ],
)
def test_threads_come_from_the_cpus_of_the_process(
    monkeypatch: pytest.MonkeyPatch, cpus: int, settings: dict[str, int], threads: int
) -> None:
    monkeypatch.setattr(_core, "available_cpus", lambda: cpus)
    serving = Serving(Config(models={"none": "nowhere"}, **settings))
    serving.executor.close()
    assert serving.threads == threads
