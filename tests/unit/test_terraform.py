"""What Terraform makes is what the code asks for: names, indexes, times, configuration, roles."""

import importlib.util
import re
from pathlib import Path

import pytest

from services.gpu_worker.push_service import PUSH_SECONDS
from shared.adapters.gcp.indexes import (
    COMPOSITE_INDEXES,
    FIELD_SETTINGS,
    QUERIES,
    CompositeIndex,
    FieldSetting,
    IndexField,
)
from shared.adapters.gcp.pubsub_topology import TOPICS, Redelivery, names_of
from shared.catalog import CATALOG, TOPIC_GPU, TOPIC_REMOTE
from shared.config import Config, load_config
from shared.config_sections import Caller
from shared.prices import L4_PRICE
from tests.unit.terraform_files import (
    FOLDER,
    blocks,
    files,
    grants,
    local_values,
    resources,
    texts_of,
)

ROOT = FOLDER.parent
CONFIGURATION = FOLDER / "tests" / "configuration"
BASIC_ROLES = {"roles/owner", "roles/editor", "roles/viewer", "roles/browser"}


# --- Firestore


def made_index(spoken: dict) -> CompositeIndex:
    fields = []
    for field in spoken["fields"]:
        path, _, order = field.partition(" ")
        fields.append(IndexField(path=path, order=order or "ASCENDING"))
    return CompositeIndex(collection=spoken["collection"], fields=tuple(fields))


def test_every_index_of_the_code_is_made_and_no_other():
    made = [made_index(spoken) for spoken in local_values()["composite_indexes"].values()]
    assert set(made) == set(COMPOSITE_INDEXES)
    assert len(made) == len(COMPOSITE_INDEXES)


def test_every_query_has_its_index():
    made = {made_index(spoken) for spoken in local_values()["composite_indexes"].values()}
    without = [query.made_by for query in QUERIES if query.index and query.index not in made]
    assert without == []
    assert made == {query.index for query in QUERIES if query.index}


def test_fields_are_set_as_the_code_says():
    expiring = {
        FieldSetting(collection_group=collection, path=field, ttl=True)
        for collection, field in local_values()["ttl_fields"].items()
    }
    unindexed = {
        FieldSetting(collection_group=spoken["collection"], path=spoken["field"])
        for spoken in local_values()["unindexed_fields"].values()
    }
    assert expiring | unindexed == set(FIELD_SETTINGS)
    # An empty block takes all indexes away.
    for field in resources("google_firestore_field").values():
        assert field["index_config"] == [{}]
    assert resources()["google_firestore_field.ttl"]["ttl_config"] == [{}]


# --- Pub/Sub


def topics() -> list[str]:
    return re.findall(r'"([^"]+)"', local_values()["topics"])


def names(kind: str) -> set[str]:
    """As they are without a prefix."""
    found = set()
    for body in resources(kind).values():
        name = body["name"].removeprefix("${var.topic_prefix}")
        assert name != body["name"], f"{name} has no prefix"
        every = topics() if body.get("for_each") == "${local.topics}" else [""]
        found |= {name.replace("${each.key}", topic) for topic in every}
    return found


def test_topics_and_subscriptions_are_called_what_the_code_calls_them():
    assert set(topics()) == set(TOPICS)
    expected = [names_of(topic) for topic in topics()]
    assert names("google_pubsub_topic") == {name for of in expected for name in (of.topic, of.dead)}
    made = names("google_pubsub_subscription")
    assert made >= {name for of in expected for name in (of.push, of.dead_pull)}
    # What pulls is a pool of GPU workers.
    assert made - {name for of in expected for name in (of.push, of.dead_pull)} == {
        names_of(TOPIC_GPU).pull
    }


def test_messages_come_back_as_in_the_emulator():
    (redelivery,) = (body for name, body in blocks("variable") if name == "redelivery")
    defaults = dict(re.findall(r"(\w+)\s*=\s*optional\(number, (\d+)\)", redelivery["type"]))
    code = Redelivery()
    assert {name: int(number) for name, number in defaults.items()} == {
        "backoff_min_seconds": code.backoff_min_seconds,
        "backoff_max_seconds": code.backoff_max_seconds,
        "max_deliveries": code.max_delivery_attempts,
    }
    subscriptions = resources("google_pubsub_subscription")
    pull = subscriptions["google_pubsub_subscription.render_gpu_pull"]
    assert pull["ack_deadline_seconds"] == code.ack_deadline_seconds
    assert pull["ack_deadline_seconds"] >= Config().queue.visibility_seconds
    for address, body in subscriptions.items():
        if address.endswith("dead_pull"):
            continue
        assert body["dead_letter_policy"][0]["max_delivery_attempts"] == (
            "${var.redelivery.max_deliveries}"
        )
        assert body["retry_policy"] == pull["retry_policy"]


