"""The HTTP side of the gateway: paths, and what each request does.

What belongs elsewhere: who may send (`access`), errors as answers (`error_responses`), judging bodies (`bodies`,
`pubsub`), memory and disk (`admission`), connections (`protocol`) and the process (`server`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

from starlette.applications import Starlette
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from recoflow.erasure import erasure_requests
from recoflow.errors import StorageError
from recoflow.gateway import access, bodies, configurations, erasure, error_responses, openapi, pubsub, request_limits
from recoflow.gateway.access import RequestRight
from recoflow.gateway.admission import AdmissionControl
from recoflow.gateway.bodies import Accepted, RefusedBodyError
from recoflow.gateway.error_responses import AGAIN, GONE, Counted, json_answer
from recoflow.gateway.metrics import CONTENT_TYPE, Metrics
from recoflow.gateway.tokens import TokenAccess, Tokens
from recoflow.settings.environment import Environment
from recoflow.storage.lake.lake import Lake
from recoflow.storage.paths import Paths

TEND_SECONDS: Final = 0.5
JUDGES: Final = 4

T = TypeVar("T")
U = TypeVar("U")
Parse = Callable[[bytes, Environment, datetime], T]

_log = logging.getLogger("recoflow.gateway")


class _Text(PathConvertor):
    """The rest of a path, line ends included, at which Starlette's `path` stops."""

    regex = r"(?s:.*)"


