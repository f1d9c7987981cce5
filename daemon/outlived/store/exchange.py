"""Several statements in one round trip, without cursors: the journal's way to Postgres.

A psycopg cursor costs some 50 us per statement: it looks at its types, adapts every parameter, describes every
column. A batch knows all that beforehand. Here a statement is read once from its SQL file, and each parameter's
cast says how its value is sent; results are text, row by row. libpq's pipeline mode does the rest.

1. A parameter is written ``%(name)s::type``; ``_ENCODERS`` lists the types. Lists of text go in binary: as text
   every backslash and quote would be escaped, one by one.
2. On a direct connection a statement with parameters is prepared at its first use, under the name of its file and
   its own; behind a transaction pooler it is sent whole each time (``TrioConnection.direct`` knows which).
3. An error raises what psycopg would raise; ``answers`` then holds those of the statements before it. Whoever
   holds the connection closes it (``Link.use``).

Not here: waiting on Trio, deadlines, what an error means to the daemon (``postgres.py``); the SQL (``sql/``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
from psycopg import errors, pq
from psycopg.abc import PQGen
from psycopg.waiting import Ready, Wait

from outlived.store.queries import load_queries

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

    from outlived.store.postgres import TrioConnection

Answer: TypeAlias = list[tuple[str | None, ...]]
"""The rows of one statement; every value as text."""

_PARAMETER = re.compile(r"%\((?P<name>\w+)\)s::(?P<type>(?:double precision|[a-z]+)(?:\[\])?)")
_TEXT, _BINARY = pq.Format.TEXT, pq.Format.BINARY
_NULL_ELEMENT = b"\xff\xff\xff\xff"
_TEXT_OID = (25).to_bytes(4, "big")


def _encode_scalar(value: Any) -> bytes:
    return str(value).encode()


def _encode_boolean(value: Any) -> bytes:
    return b"t" if value else b"f"


def _encode_numbers(values: Sequence[int | None]) -> bytes:
    return "{{{}}}".format(str(list(values))[1:-1].replace("None", "NULL")).encode()


def _encode_booleans(values: Sequence[bool]) -> bytes:
    return f"{{{str(list(values))[1:-1]}}}".encode()


def _encode_plain(values: Sequence[str | None]) -> bytes:
    """Values that hold nothing an array would have to quote: ids and times of our own making."""
    if None in values:
        values = ["NULL" if value is None else value for value in values]
    return "{{{}}}".format(",".join(values)).encode()  # type: ignore[arg-type]


def _encode_texts(values: Sequence[str | None]) -> bytes:
    """An array of text in Postgres's binary form: dimensions, null flag, element type, length, lower bound."""
    pieces = [b""]
    missing = 0
    for value in values:
        if value is None:
            pieces.append(_NULL_ELEMENT)
            missing = 1
        else:
            raw = value.encode()
            pieces += (len(raw).to_bytes(4, "big"), raw)
    dimensions, count = (1, len(values).to_bytes(4, "big") + b"\0\0\0\1") if values else (0, b"")
    pieces[0] = dimensions.to_bytes(4, "big") + missing.to_bytes(4, "big") + _TEXT_OID + count
    return b"".join(pieces)


_ENCODERS: Mapping[str, tuple[Callable[[Any], bytes], pq.Format]] = {
    "uuid": (_encode_scalar, _TEXT),
    "text": (_encode_scalar, _TEXT),
    "bigint": (_encode_scalar, _TEXT),
    "double precision": (_encode_scalar, _TEXT),
    "timestamptz": (_encode_scalar, _TEXT),
    "boolean": (_encode_boolean, _TEXT),
    "uuid[]": (_encode_plain, _TEXT),
    "timestamptz[]": (_encode_plain, _TEXT),
    "int[]": (_encode_numbers, _TEXT),
    "bigint[]": (_encode_numbers, _TEXT),
    "boolean[]": (_encode_booleans, _TEXT),
    "text[]": (_encode_texts, _BINARY),
}


