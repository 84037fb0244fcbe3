"""The use cases: each combines rules, storage and outbound calls. The Lambda functions call these."""
