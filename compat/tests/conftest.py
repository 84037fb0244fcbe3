import warnings
from collections.abc import Iterator

import pytest
from compat.tests.first_grid import config_of
from connector.tests.stub_grid import PASSWORD, USER, StubGrid

from api.connector import AWSConnector


@pytest.fixture
def stub() -> Iterator[StubGrid]:
    """A grid that runs tasks only when it is told to."""
    with StubGrid() as stub:
        yield stub


@pytest.fixture
def connector(stub: StubGrid) -> Iterator[AWSConnector]:
    """The client of one user, signed in."""
    connector = AWSConnector()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        connector.init(config_of(stub), username=USER, password=PASSWORD)
    connector.authenticate()
    yield connector
    connector.close()
