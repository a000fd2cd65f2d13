"""Keeps in memory what the S3 SDK computes anew for every client. A service makes one client, the tests make thousands."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

import botocore.compat
import botocore.hooks
import botocore.loaders
import botocore.session


def keep_sdk_descriptions() -> None:
    """From now on, clients of this process share the service description, which is megabytes of JSON, and the signatures of the SDK's handlers,
    whose inspection takes a third of the making of a client."""
    botocore.session.create_loader = cache(botocore.loaders.create_loader)
    inspect_handler = botocore.compat.accepts_kwargs
    inspect_function = cache(inspect_handler)

    def accepts_kwargs(handler: Callable[..., Any]) -> Any:
        """Of a method, the function is inspected: a cache of methods would keep their objects, and one of closures what they hold."""
        function = getattr(handler, "__func__", handler)
        if isinstance(function, FunctionType) and function.__closure__ is None:
            return inspect_function(function)
        return inspect_handler(handler)

    botocore.hooks.accepts_kwargs = accepts_kwargs
