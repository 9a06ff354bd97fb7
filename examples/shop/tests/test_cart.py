import pytest
from shop.cart import Cart


def test_adding_counts_pieces():
    cart = Cart()
    cart.add("pen", 2)
    cart.add("pen")
    assert cart.size() == 3


def test_a_count_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        Cart().add("pen", 0)
