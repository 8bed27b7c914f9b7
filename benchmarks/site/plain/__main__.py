"""Open the page of each input line once, as the named user, and print the seconds that it took."""

import sys
from functools import partial

import django
from django.test import Client

from benchmarks.measure import seconds_of


def main(username: str) -> None:
    django.setup()
    from django.contrib.auth.models import User

    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.get(username=username))
    print("ready", flush=True)
    for line in sys.stdin:
        print(seconds_of(partial(_open, client, line.strip())), flush=True)


def _open(client: Client, page: str) -> None:
    status = client.get(page).status_code
    if status != 200:
        raise RuntimeError(f"{page} answered {status}")


if __name__ == "__main__":
    main(*sys.argv[1:])
