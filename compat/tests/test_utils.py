"""The helper package of the first HTC-Grid."""

import logging

import pytest

from utils.grid_error_logger import log
from utils.mock_compute_engine_job_wrapper import MockComputeEngineJobWrapper
from utils.performance_tracker import EventsCounter, performance_tracker_initializer
from utils.state_table_common import TASK_STATE_CANCELLED, TASK_STATE_FAILED, TASK_STATE_FINISHED


def test_jobs_of_the_mock_compute_engine() -> None:
    wrapper = MockComputeEngineJobWrapper("1000 1 100", 3, None)
    assert wrapper.generate_binary_job() == [{"worker_arguments": ["1000", "1", "100"]}] * 3
    assert wrapper.verify_results("1000\n") == (True, "")
    assert wrapper.verify_results('"1000"') == (True, "")
    assert wrapper.verify_results("999") == (False, "Expected: [1000] != Received [999]")
    with pytest.raises(ValueError, match="worker_arguments='soon' must begin with milliseconds"):
        MockComputeEngineJobWrapper("soon", 1).generate_binary_job()


def test_errors_go_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    log("no such curve", "group", "stream")
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(logging.ERROR, "no such curve")]


def test_times_and_counters_go_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "utils.performance_tracker")
    counter = EventsCounter(["sent", "str_note"])
    counter.increment("sent")
    counter.increment("sent", 2)
    counter.set("str_note", "late")
    stats = {
        f"stage{number}": {"label": f"label{number}", "tstmp": stamp} for number, stamp in enumerate([5, 12, 30, 99])
    }
    tracker = performance_tracker_initializer("1", "influxdb 8086", "10.0.0.1")
    tracker.add_metric_sample(stats, counter, from_event="stage0", to_event="stage2")
    tracker.submit_measurements()
    assert [record.getMessage() for record in caplog.records] == [
        "performance sample: {'label1': 7, 'label2': 18, 'sent': 3, 'str_note': 'late'}"
    ]
    assert (counter.get_counter("sent"), counter.get_counter("str_note"), counter.get_counter("other")) == (0, "", 0)


def test_the_states_are_the_keys_of_results() -> None:
    assert (TASK_STATE_FINISHED, TASK_STATE_FAILED, TASK_STATE_CANCELLED) == ("finished", "failed", "cancelled")
