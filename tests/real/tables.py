"""Seed databases: pinemu's own, and one whose columns are of every awkward type."""

from support import TABLES, Home, rows

# The value of each column in the posts 1, 2 and 3. In post 3 all that may be is NULL.
AWKWARD = [
    ("DECIMAL(38,20)", "-123456789012345678.12345678901234567890", "0.10000000000000000000"),
    ("DECIMAL(7,2) UNSIGNED ZEROFILL", "42.50", "0.00"),
    ("FLOAT", "-89.9787", "1e-20"),
    ("FLOAT UNSIGNED", "3.402823e38", "0.1"),
    ("DOUBLE", "-0.1", "1.7976931348623157e308"),
    ("DOUBLE", "2.2250738585072014e-308", "12345678.9"),
    ("TINYINT(1)", "1", "-128"),
    ("BOOL", "TRUE", "FALSE"),
    ("TINYINT UNSIGNED", "255", "0"),
    ("SMALLINT(5) UNSIGNED ZEROFILL", "7", "65535"),
    ("MEDIUMINT", "-8388608", "8388607"),
    ("BIGINT", "-9223372036854775808", "9223372036854775807"),
    ("BIGINT UNSIGNED", "18446744073709551615", "9007199254740993"),
    ("BIT(1)", "b'1'", "b'0'"),
    ("BIT(64)", "0xFFFFFFFFFFFFFFFF", "b'101'"),
    ("YEAR", "2155", "1901"),
    ("DATE", "'0000-00-00'", "'1000-01-01'"),
    ("DATETIME", "'0000-00-00 00:00:00'", "'9999-12-31 23:59:59'"),
    ("DATETIME(6)", "'2020-08-28 03:52:47.000001'", "'2020-08-28 03:52:47.5'"),
    ("TIMESTAMP NULL", "'2020-08-28 03:52:47'", "'1970-01-01 00:00:01'"),
    ("TIMESTAMP(3) NULL", "'2020-03-29 02:30:00.125'", "'2038-01-19 03:14:07.999'"),
    ("TIME(3)", "'-838:59:59.000'", "'00:00:00.001'"),
    ("CHAR(10)", "'padded  '", "''"),
    ("VARCHAR(200)", "'quote\" back\\\\slash /slash tab\\t newline\\n bell\x07 </script>'", "'\u2028 \\0 nul'"),
    ("VARCHAR(50) CHARACTER SET utf8mb4", "'🙈 👩‍👩‍👧 é e\u0301 \ufeff'", "'日本語'"),
    ("VARCHAR(50) CHARACTER SET latin1", "'Åre, Curaçao, €'", "'ÿ'"),
    ("VARCHAR(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "'binäry'", "'null'"),
    ("TEXT CHARACTER SET ucs2", "'wide ü'", "'{\"a\":1}'"),
    ("ENUM('a','b,c','ü')", "'b,c'", "'ü'"),
    ("SET('x','y','z')", "'x,z'", "''"),
    ("BINARY(4)", "'a'", "x'00ff00ff'"),
    ("VARBINARY(20)", "x'c3'", "''"),
    ("BLOB", "x'00010203fffefd'", "'text'"),
    ("LONGTEXT CHARACTER SET utf8mb4", "REPEAT('ü🙈\"', 5000)", "'x'"),
]
JSON = ("JSON", """'{"b": [1, 2.50, "ü", null], "a": true}'""", "'[]'")


def make_awkward(server, json):
    """A database `awkward` with three posts; `json`: the server has that type."""
    columns = [*AWKWARD, JSON] if json else AWKWARD
    definitions = "".join(f", c{i} {column[0]}" for i, column in enumerate(columns))
    statements = ["CREATE DATABASE awkward CHARACTER SET utf8mb4", "USE awkward", "SET sql_mode = ''", "SET time_zone = '+00:00'"]
    for key, table in zip(("`index`", "ind", "idx"), TABLES.values()):
        statements.append(f"CREATE TABLE {table} ({key} BIGINT PRIMARY KEY{definitions})")
        for post in (1, 2, 3):
            values = ", ".join("NULL" if post == 3 else column[post] for column in columns)
            statements.append(f"INSERT INTO {table} VALUES ({post}, {values})")
    server.execute(*statements)


def make_seed(server, database, posts):
    server.execute(f"CREATE DATABASE {database} CHARACTER SET utf8mb4")
    Home().run("seed", "--database-url", server.url(database), "--posts", posts).expect(0)


def all_rows(server, database):
    return {kind: rows(server, database, table) for kind, table in TABLES.items()}
