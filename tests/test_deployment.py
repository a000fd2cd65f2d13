"""The files in `deploy` and `compose.scale.yml`: valid, with few rights, and with commands and settings that exist. Part of `make check`."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from app.cli import cli
from app.config import Settings, setting_names
from app.config.settings import secret_fields
from tests.real.front_server import read_blocks

ROOT = Path(__file__).parent.parent
KUBERNETES = ROOT / "deploy/kubernetes"
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
KUBERNETES_VERSION = "1.37"
DRAINED_WITHIN = 15
"""Seconds that a process needs after its drain, at most (docs/operating.md)."""


def manifests() -> Iterator[tuple[str, dict[str, Any]]]:
    """File name and content of each object."""
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text(encoding="utf-8"))
    for name in kustomization["resources"]:
        for document in yaml.safe_load_all((KUBERNETES / name).read_text(encoding="utf-8")):
            yield name, document


def pods() -> dict[str, dict[str, Any]]:
    """The pod specification of each Deployment and Job, by name."""
    return {
        document["metadata"]["name"]: document["spec"]["template"]["spec"]
        for _, document in manifests()
        if document["kind"] in ("Deployment", "Job")
    }


def drain_seconds() -> float:
    fields = Settings.model_fields
    return fields["drain_delay"].default + fields["drain_seconds"].default + DRAINED_WITHIN


@pytest.mark.parametrize(
    "document", [pytest.param(document, id=f"{name}-{document['metadata']['name']}") for name, document in manifests()]
)
def test_a_manifest_is_valid(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)


def test_all_manifests_are_applied() -> None:
    assert {name for name, _ in manifests()} == {path.name for path in KUBERNETES.iterdir()} - {"kustomization.yaml"}


@pytest.mark.parametrize("name", sorted(pods()))
def test_a_pod_has_few_rights_and_bounds(name: str) -> None:
    pod = pods()[name]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert "runAsUser" not in pod["securityContext"], "any user id must do"
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert all(volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"])
    assert_command_exists(container["command"])


def test_a_pod_has_time_to_drain() -> None:
    assert pods()["mediavault-api"]["terminationGracePeriodSeconds"] >= drain_seconds()


def test_what_selects_pods_finds_some() -> None:
    components = {
        document["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]
        for _, document in manifests()
        if document["kind"] in ("Deployment", "Job")
    }
    text = "".join(path.read_text(encoding="utf-8") for path in KUBERNETES.iterdir())
    assert set(re.findall(r"app.kubernetes.io/component: (\w+)", text)) == components


def test_the_configuration_has_settings_and_no_secret() -> None:
    (data,) = [document["data"] for _, document in manifests() if document["kind"] == "ConfigMap"]
    secrets = {str(Settings.model_fields[name].validation_alias) for name in secret_fields()}
    assert data.keys() <= setting_names() - secrets


def test_only_prometheus_reaches_the_metrics() -> None:
    (data,) = [document["data"] for _, document in manifests() if document["kind"] == "ConfigMap"]
    for name, setting in (("api", "MEDIAVAULT_METRICS_PORT"), ("worker", "MEDIAVAULT_WORKER_METRICS_PORT")):
        (container,) = pods()[f"mediavault-{name}"]["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert str(ports["metrics"]) == data[setting]
    services = [document for _, document in manifests() if document["kind"] == "Service"]
    assert [port["targetPort"] for service in services for port in service["spec"]["ports"]] == ["http"]
    policies = [document["spec"] for _, document in manifests() if document["kind"] == "NetworkPolicy"]
    admitted = {
        (peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], port["port"])
        for policy in policies
        for rule in policy.get("ingress", ())
        for peer in rule["from"]
        for port in rule["ports"]
    }
    assert admitted == {("ingress-nginx", "http"), ("monitoring", "metrics")}
    assert all("9464" not in str(service.get("ports", "")) for service in scale().values())


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_a_command_with_few_rights(unit: Path) -> None:
    lines = unit.read_text(encoding="utf-8").splitlines()
    settings = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    assert_command_exists([Path(settings["ExecStart"].split()[0]).name, *shlex.split(settings["ExecStart"])[1:]])
    assert settings["NoNewPrivileges"] == "true"
    assert settings["ProtectSystem"] == "strict"
    assert settings["CapabilityBoundingSet"] == ""


def test_the_unit_leaves_signals_to_the_supervisor_and_time_to_drain() -> None:
    text = (ROOT / "deploy/systemd/mediavault.service").read_text(encoding="utf-8")
    assert "KillMode=mixed" in text
    (seconds,) = re.findall(r"TimeoutStopSec=(\d+)", text)
    assert int(seconds) >= drain_seconds()


def test_a_follower_of_immich_waits_for_a_person_where_it_must() -> None:
    text = (ROOT / "deploy/systemd/mediavault-immich-follow.service").read_text(encoding="utf-8")
    assert "Restart=on-failure" in text
    assert "RestartPreventExitStatus=2" in text
    assert "ReadWritePaths" not in text, "Immich's folders are read-only"


def test_the_documented_schedules_of_following_run_commands_that_exist() -> None:
    text = (ROOT / "docs/immich.md").read_text(encoding="utf-8")
    blocks = [textwrap.dedent(block) for block in re.findall(r"^( *```yaml\n.*?)```", text, re.DOTALL | re.MULTILINE)]
    (follower,) = [yaml.safe_load(block.partition("\n")[2])["services"]["mediavault-follow"] for block in blocks]
    assert_command_exists(follower["command"])
    assert set(follower["environment"]) <= setting_names() | {"IMMICH_DATABASE_URL"}
    assert all(volume.endswith(":ro") for volume in follower["volumes"])
    (line,) = re.findall(r"^ *\*/5 .*/bin/(mediavault .*)$", text, re.MULTILINE)
    assert_command_exists(shlex.split(line))


@pytest.mark.parametrize("name", ["migration", "api", "worker"])
def test_a_replica_of_compose_has_few_rights_and_bounds(name: str) -> None:
    service = scale()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert set(service["environment"]) <= setting_names()
    assert_command_exists(service["command"])


def test_compose_has_two_of_each_behind_nginx() -> None:
    services = scale()
    assert services["api"]["deploy"]["replicas"] == services["worker"]["deploy"]["replicas"] == 2
    assert [name for name, service in services.items() if "ports" in service] == ["nginx"]
    assert int(services["api"]["stop_grace_period"].removesuffix("s")) >= drain_seconds()


def test_nginx_is_set_up_as_documented() -> None:
    documented = read_blocks("nginx")[0]
    ours = (ROOT / "deploy/nginx.conf").read_text(encoding="utf-8")

    def directives(text: str) -> set[str]:
        return set(
            re.findall(r"^\s*(?:server \S+ )?((?:proxy_|client_|keepalive|max_fails)\S*.*;)$", text, re.MULTILINE)
        )

    assert directives(ours) == directives(documented)


def scale() -> dict[str, dict[str, Any]]:
    return yaml.safe_load((ROOT / "compose.scale.yml").read_text(encoding="utf-8"))["services"]


def assert_command_exists(command: list[str]) -> None:
    assert command[0] == "mediavault"
    answer = CliRunner().invoke(cli, [*command[1:], "--help"])
    assert answer.exit_code == 0, answer.output
