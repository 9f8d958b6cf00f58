"""The gateway's interface as an OpenAPI document, and as a page that needs nothing from outside.

What belongs here: the description. What does not: behaviour; a test sends what this describes and accepts no other
status.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from recoflow import schema
from recoflow.erasure import erasure_requests
from recoflow.formats import froomle
from recoflow.settings.list_configuration import Configuration

_TEXT: Final = {"type": ["string", "null"]}
_NUMBER: Final = {"type": ["number", "string", "null"]}
_PROBLEMS: Final[Mapping[int, str]] = {
    400: "Refused as a whole: the message names each event's index, field and reason",
    401: "No bearer token, or an unknown one",
    403: "Not allowed with this token, or without one; the message says why",
    404: "There is no such environment",
    408: "The body took too long to arrive",
    413: "More than the environment takes in one request",
    415: "Not JSON, or without a Content-Type that says so",
    421: "Sent to a Host that is not a name of the gateway's machine",
    429: "Too much is pending; try again after the seconds in Retry-After",
    503: "Stopping, or the disk refuses; nothing was taken, try again after Retry-After",
}
_VERSION: Final = {
    "name": "version",
    "in": "query",
    "description": "the n-th put; absent: what stands now",
    "schema": {"type": "integer", "minimum": 1},
}
_CONFIGURED: Final[Mapping[int, str]] = {
    200: "As it stands",
    201: "Registered: it is on disk, and requests that come in from now on may name it",
    204: "Out of use for requests that come in from now on",
    400: "Refused: the message names key, reason and cure",
    404: "There is no such environment, configuration or version",
    409: "The id stands in the environment's YAML, which the API does not change",
}
_TOKEN: Final[Sequence[Mapping[str, Sequence[str]]]] = [{"token": []}]
_EXAMPLE: Final = {
    "events": [
        {
            "event_type": "detail_pageview",
            "user_id": "u1",
            "page_type": "article_detail",
            "action_item": "a1",
            "action_item_type": "article",
        }
    ]
}


def document(environments: Sequence[str]) -> dict[str, Any]:
    """OpenAPI 3.1 of a gateway that serves these environments."""
    environment = {
        "name": "environment",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "examples": list(environments)},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "recoflow gateway",
            "version": "1",
            "description": "Events and items in. 200 means: on disk. Sending twice is harmless where events carry an "
            "event_id or a timestamp. Environments that name a token answer with it only. Others take events and items "
            "from programs of the gateway's own machine without one, and everything else with the token that the "
            "gateway wrote to tokens/ENVIRONMENT in its data folder. A head may have 64 kB, 100 headers and a URL of "
            "8 kB, and arrives within 10 seconds: 431, 414 or 408 otherwise, whichever the path is.",
        },
        "paths": {
            "/api/{environment}/events": {
                "parameters": [environment],
                "post": _operation("post_events", "Froomle events, all or nothing", _ref("Events")),
            },
            "/api/{environment}/metarank": {
                "parameters": [environment],
                "post": _operation("post_metarank", "Metarank events: one, a list, or one per line", _ref("Metarank")),
            },
            "/api/{environment}/pubsub": {
                "parameters": [environment],
                "post": _operation("post_pubsub", "A message that Google Pub/Sub pushes", _ref("Push")),
            },
            "/api/{environment}/items/{item_type}/{item_id}": {
                "parameters": [environment, _path("item_type"), _path("item_id")],
                "put": _operation("put_item", "Say what an item is; absent attributes stay", _ref("Item")),
                "delete": _operation("delete_item", "Never recommend this item again; it still trains the model", None),
            },
            "/api/{environment}/forget": {
                "parameters": [environment],
                "post": _operation(
                    "post_forget",
                    "Forget a person everywhere, by user_id, device_id or both",
                    _ref("Person"),
                    done=(202, "Request"),
                )
                | {"security": _TOKEN},
            },
            "/api/{environment}/forget/{request_id}": {
                "parameters": [environment, _path("request_id")],
                "get": _forgotten(),
            },
            "/api/configurations": {
                "get": _configuration("get_configurations", "All that the token opens", {200: "Configurations"})
            },
            "/api/{environment}/configurations/{configuration_id}": {
                "parameters": [environment, _path("configuration_id")],
                "get": _configuration("get_configuration", "A configuration", {200: "Registered"}, version=True),
                "put": _configuration(
                    "put_configuration", "Register it", {200: "Registered", 201: "Registered"}, is_put=True
                ),
                "delete": _configuration("delete_configuration", "Out of use; its versions stay", {204: "Problem"}),
            },
            "/health": {"get": _look("get_health", "The process answers", 200)},
            "/ready": {"get": _look("get_ready", "Events can be taken: disk writable, space left", 200, 503)},
            "/metrics": {"get": _look("get_metrics", "Counters in Prometheus's text format", 200, media="text/plain")},
            "/openapi.json": {"get": _look("get_openapi", "This document", 200)},
            "/docs": {"get": _look("get_docs", "This document for people", 200, media="text/html")},
        },
        "components": {
            "schemas": {
                "Event": _event(),
                "Events": {
                    "type": "object",
                    "required": ["events"],
                    "properties": {"events": {"type": "array", "items": _ref("Event")}},
                    "example": _EXAMPLE,
                },
                "Metarank": {"type": ["object", "array"], "items": {"type": "object"}},
                "Push": _push(),
                "Item": {
                    "type": "object",
                    "properties": {"title": _TEXT, "url": _TEXT, "timestamp": {"type": ["integer", "string", "null"]}},
                },
                **_forgetting(),
                "Accepted": {
                    "type": "object",
                    "required": ["accepted"],
                    "properties": {"accepted": {"type": "integer", "minimum": 0}},
                },
                "Problem": _problem(),
                **_configurations(),
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def page(environments: Sequence[str]) -> str:
    """The document as HTML without scripts."""
    described = document(environments)
    parts = [f"<h1>{described['info']['title']}</h1><p>{described['info']['description']}</p>"]
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            if method != "parameters":
                parts.append(_section(path, method, operation))
    schemas = json.dumps(described["components"]["schemas"], indent=2)
    parts.append(f'<h2>Schemas</h2><pre>{html.escape(schemas)}</pre><p><a href="openapi.json">openapi.json</a></p>')
    return _PAGE.format(body="\n".join(parts))


def _section(path: str, method: str, operation: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{status}</td><td>{html.escape(answer['description'])}</td></tr>"
        for status, answer in operation["responses"].items()
    )
    title = f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>"
    return f"{title}<p>{html.escape(operation['summary'])}</p><table>{rows}</table>"


def _operation(
    name: str, summary: str, body: Mapping[str, Any] | None, *, done: tuple[int, str] = (200, "Accepted")
) -> dict[str, Any]:
    """A change: `done` is the status of success and the schema of its answer."""
    success, form = done
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "security": [{}, {"token": []}],
        "responses": {
            str(success): _answer("Taken: what was sent is on disk", _ref(form)),
            **{str(status): _answer(meaning, _ref("Problem")) for status, meaning in _PROBLEMS.items()},
        },
    }
    for status in ("429", "503"):
        operation["responses"][status]["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation


def _forgotten() -> dict[str, Any]:
    answers = {str(status): _answer(_PROBLEMS[status], _ref("Problem")) for status in (401, 403, 404, 503)}
    return {
        "operationId": "get_forgotten",
        "summary": "What became of a request to forget a person",
        "security": _TOKEN,
        "responses": {
            "200": _answer("Its state, and the report when it was carried out", _ref("Forgetting")),
            **answers,
        },
    }


def _configuration(
    name: str, summary: str, done: Mapping[int, str], *, is_put: bool = False, version: bool = False
) -> dict[str, Any]:
    """An operation of the configurations API; `done` has the statuses of success and the schemas of their answers."""
    operation = _operation(name, summary, _ref("Configuration") if is_put else None)
    problems = operation["responses"]
    del problems["200"]
    left_out = {"421"} if is_put else {"408", "413", "415", "421", "429"}
    answers = {str(status): _answer(_CONFIGURED[status], _ref(form)) for status, form in done.items()}
    if 204 in done:
        del answers["204"]["content"]
    told = {str(status): _answer(_CONFIGURED[status], _ref("Problem")) for status in (400, 404, 409)}
    kept = {status: answer for status, answer in problems.items() if status not in left_out}
    parameters = [_VERSION] if version else []
    return operation | {"responses": answers | kept | told, "parameters": parameters, "security": _TOKEN}


def _configurations() -> dict[str, Any]:
    """Schemas of the configurations API; a configuration's is the one that judges the YAML."""
    configuration = Configuration.model_json_schema(ref_template="#/components/schemas/{model}")
    parts = configuration.pop("$defs", {})
    registered = {
        "type": "object",
        "required": ["environment", "configuration_id", "origin", "version", "registered_at", "configuration"],
        "properties": {
            "environment": {"type": "string"},
            "configuration_id": {"type": "string"},
            "origin": {"type": "string", "enum": ["yaml", "api"]},
            "version": {"type": ["integer", "null"], "minimum": 1, "description": "the n-th put; null in the YAML"},
            "registered_at": {"type": ["string", "null"], "format": "date-time"},
            "configuration": {"type": "object"},
        },
    }
    every = {
        "type": "object",
        "required": ["configurations"],
        "properties": {"configurations": {"type": "array", "items": _ref("Registered")}},
    }
    return {**parts, "Configuration": configuration, "Registered": registered, "Configurations": every}


