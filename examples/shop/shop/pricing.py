"""What an order costs: discounts by amount, by code and by membership, and shipping."""

FREE_SHIPPING_FROM = 5_000
SHIPPING = {"standard": 490, "express": 1_290}
CODES = {"WELCOME10": 10, "SUMMER25": 25}


def bulk_discount(subtotal: int) -> int:
    """Return the discount in percent that an amount in cents earns."""
    if subtotal < 0:
        raise ValueError("a subtotal cannot be negative")
    if subtotal >= 20_000:
        return 10
    if subtotal >= 10_000:
        return 5
    return 0


def code_discount(code: str | None) -> int:
    """Return the discount in percent of a code, which may be written in any case."""
    if not code:
        return 0
    try:
        return CODES[code.strip().upper()]
    except KeyError:
        raise ValueError(f"unknown code {code!r}") from None


def shipping(amount: int, method: str = "standard") -> int:
    """Return the shipping in cents; standard shipping is free from FREE_SHIPPING_FROM on."""
    if method not in SHIPPING:
        raise ValueError(f"unknown method {method!r}, expected one of {', '.join(SHIPPING)}")
    if method == "standard" and amount >= FREE_SHIPPING_FROM:
        return 0
    return SHIPPING[method]


def total(subtotal: int, *, code: str | None = None, member: bool = False, method: str = "standard") -> int:
    """Return what an order costs in cents: the better of the two discounts, two points more for members."""
    percent = max(bulk_discount(subtotal), code_discount(code))
    if member:
        percent = min(percent + 2, 30)
    discounted = subtotal - subtotal * percent // 100
    return discounted + shipping(discounted, method)