@attrs.frozen(eq=False)
class Statement:
    """A named statement with its parameters numbered. ``key`` names it on a connection that prepares."""

    key: bytes
    sql: bytes
    names: tuple[str, ...]
    encoders: tuple[Callable[[Any], bytes], ...]
    formats: tuple[pq.Format, ...]

    def encode(self, values: Mapping[str, Any]) -> list[bytes | None]:
        """The parameters as they are sent. A text that is not valid Unicode raises UnicodeError."""
        return [
            None if (value := values[name]) is None else encode(value)
            for name, encode in zip(self.names, self.encoders, strict=True)
        ]


def load_statements(file: str) -> dict[str, Statement]:
    """The statements of one SQL file, by name."""
    room = file.removesuffix(".sql")
    return {name: read_statement(f"{room}.{name}", sql) for name, sql in load_queries(file).items()}


def read_statement(key: str, sql: str) -> Statement:
    """A statement whose parameters are written ``%(name)s::type``; the same name is the same parameter."""
    types: dict[str, str] = {}

    def number(found: re.Match[str]) -> str:
        name, type_ = found["name"], found["type"]
        assert types.setdefault(name, type_) == type_, f"{key}: {name} is cast in two ways"
        return f"${list(types).index(name) + 1}::{type_}"

    numbered = _PARAMETER.sub(number, sql)
    assert "%(" not in numbered, f"{key}: a parameter has no cast"
    encoders, formats = (
        zip(*(_ENCODERS[type_] for type_ in types.values()), strict=True) if types else ((), ())
    )
    return Statement(key.encode(), numbered.rstrip(";").encode(), tuple(types), encoders, formats)


async def exchange(
    connection: TrioConnection,
    asked: Iterable[tuple[Statement, Mapping[str, Any]]],
    answers: list[Answer] | None = None,
) -> list[Answer]:
    """Send all, then read all: one round trip. Without a BEGIN among them they are one transaction.

    Returns one answer per statement, and puts them into ``answers`` as they come. Raises psycopg.Error.
    """
    answers = [] if answers is None else answers
    pgconn = connection.pgconn
    encoded = [(statement, statement.encode(values)) for statement, values in asked]
    pgconn.enter_pipeline_mode()
    wanted = [_send(connection, statement, params) for statement, params in encoded]
    pgconn.pipeline_sync()
    await connection.wait(_drive(pgconn, wanted, answers))
    pgconn.exit_pipeline_mode()
    return answers


def _send(connection: TrioConnection, statement: Statement, params: list[bytes | None]) -> int:
    """Hand one statement to libpq, which keeps what the socket does not take; how many results it will have."""
    pgconn = connection.pgconn
    if not connection.direct or not params:  # BEGIN and COMMIT have nothing to prepare
        pgconn.send_query_params(statement.sql, params, param_formats=statement.formats)
        return 1
    results = 1
    if statement.key not in connection.prepared:
        connection.prepared.add(statement.key)
        pgconn.send_prepare(statement.key, statement.sql)
        results = 2
    pgconn.send_query_prepared(statement.key, params, param_formats=statement.formats)
    return results


def _drive(pgconn: PGconn, wanted: Sequence[int], answers: list[Answer]) -> PQGen[None]:
    """Flush, then read to the end of the pipeline, which has one more result: the commit's, if there is one."""
    while pgconn.flush():
        ready = yield Wait.RW
        if ready & Ready.R:
            pgconn.consume_input()
    failed: PGresult | None = None
    for results in wanted:
        for _ in range(results):
            result = yield from _read(pgconn)
            if result.status == pq.ExecStatus.FATAL_ERROR and failed is None:
                failed = result
        if failed is None:
            answers.append(_read_rows(result))
    ended = yield from _read(pgconn)
    if ended.status != pq.ExecStatus.PIPELINE_SYNC and failed is None:
        failed = ended
    if failed is not None:
        raise errors.error_from_result(failed, encoding="utf-8")


def _read(pgconn: PGconn) -> PQGen[PGresult]:
    """The next result; between the results of two statements libpq says None."""
    while True:
        while pgconn.is_busy():
            yield Wait.R
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is not None:
            return result


def _read_rows(result: PGresult) -> Answer:
    columns = range(result.nfields)
    return [
        tuple(
            None if (value := result.get_value(row, column)) is None else value.decode() for column in columns
        )
        for row in range(result.ntuples)
    ]