def _look(name: str, summary: str, *statuses: int, media: str = "application/json") -> dict[str, Any]:
    form = {"type": "object"} if media == "application/json" else {"type": "string"}
    answers = {str(status): _answer("Yes" if status == 200 else "No", form, media) for status in statuses}
    return {"operationId": name, "summary": summary, "responses": answers}


def _answer(meaning: str, form: Mapping[str, Any], media: str = "application/json") -> dict[str, Any]:
    return {"description": meaning, "content": {media: {"schema": form}}}


def _path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _event() -> dict[str, Any]:
    names = [name for column in froomle.TEXTS for name in froomle.ALIASES.get(column, (column,))]
    return {
        "type": "object",
        "required": ["event_type"],
        "description": "user_id or device_id is needed; other needs depend on the event_type; any other field is kept.",
        "properties": {
            **dict.fromkeys([*names, "event_id"], _TEXT),
            **dict.fromkeys(froomle.NUMBERS, _NUMBER),
            "rank": {"type": ["integer", "string", "null"]},
            "timestamp": {
                "type": ["integer", "string", "null"],
                "description": "epoch seconds or milliseconds, or ISO 8601 with a zone; absent: time of receipt",
            },
            "event_type": {"type": "string", "enum": list(schema.EVENT_TYPES)},
        },
    }


