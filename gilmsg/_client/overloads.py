"""The types of ``publish`` and its kin, for type checkers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Callable, Optional, Protocol, TypeVar, Union, overload

Named = Union[str, Iterable[str]]
Recipients = Optional[Named]
Hook = Optional[Callable[[dict[str, Any]], Any]]

Confirmed_co = TypeVar("Confirmed_co", covariant=True)
Unknown_co = TypeVar("Unknown_co", covariant=True)
Plain_co = TypeVar("Plain_co", covariant=True)


class Publish(Protocol[Confirmed_co, Unknown_co, Plain_co]):
    """What type checkers take ``gilmsg.publish`` and ``publish_async`` for: who names recipients gets a Receipt."""

    @overload
    def __call__(
        self, topic: str | None = ..., msg: Any = ..., modname: str | None = ..., *, recipients: tuple[()],
        ack_timeout: float | None = ..., pre_fire_hook: Hook = ...,
        fail_fast: bool | None = ..., **config: Any,
    ) -> Plain_co: ...
    @overload  # those of the configuration, if any
    def __call__(
        self, topic: str | None = ..., msg: Any = ..., modname: str | None = ..., recipients: None = ...,
        ack_timeout: float | None = ..., pre_fire_hook: Hook = ...,
        fail_fast: bool | None = ..., **config: Any,
    ) -> Unknown_co: ...
    @overload
    def __call__(
        self, topic: str | None = ..., msg: Any = ..., modname: str | None = ..., recipients: Named = ...,
        ack_timeout: float | None = ..., pre_fire_hook: Hook = ...,
        fail_fast: bool | None = ..., **config: Any,
    ) -> Confirmed_co: ...
