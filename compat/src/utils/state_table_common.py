"""The names of the states of a task in the first HTC-Grid, which are keys of what `get_results` gives."""

TASK_STATE_PENDING = "pending"
TASK_STATE_PROCESSING = "processing"
TASK_STATE_FINISHED = "finished"
TASK_STATE_FAILED = "failed"
TASK_STATE_CANCELLED = "cancelled"
