"""The image's root, planned and applied; the emulated AWS keeps what Image Builder is given, and bakes nothing."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.infra.deployments import Deployment
from tests.infra.image_builder import ImageBuilder, Refused
from tests.infra.policies import IMAGE_EVERYWHERE, IMAGE_ROLES
from tests.infra.terraform_world import FOLDER, IMAGE, resources
from tests.infra.test_iam import Statement, actions, many, statements

Plans = dict[str, dict[str, Any]]
Found = dict[str, dict[str, Any]]

PARAMETER = "/tl-fif/latest_ami_id"


@pytest.fixture
def found(plans: Plans) -> Found:
    """Return the resources, free to be changed."""
    return copy.deepcopy(resources(plans[IMAGE]))


def roles(found: Found) -> Iterator[tuple[str, list[Statement]]]:
    """Yield the name of each role, less the system's, and what its policy says."""
    for address, each in found.items():
        if each["type"] == "aws_iam_role_policy":
            yield address.partition(".")[2], statements(each["values"]["policy"])


# Rights


def test_a_role_may_do_what_the_table_says_and_nothing_else(found: Found) -> None:
    """Action by action, none of them with a star, and by its own policy alone."""
    assert {name: actions(said) for name, said in roles(found)} == {
        name: set(needs) for name, needs in IMAGE_ROLES.items()
    }
    assert not any("*" in action for _, said in roles(found) for action in actions(said))
    assert not [each for each in found.values() if each["type"] == "aws_iam_role_policy_attachment"]


def test_a_role_s_name_is_that_of_its_policy(found: Found) -> None:
    """So that the table above is about the right one."""
    named = {each["values"]["name"] for each in found.values() if each["type"] == "aws_iam_role"}
    assert named == {f"tl-fif-image-{name}" for name in IMAGE_ROLES}


def wide(found: Found) -> set[str]:
    """Return the actions that are allowed whatever they are done to."""
    said = [each for _, statement in roles(found) for each in statement if "*" in many(each["Resource"])]
    return {action for each in said for action in many(each["Action"])}


def test_everything_is_allowed_only_where_there_is_nothing_narrower(found: Found) -> None:
    """As the table excuses, which excuses nothing that nobody needs any more."""
    assert wide(found) == IMAGE_EVERYWHERE.keys()


def ungoverned(found: Found) -> set[str]:
    """Return what may be done to machines and images that Image Builder did not make itself."""
    guarded = {
        *("ec2:CreateImage", "ec2:DeleteSnapshot", "ec2:DeregisterImage", "ec2:ModifyImageAttribute"),
        *("ec2:StartInstances", "ec2:StopInstances", "ec2:TerminateInstances"),
    }
    return {
        action
        for _, said in roles(found)
        for each in said
        for action in guarded.intersection(many(each["Action"]))
        if not any(
            key.endswith("Tag/CreatedBy") and value == "EC2 Image Builder"
            for key, value in each.get("Condition", {}).get("StringEquals", {}).items()
        )
    }


def test_image_builder_touches_what_it_made_itself(found: Found) -> None:
    """By the tag that it gives: the GPU's instances do not have it, nor have images of others."""
    assert ungoverned(found) == set()


def test_only_the_builder_s_role_is_handed_on(found: Found) -> None:
    """To EC2 alone: whoever could hand on another one could take any right."""
    passed = [each for _, said in roles(found) for each in said if "iam:PassRole" in many(each["Action"])]
    assert [(each["Resource"].rpartition("/")[2], each["Condition"]) for each in passed] == [
        ("tl-fif-image-builder", {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}})
    ]


def test_what_is_too_wide_is_found(found: Found) -> None:
    """The three looks at the policies can fail."""
    policy = found["aws_iam_role_policy.pipeline"]["values"]
    document = json.loads(policy["policy"])
    document["Statement"].append({"Effect": "Allow", "Action": "ec2:TerminateInstances", "Resource": "*"})
    policy["policy"] = json.dumps(document)
    assert ungoverned(found) == {"ec2:TerminateInstances"}
    assert wide(found) - IMAGE_EVERYWHERE.keys() == {"ec2:TerminateInstances"}


# What both roots have to agree on


def test_the_system_looks_where_the_image_is_published(found: Found) -> None:
    """The parameter of both roots is made of the name alone, in the same way."""
    (distribution,) = found["aws_imagebuilder_distribution_configuration.this"]["values"]["distribution"]
    assert [each["parameter_name"] for each in distribution["ssm_parameter_configuration"]] == [PARAMETER]
    line = 'ami_parameter = "/${var.name}/latest_ami_id"'
    assert all(line in (FOLDER / place / "main.tf").read_text(encoding="utf-8") for place in (".", IMAGE))


def test_the_disk_of_the_image_fits_on_the_gpu_s(plans: Plans, found: Found) -> None:
    """EC2 refuses a disk that is smaller than its snapshot."""
    (mapping,) = found["aws_imagebuilder_image_recipe.this"]["values"]["block_device_mapping"]
    baked = mapping["ebs"][0]["volume_size"]
    for profile in ("lean", "seed"):
        values = resources(plans[profile])["module.gpu.aws_instance.gpu[0]"]["values"]
        assert values["root_block_device"][0]["volume_size"] >= baked


