import sys

import numpy as np
import pytest

from mer_jax.runtime.scalars import Scalars


def test_nothing_is_written_unasked(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    Scalars().write("loss", [[1.0]])


def test_means_over_networks_by_step(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    scalars = Scalars(tmp_path / "curves")
    scalars.write("prompts/loss", np.array([[1.0, 2.0], [3.0, 6.0]]), first_step=5)
    scalars.write("prompts/WAF", np.zeros((2, 0)))
    (file,) = (tmp_path / "curves").iterdir()
    content, values = file.read_bytes(), []
    while content:  # length, its checksum, event, its checksum
        length = int.from_bytes(content[:8], "little")
        event, content = content[12 : 12 + length], content[16 + length :]
        parsed = Event.FromString(event)
        values += [(parsed.step, value.tag, value.simple_value) for value in parsed.summary.value]
    assert values == [(5, "prompts/loss", 2.0), (6, "prompts/loss", 4.0)]
    scalars.close()
