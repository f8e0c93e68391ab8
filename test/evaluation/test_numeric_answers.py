"""Values in free text, and their scores worked by hand."""

import pytest

from sparseoccvla_ros.data.qa.pairs import QAPair
from sparseoccvla_ros.evaluation.numeric_answers import (
    count_in,
    distance_in_m,
    numeric_answers,
    positions_in_m,
    score_numeric,
    type_of,
)


def pair(question, answer):
    return QAPair('s', '', 'conv', question, answer, 'omnidrive')


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('3 cars.', 3),
        ('There are Two pedestrians and a dog.', 2),
        ('1 car within 10 m.', 1),
        ('Within 15 metres there are four cones.', 4),
        ('At (12.3, -3.1) there are 2 cars.', 2),
        ('No cars are visible.', 0),
        ('None.', 0),
        ('12', 12),
        ('Many cars.', None),
        ('3.5 cars', None),
        ('someone', None),
        ('', None),
    ],
)
def test_counts(text, value):
    assert count_in(text) == value


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('The red car is 8.2 m away.', 8.2),
        ('It is about 10 meters ahead of 2 cones.', 10.0),
        ('a 12-metre gap', 12.0),
        ('It drives at 8 m/s, 12 m away.', 12.0),
        ('3-5 m', 5.0),
        ('7.5', 7.5),
        ('Approximately 7.5.', 7.5),
        ('2 or 3', None),
        ('far away', None),
        ('5 mph', 5.0),
        ('5 minutes', 5.0),
    ],
)
def test_distances(text, value):
    """Without a metre the only number counts, whatever stands behind it."""
    assert distance_in_m(text) == value


def test_positions():
    assert positions_in_m('The car is at (12.3, -3.1).') == [(12.3, -3.1)]
    assert positions_in_m('(+1.0,2) and ( -3 , 4.5, 0.2 )') == [(1.0, 2.0), (-3.0, 4.5)]
    assert positions_in_m('12.3, -3.1 and (5)') == []


@pytest.mark.parametrize(
    ('question', 'answer', 'kind'),
    [
        ('How many cars are visible within 10 m?', '2 cars.', 'count'),
        ('What is the number of visible buses?', 'There is one bus.', 'count'),
        ('How many cars are there?', 'Several.', None),
        ('How far away is the red car?', 'The red car is 8.2 m away.', 'distance'),
        ('How many metres away is the bus?', 'The bus is 8.2 m away.', 'distance'),
        ('How far forward of the bus is the car?', 'The car is 3.0 m farther forward.', None),
        ('Where is the bus?', 'The bus is at (4.0, 1.5).', 'position'),
        ('Which coordinates does the bus have?', 'The bus is at (4.0, 1.5).', 'position'),
        ('What is at (4.0, 1.5)?', 'A bus.', None),
        ('Where does the bus at (4.0, 1.5) stand?', 'The bus at (4.0, 1.5) is on the road.', None),
        ('What should you do?', 'Stop, because the bus at (4.0, 1.5) is ahead of you.', None),
        ('Where will you be?', '[PT, (1.0, 0.0), (2.0, 0.0)].', None),
    ],
)
def test_what_a_question_asks_for(question, answer, kind):
    assert type_of(pair(question, answer)) == kind


def test_scores_by_hand():
    cases = [
        ('How many cars?', '2 cars.', 'two'),
        ('How many cars?', '2 cars.', '5 cars'),
        ('How many cars?', '2 cars.', 'a lot'),
        ('How many cars?', '2 cars.', ''),
        ('How far is it?', 'It is 20.0 m away.', '21.5 m'),
        ('How far is it?', 'It is 5.0 m away.', 'about 6 m'),
        ('How far is it?', 'It is 8.0 m away.', 'far'),
        ('Where is it?', 'It is at (10.0, 0.0).', 'At (11.2, -1.6).'),
        ('Where is it?', 'It is at (10.0, 0.0).', 'At (10.0, 2.1).'),
        ('Where is it?', 'It is at (10.0, 0.0).', 'over there'),
        ('Why?', 'So.', 'So.'),
    ]
    pairs = [pair(question, truth) for question, truth, _ in cases]
    found = score_numeric(numeric_answers(pairs, [answer for *_, answer in cases]))
    assert list(found) == ['count', 'distance', 'position']
    count, distance, position = found.values()
    assert (count.questions, count.without_value, count.shares) == (4, 2, {'exact': 0.25})
    assert count.mean_error == pytest.approx(1.5)
    assert (distance.questions, distance.without_value) == (3, 1)
    assert distance.shares == pytest.approx({'within_10_percent': 1 / 3, 'within_1_m': 1 / 3})
    assert distance.mean_error == pytest.approx(1.25)
    assert (position.questions, position.without_value) == (3, 1)
    assert position.shares == pytest.approx({'within_2_m': 1 / 3})  # 1.2 and 1.6 are 2.0 m
    assert position.mean_error == pytest.approx((2.0 + 2.1) / 2)


def test_no_value_at_all():
    (score,) = score_numeric(numeric_answers([pair('How many?', 'Two.')], [''])).values()
    assert (score.shares, score.mean_error) == ({'exact': 0.0}, None)
    assert score_numeric(numeric_answers([pair('Why?', 'So.')], [''])) == {}
