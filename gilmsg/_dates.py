"""From when to when a certificate or a CRL counts, and what is said of it before and after."""

import time
from typing import Any, NamedTuple, Optional

from .errors import ConfigurationError


class Span(NamedTuple):
    """The time for which something counts, in seconds since the epoch."""

    #: For people, with its file and settings.
    what: str
    begin: float
    #: None where there is no end.
    end: Optional[float]
    #: What to do once it has ended.
    remedy: str

    def require_current(self) -> None:
        """Raise ConfigurationError unless it counts now."""
        now = time.time()
        if self.end is not None and now > self.end:
            raise ConfigurationError("%s expired on %s; %s" % (self.what, _date(self.end), self.remedy))
        if now < self.begin:
            raise ConfigurationError("%s becomes valid only on %s" % (self.what, _date(self.begin)))

    def until(self) -> str:
        """Return its end, for people."""
        return "replaced (no end)" if self.end is None else _date(self.end)


def of_certificate(what: str, certificate: Any, remedy: str) -> Span:
    """Return when *certificate*, which is *what*, counts."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return Span(what, begin.timestamp(), end.timestamp(), remedy)


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
