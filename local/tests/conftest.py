"""A small application to deploy, and an agent that only waits, so that these tests need nothing but the local grid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from local.tests.recording_proxy import RecordingProxy

from htcgrid_local import LocalGrid, Project, find_project

_TEMPLATE = """
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Parameters:
  ExecuteApiBase: {Type: String}
  EventArchiveDays: {Type: Number}
  RetainData: {Type: String}
  TracingMode: {Type: String}
  AgentTrustedPrincipal: {Type: String}
Resources:
  Queue: {Type: AWS::SQS::Queue}
  Bucket: {Type: AWS::S3::Bucket}
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
  Pool:
    Type: AWS::Cognito::UserPool
    Properties: {Policies: {PasswordPolicy: {MinimumLength: 20, RequireSymbols: true, RequireNumbers: true}}}
  Client:
    Type: AWS::Cognito::UserPoolClient
    Properties: {UserPoolId: !Ref Pool, ExplicitAuthFlows: [ALLOW_USER_PASSWORD_AUTH, ALLOW_REFRESH_TOKEN_AUTH]}
  AgentRole:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement:
          - {Effect: Allow, Principal: {AWS: !Sub "arn:aws:iam::${AWS::AccountId}:root"}, Action: sts:AssumeRole}
Outputs:
  ApiUrl: {Value: !Sub "${ExecuteApiBase}/api"}
  PushUrl: {Value: !Sub "${ExecuteApiBase}/push"}
  UserPoolId: {Value: !Ref Pool}
  UserPoolClientId: {Value: !Ref Client}
  ChunksTable: {Value: !Ref Table}
  PartitionsTable: {Value: !Ref Table}
  TaskQueueHighUrl: {Value: !Ref Queue}
  TaskQueueNormalUrl: {Value: !Ref Queue}
  TaskQueueLowUrl: {Value: !Ref Queue}
  TaskEventsQueueUrl: {Value: !Ref Queue}
  DataBucket: {Value: !Ref Bucket}
  AgentRoleArn: {Value: !GetAtt AgentRole.Arn}
"""

_AGENT = """
import os, subprocess, sys, time
import boto3
if "--check" in sys.argv:
    sys.exit()
print(os.environ["HTCGRID_AGENT_ID"], boto3.client("sts").get_caller_identity()["Arn"], flush=True)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("running", open(os.environ["HTCGRID_FUNCTION_DIR"] + "/handler.py").read().encode(), flush=True)
print("the agent is up", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A checkout with a small template, sharing the tools of the real one."""
    real = find_project()
    root = tmp_path_factory.mktemp("project")
    (root / "template.yaml").write_text(_TEMPLATE)
    for shared in ("samconfig.toml", ".tools", "requirements"):
        (root / shared).symlink_to(real.root / shared)
    return Project(root)


@pytest.fixture(scope="session")
def function(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a function that agents could run."""
    folder = tmp_path_factory.mktemp("function")
    (folder / "handler.py").write_text("def handler(event, context):\n    return event\n")
    return folder


@pytest.fixture(scope="session")
def waiting_agent(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment under which `python -m htcgrid_agent` says who it is, starts a worker and waits."""
    folder = tmp_path_factory.mktemp("agent")
    (folder / "htcgrid_agent").mkdir()
    (folder / "htcgrid_agent/__init__.py").touch()
    (folder / "htcgrid_agent/__main__.py").write_text(_AGENT)
    return {"PYTHONPATH": str(folder)}


@pytest.fixture(scope="module")
def proxy() -> Iterator[RecordingProxy]:
    """A proxy that the environment names for everything, so that a request on the loopback which takes it is seen."""
    with RecordingProxy() as proxy, pytest.MonkeyPatch.context() as patch:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            patch.setenv(name, proxy.url)
            patch.setenv(name.lower(), proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            patch.delenv(name, raising=False)
        yield proxy


@pytest.fixture(scope="module")
def grid(
    project: Project,
    function: Path,
    waiting_agent: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    proxy: RecordingProxy,
) -> Iterator[LocalGrid]:
    """A running grid of the small application, with two agents, on a machine with a proxy."""
    home = tmp_path_factory.mktemp("home")
    with LocalGrid(home, function=function, agents=2, environment=waiting_agent, project=project) as grid:
        yield grid
