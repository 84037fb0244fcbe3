"""Wakes the lifecycle workflow of a session that has come to its end."""

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError
from pydantic import BaseModel

from htcgrid_controlplane.rules.accounting import EndReason
from htcgrid_controlplane.rules.session import Session

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions.client import SFNClient

_MOVED_ON = frozenset({"TaskTimedOut", "TaskDoesNotExist", "InvalidToken"})


class WakeUp(BaseModel):
    """What the waiting step of the workflow gets as its output."""

    reason: EndReason


class Waker:
    """Hands task tokens back to Step Functions."""

    def __init__(self, client: "SFNClient") -> None:
        self._client = client

    def wake(self, session: Session) -> bool:
        """Wake the workflow if the session may end and its token is known. Repeating it changes nothing.

        Whoever makes the session's row say both, its end and its token, sees them together in the answer to that
        write, so one of the two always calls this in time, in whichever order they come.
        """
        reason = session.end_reason
        if reason is None or not session.task_token:
            return False
        try:
            self._client.send_task_success(taskToken=session.task_token, output=WakeUp(reason=reason).model_dump_json())
        except ClientError as error:
            if error.response["Error"]["Code"] not in _MOVED_ON:
                raise
            return False
        return True
