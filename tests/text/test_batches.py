"""Batches: contiguous streams, each symbol used once, a clear word when the text is short."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnlm.errors import DataError
from rnnlm.text.batches import Streams


@given(n=st.integers(2, 300), batch=st.integers(1, 20), window=st.integers(1, 40) | st.none())
def test_windows_cover_every_stream_once_in_order(n: int, batch: int, window: int | None) -> None:
    """Stream b is a contiguous stretch; targets are the next characters; at most B-1 are left out."""
    ids = np.arange(n, dtype=np.uint16)
    try:
        windows = Streams(ids, batch, window)
    except DataError:
        assert (n - 1) // batch < (window or 1)
        return
    batches = [windows(0, k) for k in range(len(windows))]
    x = np.concatenate([batch.ids for batch in batches])
    y = np.concatenate([batch.targets for batch in batches])
    length = (n - 1) // batch
    for b in range(batch):
        assert x[:, b].tolist() == list(range(b * length, (b + 1) * length))
    assert (y == x + 1).all()
    assert windows.left_out == n - 1 - length * batch <= batch - 1
    assert all(len(batch.ids) == windows.seq_length for batch in batches[:-1])
    assert 1 <= len(batches[-1].ids) <= windows.seq_length
    assert all(batch.counted == batch.ids.size for batch in batches)


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_texts_begin_where_an_epoch_begins_and_nowhere_else(epoch: int) -> None:
    """Every stream is fresh before the first step of an epoch, and is carried through all others."""
    streams = Streams(np.arange(100), 4, 7)
    assert len(streams) == 4
    for k in range(len(streams)):
        batch = streams(epoch, k)
        fresh = np.zeros(batch.ids.shape) if batch.fresh is None else batch.fresh
        assert fresh[0].tolist() == [k == 0] * 4
        assert not fresh[1:].any()


@pytest.mark.parametrize(
    ("n", "batch", "window"), [(100, 10, 10), (100, 100, 1), (5, 1, 9), (1, 1, 1)]
)
def test_the_largest_batch_and_window_that_fit_are_named_and_do_fit(
    n: int, batch: int, window: int
) -> None:
    """Following the error's advice works."""
    ids = np.zeros(n, np.uint8)
    with pytest.raises(DataError) as caught:
        Streams(ids, batch, window)
    said = str(caught.value)
    if "batch_size at most " in said:
        largest = int(said.split("batch_size at most ")[1].split()[0])
        Streams(ids, largest, window)
        with pytest.raises(DataError):
            Streams(ids, largest + 1, window)
    if "seq_length at most " in said:
        largest = int(said.split("seq_length at most ")[1].split()[0])
        Streams(ids, batch, largest)
        with pytest.raises(DataError):
            Streams(ids, batch, largest + 1)
