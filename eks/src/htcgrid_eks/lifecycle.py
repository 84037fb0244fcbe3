"""The lifecycle action by which an Auto Scaling group waits for us before it ends an instance."""

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient

_LOG = logging.getLogger(__name__)
_EVERY: Final = timedelta(seconds=60)
"""A heartbeat timeout may be as short as 30 s, but none that is used for draining is below two minutes."""
_OVER: Final = "ValidationError"
"""What Auto Scaling answers for an action that has ended meanwhile."""


class LifecycleAction(BaseModel):
    """One wait for one instance, as the detail of an event names it."""

    model_config = ConfigDict(frozen=True)

    group: str = Field(alias="AutoScalingGroupName")
    hook: str = Field(alias="LifecycleHookName")
    instance: str = Field(alias="EC2InstanceId")
    token: str = Field(alias="LifecycleActionToken")


class Lifecycle:
    """Extends and completes lifecycle actions."""

    def __init__(self, client: "AutoScalingClient") -> None:
        self._client = client
        self._beats: dict[str, datetime] = {}

    def extend(self, action: LifecycleAction, now: datetime) -> None:
        """Have the group wait longer. Call it as often as you like: a request is made once a minute."""
        if now - self._beats.get(action.token, now - _EVERY) < _EVERY:
            return
        self._beats[action.token] = now
        try:
            self._client.record_lifecycle_action_heartbeat(
                AutoScalingGroupName=action.group,
                LifecycleHookName=action.hook,
                LifecycleActionToken=action.token,
                InstanceId=action.instance,
            )
        except (ClientError, BotoCoreError) as error:
            # The drain is what matters; the next heartbeat comes in a minute.
            _LOG.warning("the wait for instance %s could not be extended: %s", action.instance, error)

    def complete(self, action: LifecycleAction) -> None:
        """Let the group end the instance.

        Raises:
            ClientError: it was refused, for another reason than that the action is over.
            BotoCoreError: Auto Scaling cannot be reached.
        """
        self._beats.pop(action.token, None)
        try:
            self._client.complete_lifecycle_action(
                AutoScalingGroupName=action.group,
                LifecycleHookName=action.hook,
                LifecycleActionToken=action.token,
                InstanceId=action.instance,
                LifecycleActionResult="CONTINUE",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != _OVER:
                raise
            _LOG.info("the wait for instance %s is over already", action.instance)
