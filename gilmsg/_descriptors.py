"""Whether this process may open as many files as its sockets need."""

import resource
from typing import Optional

from .errors import ConfigurationError

#: What a process has open besides.
_ELSE = 128


def require(endpoints: int, each: int, wished: Optional[int] = None) -> None:
    """See to it that *endpoints* can be connected to, with *each* so many descriptors, or better *wished*.

    Past the limit of open files everything fails that opens one, in ways that nobody understands. A
    soft limit is raised, but only where it is too low: ``select()`` in the user's code ends at 1,024.

    Raises:
        ConfigurationError: the hard limit does not allow *each*.
    """
    needed = endpoints * each + _ELSE
    enough = endpoints * (wished or each) + _ELSE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= enough:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigurationError(
            "%d endpoints need about %d open files, the limit is %d; raise it (ulimit -n %d)"
            % (endpoints, needed, hard, needed)
        )
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (enough if hard == resource.RLIM_INFINITY else min(enough, hard), hard)
    )
