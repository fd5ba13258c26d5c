#!/usr/bin/env python3
"""How the scripts go about it that pinemu replaces: a random row of each table by its position, the values made to JSON by
Python, one request a row, one after the other. With --keep over connections that are kept, to the database and to the
proxy; else each query and each request makes its own. Their pause of up to two seconds after each post is left out.

    original.py DATABASE_URL INVOKE_URL --seconds 10 --rows 11154 [--keep]

Prints how many posts it has sent and in how many seconds, as JSON.
"""

import argparse
import json
import random
import time

import requests
import sqlalchemy

TABLES = {"pin": "pinterest_data", "geo": "geolocation_data", "user": "user_data"}
HEADERS = {"Content-Type": "application/vnd.kafka.json.v2+json", "Accept": "application/vnd.kafka.v2+json"}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("database_url")
    arguments.add_argument("invoke_url")
    arguments.add_argument("--seconds", type=float, default=10)
    arguments.add_argument("--rows", type=int, default=11_154, help="positions are drawn below this")
    arguments.add_argument("--keep", action="store_true")
    args = arguments.parse_args()
    url = args.database_url.replace("mysql://", "mysql+pymysql://", 1) + "?charset=utf8mb4"
    pool = {} if args.keep else {"poolclass": sqlalchemy.pool.NullPool}
    engine = sqlalchemy.create_engine(url, **pool)
    session = requests.Session() if args.keep else requests
    random.seed(100)

    def row(table, position):
        with engine.connect() as connection:
            query = sqlalchemy.text(f"SELECT * FROM {table} LIMIT {position}, 1")
            return dict(connection.execute(query).mappings().one())

    posts, started = 0, time.monotonic()
    while not posts or time.monotonic() - started < args.seconds:
        position = random.randrange(args.rows)
        for kind, table in TABLES.items():
            body = json.dumps({"records": [{"value": row(table, position)}]}, default=str)
            answer = session.post(f"{args.invoke_url}/topics/bench.{kind}", data=body, headers=HEADERS)
            answer.raise_for_status()
        posts += 1
    print(json.dumps({"posts": posts, "seconds": time.monotonic() - started}))


if __name__ == "__main__":
    main()