def test_a_push_waits_for_the_longest_render():
    waits = local_values()["push_seconds"]
    assert waits == PUSH_SECONDS
    assert waits > max(model.max_render_seconds for model in CATALOG.values())
    pushed = [
        body for body in resources("google_pubsub_subscription").values() if "push_config" in body
    ]
    assert {body["ack_deadline_seconds"] for body in pushed} == {"${local.push_seconds}"}
    for body in pushed:
        (push,) = body["push_config"]
        assert push["oidc_token"][0]["audience"] == push["push_endpoint"]


# --- what services are started with


@pytest.fixture(params=sorted(CONFIGURATION.glob("*.yaml")), ids=lambda file: file.stem)
def service(request) -> tuple[str, Config]:
    return request.param.stem, load_config(request.param)


def test_the_configuration_of_every_service_can_be_loaded(service):
    _, config = service
    assert config.profile == "gcp"
    assert config.gcp.project == config.vertex.project == "demo-promptreel"
    assert config.gcp.signing == "iam"
    assert config.server.host == "0.0.0.0"  # noqa: S104 - in a container of its own
    assert config.server.port == local_values()["port"]
    assert config.data_dir == Path(local_values()["data_dir"])
    assert config.server.key_file == Path(local_values()["keys_file"])
    assert config.model_dir.is_absolute()
    assert config.model_name == "wan2.1"


def test_each_service_knows_who_may_call_it(service):
    name, config = service
    expected = {"scheduler": Caller(), "push": Caller()}
    if name.startswith("api"):
        expected["scheduler"] = called_at("api", "scheduler", checked_by_cloud_run=False)
    else:
        expected["push"] = called_at(name, "push", checked_by_cloud_run=True)
    assert {"scheduler": config.gcp.scheduler, "push": config.gcp.push} == expected


def called_at(service: str, caller: str, *, checked_by_cloud_run: bool) -> Caller:
    return Caller(
        audience=f"https://promptreel-{service}-123456789012.us-central1.run.app",
        service_account=f"promptreel-{caller}@demo-promptreel.iam.gserviceaccount.com",
        checked_by_cloud_run=checked_by_cloud_run,
    )


def test_workers_render_what_their_topic_is_for():
    for name, topic in (("gpu-worker", TOPIC_GPU), ("remote-worker", TOPIC_REMOTE)):
        config = load_config(CONFIGURATION / f"{name}.yaml")
        assert CATALOG[config.worker_model].topic == topic


