"""What routes depend on: the service that is in use."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from bird_server.service import Service, current


async def service_in_use() -> Service:
    """`async` on purpose: FastAPI would hand a plain function to a worker thread."""
    return current()


ServiceInUse = Annotated[Service, Depends(service_in_use)]
