"""Open the page of each input line once, as the user of the session, and print the seconds that it took."""

import sys
from functools import partial

import django
from django.conf import settings
from django.test import Client

from benchmarks.measure import seconds_of


def main(session_key: str) -> None:
    django.setup()
    client = Client(headers={"host": "localhost"})
    client.cookies[settings.SESSION_COOKIE_NAME] = session_key
    print("ready", flush=True)
    for line in sys.stdin:
        print(seconds_of(partial(_open, client, line.strip())), flush=True)


def _open(client: Client, page: str) -> None:
    status = client.get(page).status_code
    if status != 200:
        raise RuntimeError(f"{page} answered {status}")


if __name__ == "__main__":
    main(*sys.argv[1:])