def test_a_builder_is_no_gpu_of_the_system(plans: Plans, found: Found) -> None:
    """Whatever carries the GPU's tag is started and stopped, in the middle of a build too."""
    tag = plans["lean"]["variables"]["gpu_tag"]["value"]
    tags = found["aws_imagebuilder_infrastructure_configuration.this"]["values"]["resource_tags"]
    assert tag["name"] not in tags
    assert tags == {"project": "tl-fif"}


def test_the_two_networks_do_not_overlap(plans: Plans, found: Found) -> None:
    """They are not connected, and stay so that they could be."""
    system = resources(plans["lean"])["module.network.aws_vpc.this"]["values"]["cidr_block"]
    assert (system, found["aws_vpc.this"]["values"]["cidr_block"]) == ("10.20.0.0/22", "10.21.0.0/24")


# A change

RECIPE = "aws_imagebuilder_image_recipe.this"
PIPELINE = "aws_imagebuilder_image_pipeline.this"
NODE = 'aws_imagebuilder_component.this["node"]'


@pytest.fixture(scope="module")
def changed(deployments: dict[str, Deployment]) -> dict[str, list[str]]:
    """Apply another document and another archive; return what Terraform did, by address."""
    deployment = deployments[IMAGE]
    deployment.plan_again()  # before anything changes
    document = deployment.workspace.own("ami") / "components" / "node.yaml"
    document.write_text(document.read_text(encoding="utf-8") + "# another one\n", encoding="utf-8")
    deployment.workspace.archive.write_bytes(b"another archive")
    plan = deployment.workspace.plan(IMAGE)
    deployment.workspace.apply(IMAGE)
    actions = {each["address"]: each["change"]["actions"] for each in plan["resource_changes"]}
    return {address: done for address, done in actions.items() if done not in (["no-op"], ["read"])}


def test_a_change_is_one_apply(changed: dict[str, list[str]]) -> None:
    """The new component before the old one goes, recipe and pipeline the other way round, and nothing else but tags."""
    assert changed == {
        "aws_s3_object.archive": ["create", "delete"],
        NODE: ["create", "delete"],
        RECIPE: ["delete", "create"],
        PIPELINE: ["delete", "create"],
        "aws_imagebuilder_distribution_configuration.this": ["update"],
    }


def test_the_next_build_takes_what_is_new(changed: dict[str, list[str]], deployments: dict[str, Deployment]) -> None:
    """The pipeline's recipe, of the same version, names the new component and the new archive."""
    assert changed
    state = json.loads(deployments[IMAGE].workspace.run("show", "-json", within=IMAGE))
    now = {each["address"]: each["values"] for each in state["values"]["root_module"]["resources"]}
    assert now[PIPELINE]["image_recipe_arn"] == now[RECIPE]["arn"]
    assert now[RECIPE]["version"] == "1.0.0"
    (node,) = (each for each in now[RECIPE]["component"] if each["component_arn"] == now[NODE]["arn"])
    given = {each["name"]: each["value"] for each in node["parameter"]}
    assert given["Archive"].endswith(now["aws_s3_object.archive"]["key"])
    assert now[NODE]["data"].endswith("# another one\n")


def test_the_emulated_image_builder_refuses_what_the_real_one_does() -> None:
    """What is in use cannot be deleted, and what is there not be made again: the order of a change could be wrong."""
    builder = ImageBuilder()

    def call(method: str, path: str, query: dict[str, list[str]], body: dict[str, Any]) -> dict[str, Any]:
        return builder.answer("eu-central-1", method, path, query, body)

    recipe = {"name": "r", "semanticVersion": "1.0.0"}
    arn = call("PUT", "/CreateImageRecipe", {}, recipe)["imageRecipeArn"]
    call("PUT", "/CreateImagePipeline", {}, {"name": "p", "imageRecipeArn": arn})
    with pytest.raises(Refused, match="AlreadyExists"):
        call("PUT", "/CreateImageRecipe", {}, recipe)
    with pytest.raises(Refused, match="Dependency"):
        call("DELETE", "/DeleteImageRecipe", {"imageRecipeArn": [arn]}, {})
    with pytest.raises(Refused, match="NotFound"):
        call("PUT", "/CreateImagePipeline", {}, {"name": "q", "imageRecipeArn": arn.replace("1.0.0", "2.0.0")})


# The bucket


def test_the_bucket_is_nobody_else_s(found: Found) -> None:
    """Private, and by TLS alone."""
    block = found["aws_s3_bucket_public_access_block.image"]["values"]
    assert all(block[name] for name in block if name.startswith(("block_", "ignore_", "restrict_")))
    (denied,) = statements(found["aws_s3_bucket_policy.tls"]["values"]["policy"])
    assert (denied["Effect"], denied["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
