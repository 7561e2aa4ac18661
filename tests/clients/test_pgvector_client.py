"""The Python packages pgvector and psycopg, unchanged, against the types of pg_answer.

Reads PGHOST, PGPORT, PGUSER and PGDATABASE; the database has the extension. Every failure is an AssertionError.
"""

import numpy as np
import psycopg
from pgvector import HalfVector, Vector
from pgvector.psycopg import register_vector
from psycopg.types import TypeInfo

SINGLE = np.array([1.5, -2.0, 3.25e-3], dtype=np.float32)
HALF = np.array([1.5, -2.0, 65504.0], dtype=np.float16)


def round_trip(connection: psycopg.Connection) -> None:
    """Parameters and results, as text and as binary."""
    for binary in (False, True):
        with connection.cursor(binary=binary) as cursor:
            for placeholder in ("%s", "%b", "%t"):
                row = cursor.execute(f"SELECT {placeholder}::vector, {placeholder}::halfvec", (Vector(SINGLE), HalfVector(HALF))).fetchone()
                got = row[0] if isinstance(row[0], np.ndarray) else row[0].to_numpy()
                assert got.dtype == np.float32 and np.array_equal(got, SINGLE), (binary, placeholder, row)
                assert isinstance(row[1], HalfVector) and np.array_equal(row[1].to_numpy(), HALF), (binary, placeholder, row)
            row = cursor.execute("SELECT %s::vector, NULL::vector", (SINGLE,)).fetchone()
            got = row[0] if isinstance(row[0], np.ndarray) else row[0].to_numpy()
            assert np.array_equal(got, SINGLE) and row[1] is None
            rows = cursor.execute("SELECT ARRAY[%s::vector, %s::vector]", (Vector([1, 2]), Vector([3, 4]))).fetchone()[0]
            assert [list(np.asarray(v if isinstance(v, np.ndarray) else v.to_list())) for v in rows] == [[1, 2], [3, 4]], rows


def operators(connection: psycopg.Connection) -> None:
    """Distances of parameters, and nearest neighbours."""
    connection.execute("CREATE TEMP TABLE items (id int, v vector(3), h halfvec(3))")
    for i in range(10):
        point = np.array([i, 0, 1], dtype=np.float32)
        connection.execute("INSERT INTO items VALUES (%s, %s, %s)", (i, Vector(point), HalfVector(point)))
    query = np.array([6.2, 0, 1], dtype=np.float32)
    nearest = connection.execute("SELECT id FROM items ORDER BY v <-> %s LIMIT 3", (Vector(query),)).fetchall()
    assert [row[0] for row in nearest] == [6, 7, 5], nearest
    nearest = connection.execute("SELECT id FROM items ORDER BY h <-> %s LIMIT 3", (HalfVector(query),)).fetchall()
    assert [row[0] for row in nearest] == [6, 7, 5], nearest


def copy_binary(connection: psycopg.Connection) -> None:
    """COPY BINARY in and out."""
    connection.execute("CREATE TEMP TABLE bulk (id int, v vector, h halfvec)")
    vectors = np.random.default_rng(1).standard_normal((1000, 384), dtype=np.float32)
    with connection.cursor().copy("COPY bulk FROM STDIN WITH (FORMAT BINARY)") as copy:
        copy.set_types(["int4", "vector", "halfvec"])
        for i, vector in enumerate(vectors):
            copy.write_row((i, Vector(vector), HalfVector(vector)))
    with connection.cursor().copy("COPY (SELECT * FROM bulk ORDER BY id) TO STDOUT WITH (FORMAT BINARY)") as copy:
        copy.set_types(["int4", "vector", "halfvec"])
        rows = list(copy.rows())
    assert len(rows) == len(vectors)
    for (i, single, half), vector in zip(rows, vectors):
        single = single if isinstance(single, np.ndarray) else single.to_numpy()
        assert np.array_equal(single, vector), i
        assert np.array_equal(half.to_numpy(), vector.astype(np.float16)), i


def main() -> None:
    with psycopg.connect() as connection:
        register_vector(connection)
        assert TypeInfo.fetch(connection, "vector") is not None
        round_trip(connection)
        operators(connection)
        copy_binary(connection)
    print("pgvector client: ok")


if __name__ == "__main__":
    main()