def test_what_a_user_chooses_reaches_the_services():
    chosen, default = (
        load_config(CONFIGURATION / f"{name}.yaml") for name in ("api", "api-by-default")
    )
    assert chosen.limits.queued_per_owner == 50
    assert chosen.worker.max_attempts == 2
    assert chosen.images.stale_seconds == 7
    assert chosen.images.replicate.request_seconds == 20
    assert chosen.plans["free"].images_per_month == 5
    assert chosen.fallback_backend == "veo3"
    for_one_gpu = local_values()["queued_per_gpu"]
    queued = {"queued_per_model": for_one_gpu, "queued_per_owner": for_one_gpu // 2}
    assert default.limits == Config().limits.model_copy(update=queued)
    assert default.worker == Config().worker.model_copy(update={"sweep_seconds": 60})
    assert default.images == Config().images
    assert default.fallback_backend is None


def test_the_price_is_of_the_machine_that_is_started():
    (worker,) = (body for name, body in blocks("variable") if name == "gpu_worker")
    cpu, memory = (
        re.search(rf'{key}\s*=\s*optional\(string, "(\d+)', worker["type"])[1]
        for key in ("cpu", "memory")
    )
    assert f"{cpu} vCPU, {memory} GiB, one NVIDIA L4" in L4_PRICE.machine


def test_a_worker_has_as_many_requests_as_jobs():
    (template,) = resources()["google_cloud_run_v2_service.gpu_worker"]["template"]
    assert template["max_instance_request_concurrency"] == Config().worker.jobs_at_once


def containers() -> dict[str, dict]:
    found = {}
    for address, body in resources().items():
        if address.startswith("google_cloud_run_v2_") and "template" in body:
            (template,) = body["template"]
            (template,) = template.get("template", [template])
            (found[address],) = template["containers"]
    return found


def test_what_containers_start_is_there():
    started = {
        address.rpartition(".")[2]: container["command"][-1]
        for address, container in containers().items()
        if container.get("command", [""])[0] == "python"
    }
    assert started == {
        "bake": "services.gpu_worker.engine.bake",
        "gpu_worker": "services.gpu_worker.pull",
    }
    for module in started.values():
        assert importlib.util.find_spec(module)
    for name in ("remote_worker", "courier"):
        pushed_to = containers()[f"google_cloud_run_v2_service.{name}"]["args"]
        arguments = dict(zip(pushed_to[::2], pushed_to[1::2], strict=True))
        source = (ROOT / arguments["--source"]).read_text(encoding="utf-8")
        assert f"def {arguments['--target']}(request" in source
        assert f"@functions_framework.{arguments['--signature-type']}" in source


def test_services_listen_where_their_images_do_and_read_what_is_mounted():
    port = local_values()["port"]
    for image in ("api", "gpu_worker"):
        dockerfile = (ROOT / "services" / image / "Dockerfile").read_text(encoding="utf-8")
        assert set(re.findall(r"^EXPOSE (\d+)$", dockerfile, re.MULTILINE)) == {str(port)}
        assert set(re.findall(r"PORT=(\d+)", dockerfile)) == {str(port)}
        (config_file,) = set(re.findall(r"PROMPTREEL_CONFIG=(\S+)", dockerfile))
        assert config_file == local_values()["configuration_file"].strip('"')


# --- who may do what


def test_nobody_has_a_basic_role():
    assert {grant.role for grant in grants()} & BASIC_ROLES == set()
    for grant in grants():
        assert re.fullmatch(r"roles/[a-z]+\.[A-Za-z.]+", grant.role), grant


def test_no_grant_takes_roles_from_others():
    # A binding or a policy is exclusive: it would remove what somebody else granted.
    assert [a for a in resources() if re.search(r"iam_(binding|policy)\.", a)] == []


def test_the_api_is_all_that_the_public_may_call():
    public = {grant for grant in grants() if grant.account in {"allUsers", "allAuthenticatedUsers"}}
    assert {grant.address for grant in public} == {
        "google_cloud_run_v2_service_iam_member.anybody_calls_api"
    }
    assert {grant.role for grant in public} == {"roles/run.invoker"}
    everywhere = [text for text in texts_of(files()) if "allAuthenticatedUsers" in text]
    assert everywhere == []


def test_every_account_has_a_purpose():
    accounts = {address.rpartition(".")[2] for address in resources("google_service_account")}
    granted = {grant.account for grant in grants()}
    assert granted == accounts | {"allUsers", "pubsub_agent"}


def test_every_grant_is_told_of_in_the_documentation():
    text = (ROOT / "docs" / "least-privilege.md").read_text(encoding="utf-8")
    told = set()
    account = ""
    for line in text.splitlines():
        if heading := re.match(r"## `(\w+)`", line):
            account = heading[1]
        elif row := re.match(r"\| `(roles/[^`]+)` \|.*\| `([^`]+)` \|$", line):
            told.add((account, row[1], row[2]))
    assert told == {(grant.account, grant.role, grant.address) for grant in grants()}


# --- secrets, and the reader


def test_no_value_of_a_secret_comes_near_the_state():
    assert set(resources("google_secret_manager_secret_version")) == {
        "google_secret_manager_secret_version.configuration"
    }
    kinds = {address.partition(".")[0] for address in resources()}
    assert kinds & {"google_service_account_key", "random_password", "tls_private_key"} == set()


def test_variables_and_outputs_say_what_they_are_in_alphabetical_order():
    for file, content in files().items():
        for kind in ("variable", "output"):
            listed = [pair for block in content.get(kind, []) for pair in block.items()]
            names = [name for name, _ in listed]
            assert names == sorted(names), file
            assert [name for name, body in listed if len(body.get("description", "")) < 20] == []


def test_numbers_and_texts_from_outside_are_looked_at():
    unchecked = {name for name, body in blocks("variable") if "validation" not in body}
    # Yes or no, free text, and what promptreel.yaml's own check or Google sees to.
    assert unchecked == {
        "api_public",
        "configuration",
        "deletion_protection",
        "image_providers",
        "labels",
        "model",
        "state_bucket",
        "sweep_schedule",
    }
