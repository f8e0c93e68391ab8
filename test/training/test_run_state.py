"""What differs between two runs is named."""

from sparseoccvla_ros.training.run_state import differences


def test_differences_are_named_with_both_values_at_any_depth():
    found = {'a': 1, 'b': {'c': (1, 2), 'd': 'x'}, 'e': None}
    assert differences(found, {'a': 1, 'b': {'c': [1, 2], 'd': 'x'}, 'e': None}) == []
    assert differences(found, {'a': 2, 'b': {'c': [1, 3], 'd': 'x'}, 'f': 0}) == [
        'a: expected 2, found 1',
        'b.c: expected [1, 3], found (1, 2)',
        'f: expected 0, found None',
    ]
