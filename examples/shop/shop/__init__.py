"""A shop: carts and prices."""
