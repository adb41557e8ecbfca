"""An outbox on a running bus, as the tests of delivery have it."""

from ...test_outbox_delivery import box, config

__all__ = ["box", "config"]