class GatewayApp:
    """All environments behind one door.

    Args:
        environments: those that are served.
        layout: the data folder.
        tokens: who may send.
        clock: time in UTC.
    """

    def __init__(
        self, environments: Sequence[Environment], layout: Paths, tokens: Tokens, clock: Callable[[], datetime]
    ) -> None:
        self.is_stopping = False  # true: nothing new is taken
        self._metrics = Metrics()
        self._tokens = tokens
        self._layout = layout
        self._intakes = {
            each.name: AdmissionControl(each, layout.spool(each.name), clock, self._metrics) for each in environments
        }
        # Beside the event loop, so that health answers meanwhile; several, so that short bodies pass a long one.
        self._judge = ThreadPoolExecutor(JUDGES, thread_name_prefix="judge")
        self.app = self._build()

    def _build(self) -> ASGIApp:
        register_url_convertor("text", _Text())
        routes = [
            Route("/api/{environment}/events", self.post_events, methods=["POST"]),
            Route("/api/{environment}/metarank", self.post_metarank, methods=["POST"]),
            Route("/api/{environment}/pubsub", self.post_pubsub, methods=["POST"]),
            Route("/api/{environment}/items/{item_type}/{item_id:text}", self.change_item, methods=["PUT", "DELETE"]),
            Route("/api/{environment}/forget", self.post_forget, methods=["POST"]),
            Route("/api/{environment}/forget/{request_id}", self.get_forgotten),
            Route("/api/configurations", self.get_configurations),
            Route(
                "/api/{environment}/configurations/{configuration_id:text}",
                self.handle_configuration,
                methods=["GET", "PUT", "DELETE"],
            ),
            Route("/health", self.get_health),
            Route("/ready", self.get_ready),
            Route("/metrics", self.get_metrics),
            Route("/openapi.json", self.get_openapi),
            Route("/docs", self.get_docs),
        ]
        app = Starlette(routes=routes, exception_handlers=error_responses.HANDLERS, lifespan=self._lifespan)
        return Counted(app, self._metrics)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        for intake in self._intakes.values():
            await intake.tend()
        tending = asyncio.create_task(self._tend())
        try:
            yield
        finally:
            tending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await tending
            for intake in self._intakes.values():
                await intake.close()
            self._judge.shutdown()

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(TEND_SECONDS)
            for name, intake in self._intakes.items():
                try:
                    await intake.tend()
                except (OSError, StorageError) as error:
                    _log.warning("%s: the spool cannot be looked at: %s", name, error)

    async def post_events(self, request: Request) -> Response:
        """Froomle events."""
        return await self._take(request, "events", bodies.events)

    async def post_metarank(self, request: Request) -> Response:
        """Metarank events."""
        return await self._take(request, "metarank", bodies.metarank_events)

    async def post_pubsub(self, request: Request) -> Response:
        """A message that Pub/Sub pushes."""
        token = request_limits.pushed_token(request)
        return await self._take(request, "events", lambda body, _, moment: pubsub.pushed(body, moment), token)

    async def change_item(self, request: Request) -> Response:
        """PUT or DELETE of one item."""
        item_type, item_id = request.path_params["item_type"], request.path_params["item_id"]

        def parse(body: bytes, environment: Environment, received_at: datetime) -> Accepted:
            content = None if request.method == "DELETE" else body
            return bodies.item(content, item_type, item_id, environment, received_at)

        return await self._take(request, "items", parse)

    async def post_forget(self, request: Request) -> Response:
        """A person is to be forgotten, with all events that were acknowledged until now."""
        intake = self._intake(request, RequestRight.MANAGE)

        async def keep(asked: erasure.NamedSubject) -> str:
            await intake.seal()
            return await asyncio.to_thread(asked.file, self._layout)

        return json_answer(202, {"request_id": await self._read(request, intake, erasure.asked, keep)})

    async def get_forgotten(self, request: Request) -> Response:
        """What became of a request to forget a person."""
        name, case = self._intake(request, RequestRight.MANAGE).environment.name, request.path_params["request_id"]
        found = await asyncio.to_thread(erasure_requests.look_up, self._layout, name, case)
        if found is None:
            raise HTTPException(404, f"{name} knows no request of this id")
        return json_answer(200, {"request_id": case, **found})

    async def get_configurations(self, request: Request) -> Response:
        """The configurations of every environment that the token opens."""
        self._check_running()
        token = request_limits.bearer_token(request)
        opened = [name for name in self._intakes if self._tokens.access(name, token) is TokenAccess.GRANTED]
        if not opened:
            raise HTTPException(401, "A bearer token is needed", {"WWW-Authenticate": "Bearer"})
        found: list[configurations.Shown] = []
        for name in opened:
            found += await asyncio.to_thread(configurations.standing, *self._configured(name))
        return json_answer(200, {"configurations": found})

    async def handle_configuration(self, request: Request) -> Response:
        """GET, PUT or DELETE of one configuration."""
        intake, configuration_id = self._intake(request, RequestRight.MANAGE), request.path_params["configuration_id"]
        about = *self._configured(intake.environment.name), configuration_id
        if request.method == "PUT":

            async def keep(body: configurations.Body) -> tuple[configurations.Shown, bool]:
                return await asyncio.to_thread(configurations.put, *about, body, intake.clock())

            judge = partial(configurations.judged, configuration_id)
            shown, is_new = await self._read(request, intake, judge, keep)
            return json_answer(201 if is_new else 200, shown)
        if request.method == "DELETE":
            await asyncio.to_thread(configurations.delete, *about, intake.clock())
            return Response(status_code=204)
        version = request.query_params.get("version")
        return json_answer(200, await asyncio.to_thread(configurations.get, *about, version))

    async def get_health(self, _request: Request) -> Response:
        """Liveness: the process answers."""
        return json_answer(200, {"status": "ok"})

    async def get_ready(self, _request: Request) -> Response:
        """Readiness: not stopping, and every spool has space and can be written."""
        problems = {} if not self.is_stopping else {"gateway": "stopping"}
        for name, intake in self._intakes.items():
            if problem := await intake.problem():
                problems[name] = problem
        return json_answer(
            503 if problems else 200, {"status": "not ready" if problems else "ready", "problems": problems}
        )

    async def get_metrics(self, _request: Request) -> Response:
        """Counters for Prometheus."""
        return Response(self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def get_openapi(self, _request: Request) -> Response:
        """This interface as an OpenAPI document."""
        return json_answer(200, openapi.document(list(self._intakes)))

    async def get_docs(self, _request: Request) -> Response:
        """The same for people."""
        return HTMLResponse(openapi.page(list(self._intakes)))

    async def _take(
        self, request: Request, kind: str, parse: Parse[Accepted], pushed_token: str | None = None
    ) -> Response:
        """Events or items: answered with 200 when they are on disk."""
        intake = self._intake(request, RequestRight.SEND, pushed_token)

        async def keep(accepted: Accepted) -> int:
            await intake.keep(kind, accepted)
            return accepted.events

        events = await self._read(request, intake, parse, keep)
        self._metrics.add("recoflow_events_accepted_total", events, environment=intake.environment.name, kind=kind)
        return json_answer(200, {"accepted": events})

    async def _read(
        self, request: Request, intake: AdmissionControl, parse: Parse[T], keep: Callable[[T], Awaitable[U]]
    ) -> U:
        """Admit, read, judge, make durable."""
        name, limits = intake.environment.name, intake.environment.gateway
        request_limits.check_media_type(request)
        length = request_limits.content_length(request)
        if length is not None and length > limits.max_body_bytes:
            raise request_limits.TooLargeError(limits.max_body_bytes)
        with intake.admission(length):
            async with asyncio.timeout(limits.body_seconds):
                body = await request_limits.body(request, limits.max_body_bytes)
            work = partial(parse, body, intake.environment, intake.clock())
            try:
                judged = await asyncio.get_running_loop().run_in_executor(self._judge, work)
            except RefusedBodyError as error:
                for flaw in error.flaws:
                    self._metrics.add("recoflow_events_refused_total", environment=name, code=flaw.code)
                raise
            return await keep(judged)

    def _configured(self, name: str) -> tuple[Environment, Lake]:
        return self._intakes[name].environment, Lake(self._layout.lake(name))

    def _check_running(self) -> None:
        if self.is_stopping:
            raise HTTPException(503, "The gateway is stopping; try again", AGAIN | GONE)

    def _intake(self, request: Request, right: RequestRight, pushed_token: str | None = None) -> AdmissionControl:
        """The environment that a request names, when it may do there what it wants."""
        self._check_running()
        name = request.path_params["environment"]
        if name not in self._intakes:
            raise HTTPException(404, f"There is no environment '{name}'")
        intake = self._intakes[name]
        token = pushed_token or request_limits.bearer_token(request)
        access.check_access(request, intake.environment, self._tokens, right, token)
        return intake
