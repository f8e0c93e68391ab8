import threading

from sparseoccvla_ros.nodes.worker import LatestWorker


def test_the_newest_waiting_item_wins_and_the_replaced_one_is_told():
    begun, go, done, replaced = threading.Event(), threading.Event(), [], []
    finished = threading.Event()

    def work(item):
        begun.set()
        assert go.wait(5.0)
        done.append(item)
        if item == 4:
            finished.set()

    worker = LatestWorker('test', work, replaced.append, lambda item, error: None)
    worker.put(1)
    assert begun.wait(5.0)
    for item in (2, 3, 4):
        worker.put(item)
    go.set()
    assert finished.wait(5.0)
    worker.close()
    assert done == [1, 4]
    assert replaced == [2, 3]


def test_an_error_reaches_the_node_and_the_next_item_is_worked_on():
    errors, finished, failed = [], threading.Event(), threading.Event()

    def work(item):
        if item == 'bad':
            raise ArithmeticError('not finite')
        finished.set()

    def on_error(item, error):
        errors.append((item, str(error)))
        failed.set()

    worker = LatestWorker('test', work, lambda item: None, on_error)
    worker.put('bad')
    assert failed.wait(5.0)
    worker.put('good')
    assert finished.wait(5.0)
    worker.close()
    assert errors == [('bad', 'not finite')]


def test_close_waits_for_the_item_at_work():
    begun, go, done = threading.Event(), threading.Event(), []

    def work(item):
        begun.set()
        assert go.wait(5.0)
        done.append(item)

    worker = LatestWorker('test', work, lambda item: None, lambda item, error: None)
    worker.put(1)
    assert begun.wait(5.0)
    threading.Timer(0.05, go.set).start()
    worker.close()
    assert done == [1]
