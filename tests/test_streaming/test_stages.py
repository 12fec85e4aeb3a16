import threading
import time

import pytest

from mmseg_uhr.streaming import WriteBehind, prefetch


def test_prefetch_keeps_order_and_errors():
    assert list(prefetch(range(5))) == list(range(5))
    assert list(prefetch([])) == []

    def broken():
        yield 1
        raise OSError('disk gone')

    items = prefetch(broken())
    assert next(items) == 1
    with pytest.raises(OSError, match='disk gone'):
        next(items)


def test_prefetch_stays_a_few_items_ahead():
    made = []

    def items():
        for i in range(100):
            made.append(i)
            yield i

    ahead = prefetch(items(), depth=3)
    next(ahead)
    time.sleep(0.1)
    assert len(made) == 4
    ahead.close()
    assert len(made) == 4


def test_writes_happen_in_order_in_another_thread():
    done = []

    def write(i):
        time.sleep(0.001)
        done.append((i, threading.current_thread().name))

    with WriteBehind() as stage:
        for i in range(20):
            stage.call(write, i)
            # Bounded: the caller does not run away.
            assert i - len(done) <= 4
    assert [i for i, _ in done] == list(range(20))
    assert threading.current_thread().name not in {name for _, name in done}


def test_a_failing_write_ends_the_run_with_its_own_error():
    done = []

    def write(i):
        if i == 3:
            raise OSError('disk full')
        done.append(i)

    def run():
        with WriteBehind() as stage:
            for i in range(1000):
                stage.call(write, i)
                time.sleep(0.0001)

    with pytest.raises(OSError, match='disk full'):
        run()
    assert done == [0, 1, 2]


def test_the_last_write_fails():
    def write():
        raise OSError('disk full')

    with pytest.raises(OSError, match='disk full'):
        with WriteBehind() as stage:
            stage.call(write)


def test_finished_work_is_written_when_the_caller_fails():
    done = []

    def run():
        with WriteBehind() as stage:
            stage.call(done.append, 1)
            raise KeyError('model')

    with pytest.raises(KeyError, match='model'):
        run()
    assert done == [1]
