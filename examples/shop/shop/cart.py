"""A cart that counts articles."""


class Cart:
    """Articles and how many of each."""

    def __init__(self) -> None:
        self.articles: dict[str, int] = {}

    def add(self, article: str, count: int = 1) -> None:
        """Put `count` pieces of an article into the cart."""
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        self.articles[article] = self.articles.get(article, 0) + count

    def size(self) -> int:
        """Return the number of pieces in the cart."""
        return sum(self.articles.values())