def _forgetting() -> dict[str, Any]:
    ids = {"user_id": {"type": "string", "minLength": 1}, "device_id": {"type": "string", "minLength": 1}}
    request_id = {"type": "string"}
    report = {
        "type": "object",
        "description": "How much was removed from where, and files that still mention the person",
    }
    return {
        "Person": {
            "type": "object",
            "minProperties": 1,
            "properties": ids,
            "additionalProperties": False,
            "description": "Devices on which only that user was seen are forgotten with the user.",
        },
        "Request": {"type": "object", "required": ["request_id"], "properties": {"request_id": request_id}},
        "Forgetting": {
            "type": "object",
            "required": ["request_id", "state"],
            "properties": {
                "request_id": request_id,
                "state": {"enum": list(erasure_requests.STATES)},
                "report": report,
                "problem": {"type": "string"},
            },
        },
    }


def _push() -> dict[str, Any]:
    message = {
        "type": "object",
        "properties": {
            "data": {"type": "string", "contentEncoding": "base64"},
            "publishTime": {"type": "string"},
            "messageId": {"type": "string"},
            "attributes": {"type": "object"},
        },
    }
    return {
        "type": "object",
        "required": ["message"],
        "properties": {"message": message, "subscription": {"type": "string"}},
    }


def _problem() -> dict[str, Any]:
    flaw = {
        "type": "object",
        "required": ["index", "field", "code", "message"],
        "properties": {"index": {"type": "integer"}, "field": _TEXT, "code": {"type": "string"}, "message": _TEXT},
    }
    return {
        "type": "object",
        "required": ["message"],
        "properties": {"message": {"type": "string"}, "errors": {"type": "array", "items": flaw}},
    }


_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>recoflow gateway</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
h2 {{ margin-top: 2rem }} td {{ padding: .1rem 1rem .1rem 0; vertical-align: top }}
pre {{ background: #f4f4f4; padding: 1rem; overflow-x: auto }}
</style></head><body>
{body}
</body></html>
"""
