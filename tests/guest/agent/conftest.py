"""An image of BusyBox, and an agent that many tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest.agent.harness import Shared, make_image, shared_agent
from tests.privileges import require_root


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_root("namespaces and mounts")
    return make_image(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="session")
def box(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with shared_agent(tmp_path_factory.mktemp("agent"), image) as shared:
        yield shared
