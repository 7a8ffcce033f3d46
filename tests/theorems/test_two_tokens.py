"""The two tokens on which the page of notation shows its symbols at work."""

import numpy as np
import pytest
from scipy.special import softmax

from tempscale import dc, filter_rate, hc


@pytest.mark.parametrize(
    ("temperature", "second_row", "out", "rate"),
    [(1, [1 / 4, 3 / 4], 3 / 2, 1 / 4), (1 / 2, [1 / 10, 9 / 10], 6 / 5, 2 / 5)],
)
def test_the_example_of_the_notation(temperature, second_row, out, rate):
    x = np.array([[3.0], [1.0]])
    logits = np.array([[0, 0], [0, np.log(3)]])
    attention = softmax(logits / temperature, axis=-1)
    assert np.allclose(attention, [[1 / 2, 1 / 2], second_row])
    assert np.allclose(dc(x).T, [2, 2])
    assert np.allclose(hc(x).T, [1, -1])
    assert np.allclose((attention @ x).T, [2, out])
    assert np.allclose(hc(attention @ x).T, [rate, -rate])
    assert np.isclose(filter_rate(attention), rate)


def test_colder_can_be_lower_with_two_tokens():
    def rate(temperature):
        first, second = (1 / (1 + np.exp(-difference / temperature)) for difference in (2, 1))
        found = filter_rate(softmax(np.array([[2.0, 0], [1, 0]]) / temperature, axis=-1))
        assert np.isclose(found, abs(first - second))
        return found

    assert np.round(rate(1), 3) == 0.150
    assert np.round(rate(1 / 2), 3) == 0.101
