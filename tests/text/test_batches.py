"""Batches: contiguous streams, each symbol used once, a clear word when the text is short."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlm.errors import DataError
from rnnlm.text.batches import Batches, Lines, Streams, Variation


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
    assert windows.left_out(0) == n - 1 - length * batch <= batch - 1
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


def read_once(windows: Batches, epoch: int) -> tuple[list[int], np.ndarray, np.ndarray]:
    """The lengths of the windows of an epoch, and all its ids and marks (L, B)."""
    batches = [windows(epoch, k) for k in range(len(windows))]
    marks = [np.zeros(b.ids.shape) if b.fresh is None else b.fresh for b in batches]
    assert all((b.targets == b.ids + 1).all() for b in batches)
    return (
        [len(b.ids) for b in batches],
        np.concatenate([b.ids for b in batches]),
        np.concatenate(marks),
    )


@settings(max_examples=25)
@given(n=st.integers(40, 400), window=st.integers(1, 40), share=st.sampled_from([0.2, 0.5, 0.99]))
def test_windows_of_many_lengths_read_every_symbol_once(n: int, window: int, share: float) -> None:
    """As many windows as otherwise, within the limits, of few lengths; others in another epoch."""
    ids, batch = np.arange(n, dtype=np.uint16), 1 + n // 100
    try:
        plain = Streams(ids, batch, window)
    except DataError:
        return
    windows = Streams(ids, batch, window, 7, Variation(lengths=share))
    lengths, x, fresh = read_once(windows, 2)
    np.testing.assert_array_equal(x, read_once(plain, 2)[1])
    np.testing.assert_array_equal(fresh, read_once(plain, 2)[2])
    assert len(windows) == len(plain)
    assert 1 <= min(lengths) <= max(lengths) <= windows.longest <= max(window + 4, 2 * window)
    assert min(lengths[:-1], default=window) >= min(window, window - round(share * window) - 4)
    assert len({*lengths}) <= 10
    if window > 8 and len(windows) > 20:
        assert lengths != read_once(windows, 3)[0]
        assert len({*lengths}) > 3


def test_lines_in_windows_of_many_lengths_are_the_same_lines() -> None:
    """In the order of the epoch, whatever the windows."""
    ids = np.array([[i, 0] for i in range(1, 100)], np.uint8).ravel()
    plain, varied = Lines(ids, 0, 4, 8, 3), Lines(ids, 0, 4, 8, 3, Variation(lengths=0.5))
    assert lines_of(varied, 1) == lines_of(plain, 1)
    assert len({len(varied(1, k).ids) for k in range(len(varied))}) > 2


def test_streams_that_begin_elsewhere_read_a_circle_once() -> None:
    """Each symbol once; the state is zeroed at the first step, and where the text begins."""
    windows = Streams(np.arange(103), 4, 6, 5, Variation(offset=True))
    begins = set()
    for epoch in range(6):
        _, x, fresh = read_once(windows, epoch)
        assert sorted(x.ravel()) == list(range(100))
        assert (np.diff(x, axis=0) % 100 == 1).all()
        assert (np.diff(x[0]) == 25).all()
        np.testing.assert_array_equal(fresh, (np.arange(25)[:, None] == 0) | (x == 0))
        begins.add(int(x[0, 0]))
    assert len(begins) > 3
    assert windows.begins_inside


def test_states_are_dropped_as_often_as_asked_for() -> None:
    """Each stream by itself, before the first step of a window, the same ones whenever it is read."""
    windows = Streams(np.arange(50_003), 50, 4, 9, Variation(reset=0.1))
    _, x, fresh = read_once(windows, 1)
    np.testing.assert_array_equal(x, read_once(Streams(np.arange(50_003), 50, 4), 0)[1])
    assert fresh[0].all() and not fresh[np.arange(len(fresh)) % 4 != 0].any()
    dropped = fresh[4::4]
    assert abs(dropped.mean() - 0.1) < 4 * np.sqrt(0.1 * 0.9 / dropped.size)
    assert abs(np.corrcoef(dropped[:, 0], dropped[:, 1])[0, 1]) < 0.25
    np.testing.assert_array_equal(fresh, read_once(windows, 1)[2])
    assert (fresh != read_once(windows, 2)[2]).any()


def lines_of(batches: Lines, epoch: int) -> list[list[int]]:
    """The texts that the streams read in an epoch, each as the targets that count."""
    found: list[list[int]] = []
    windows = [batches(epoch, k) for k in range(len(batches))]
    for b in range(batches.streams):
        for window in windows:
            assert window.fresh is not None
            for i, target, fresh in zip(
                window.ids[:, b], window.targets[:, b], window.fresh[:, b], strict=True
            ):
                if fresh:
                    assert i == 0, "a line's start symbol is the newline"
                    found.append([])
                if target >= 0:
                    assert fresh or found[-1][-1] == i, "the input is the symbol before the target"
                    found[-1].append(int(target))
    return found


texts = st.lists(st.lists(st.integers(1, 3), max_size=6), min_size=1, max_size=20)


@settings(max_examples=40)
@given(lines=texts, streams=st.integers(1, 9), window=st.integers(1, 12), ended=st.booleans())
def test_unshuffled_streams_hold_every_line_once(
    lines: list[list[int]], streams: int, window: int, ended: bool
) -> None:
    """In order and whole, whatever the number of streams and the window; the last newline is added."""
    whole = [[*line, 0] for line in lines]
    ids = np.array([i for line in whole for i in line], np.uint8)
    read = ids if ended or len(whole[-1]) == 1 else ids[:-1]
    batches = Lines(read, 0, streams, window, None)
    assert lines_of(batches, 0) == whole
    for k in range(len(batches)):
        assert batches(0, k).ids.shape == (window, streams)


@settings(max_examples=40)
@given(lines=texts, streams=st.integers(1, 9), window=st.integers(1, 12), epoch=st.integers(0, 3))
def test_shuffled_streams_hold_every_line_once_but_for_what_a_cut_leaves_out(
    lines: list[list[int]], streams: int, window: int, epoch: int
) -> None:
    """Streams are cut inside lines; the first part of such a line counts, the rest does not."""
    whole = [[*line, 0] for line in lines]
    ids = np.array([i for line in whole for i in line], np.uint8)
    if len(ids) < streams:
        return
    batches = Lines(ids, 0, streams, window, seed=5)
    read = lines_of(batches, epoch)
    rest = sorted(whole)
    cut = []
    for line in read:
        if line in rest:
            rest.remove(line)
        else:
            cut.append(line)
    assert len(cut) <= streams
    assert all(any(line == other[: len(line)] for other in rest) for line in cut)
    assert len(rest) <= streams + len(cut)
    assert read == lines_of(Lines(ids, 0, streams, window, seed=5), epoch)


def test_every_epoch_has_an_order_of_its_own() -> None:
    """From the seed and the epoch alone."""
    ids = np.array([[i, 0] for i in range(1, 40)], np.uint8).ravel()
    batches = Lines(ids, 0, 1, 10, seed=3)
    orders = [[line[0] for line in lines_of(batches, epoch)] for epoch in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(1, 40))
